"""Partitions that were formatted separately: told by content, wherever in the other image that lies.

Places say nothing about two file systems that were made each on its own, such as those of metal and metal4k. What the
two share are files; content of B that is found anywhere in A counts as copied, and all else has an owner in B.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.disk.extents import Extent, chunks
from rehydrator.disk.gpt import Region
from rehydrator.explain.attribute import Piece
from rehydrator.explain.owners import DiskOwners
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.fat.owner import FatFilesystem
from rehydrator.fs.place import Filesystem
from rehydrator.fs.xfs.c_xfs import XfsDinode
from rehydrator.fs.xfs.owner import XfsFilesystem
from rehydrator.relocation.finder import ContentIndex, find
from rehydrator.relocation.segments import LITERAL, Segment

_STEP = 1 << 18


class Found(msgspec.Struct, frozen=True):
    """A partition of B as content of A: how many bytes are ``copied``, and where on the disk the others lie.

    Blocks of zeros are neither.
    """

    region: Region
    copied: int
    own: list[Extent]


def separately_made(a: DiskOwners, b: DiskOwners) -> list[Region]:
    """Return the partitions of B that did not come about by changing that of A in their place.

    An image without partitions is one: all of it where A has some.
    """
    places = {(region.name, region.extent.offset): region for region in a.partitions}
    found = []
    for region in b.partitions:
        ours = places.get((region.name, region.extent.offset))
        if ours is None or _birth(a.filesystem(ours)) != _birth(b.filesystem(region)):
            found.append(region)
    return found


def _birth(filesystem: Filesystem | None) -> tuple[object, ...]:
    """Return what the program that makes a file system decides for good; empty for one without such marks."""
    match filesystem:
        case Ext4Filesystem(fs=fs):
            block = fs.superblock
            shape = (block.s_log_block_size, block.s_blocks_per_group, block.s_inodes_per_group)
            return "ext4", block.s_mkfs_time, block.s_hash_seed, *shape
        case XfsFilesystem(reader=xfs):
            made = xfs.geometry
            root = XfsDinode.parse(xfs.reader.read(made.inode_byte(made.root_inode), XfsDinode.SIZE))
            return "xfs", made.block_size, made.sector_size, made.ag_blocks, made.log, made.uuid, root.di_crtime
        case FatFilesystem(reader=fat):  # which has its files where they are put first, whoever makes it
            layout = fat.geometry
            return "fat", layout.type, layout.sector_size, layout.cluster_size, layout.data_offset
    return ()


def look_up(a: DiskOwners, b: DiskOwners, regions: list[Region]) -> Iterator[Found]:
    """Look for the content of partitions of B anywhere in A, whose blocks are all indexed for that."""
    if not regions:
        return
    index = ContentIndex()
    index.add(a.disk)
    for region in regions:
        content = b.window(region)
        own = [_on_disk(region, item) for item in find(content, index) if item.reference == LITERAL]
        yield Found(region, content.nonzero().total - sum(item.length for item in own), own)


def _on_disk(region: Region, segment: Segment) -> Extent:
    return Extent(region.extent.offset + segment.offset, segment.length)


def own_pieces(b: DiskOwners, found: Found) -> Iterator[Piece]:
    """Yield what only B has, structure by structure; all bytes of it differ, since A has nothing to compare."""
    for chunk in chunks(found.own, _STEP):
        for owner in b.owners([chunk]):
            told = replace(owner, fields=())
            nobody = replace(told, path="", number=0)
            data = bytes(b.disk.read(*owner.extent))
            yield Piece(nobody, told, told, b"", data, b"\xff" * len(data))
