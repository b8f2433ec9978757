"""The owner map of an erofs file system: the name of every byte that is not compressed."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.codecs.crc32c import crc32c
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.erofs.c_erofs import EXTENSION_SLOT, SUPER_OFFSET, Compat, Incompat, SuperBlock
from rehydrator.fs.erofs.erofs import Erofs, Node
from rehydrator.fs.erofs.superblock import compressions
from rehydrator.fs.place import Filesystem, Health, Kind, Place, cut

_SEED = 0xFFFFFFFF


class _Segment(msgspec.Struct, frozen=True):
    """Bytes ``[start, end)`` that have one owner; ``offset`` is the first one's place in the file."""

    start: int
    end: int
    kind: Kind
    name: str
    path: str = ""
    offset: int = 0
    number: int = 0
    fields: tuple[FieldSpan, ...] = ()


class ErofsFilesystem(Filesystem):
    """Erofs. Raises CorruptError and UnsupportedError on opening; after that damage is only reported.

    What is compressed or in chunks is not read: it has the kind ``Kind.UNREAD``, and no path.
    """

    type = "erofs"

    def __init__(self, source: Source) -> None:
        self.size = source.size
        self.reader = Erofs(source)
        superblock = self.reader.superblock
        elsewhere = superblock.feature_incompat & (Incompat.CHUNKED_FILE | Incompat.DEVICE_TABLE)
        self.complete = not (compressions(superblock) or elsewhere)

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """What lies at each path; nothing where directories are damaged."""
        try:
            return self.reader.nodes
        except CorruptError as error:
            self._problem = error
            return {}

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along inodes and their data."""
        segments, starts = self._map
        for number, extent in cut(ranges, starts, self.size):
            found = segments[number]
            offset = found.offset + extent.offset - found.start if found.path else 0
            yield Place(extent, found.start, found.kind, found.name, found.number, found.path, offset, found.fields)

    def health(self) -> Iterator[Health]:
        """Check the superblock's checksum, the only one that there is, and the directories."""
        superblock = self.reader.superblock
        if superblock.feature_compat & Compat.SB_CHKSUM:
            length = min(max(self.reader.block_size - SUPER_OFFSET, SuperBlock.SIZE), self.size - SUPER_OFFSET)
            data = bytes(self.reader.source.read(SUPER_OFFSET, length))
            data = superblock.replaced(checksum=0).pack() + data[SuperBlock.SIZE :]
            if crc32c(_SEED, data) != superblock.checksum:
                yield Health("superblock", SUPER_OFFSET, "wrong checksum")
        if not self.nodes:
            yield Health("directories", self._problem.offset or 0, self._problem.message)

    # -- the map

    @cached_property
    def _map(self) -> tuple[list[_Segment], list[int]]:
        """Return the segments in order, gaps filled; of those that overlap the first one counts."""
        found: list[_Segment] = []
        at = 0
        kind, name = (Kind.SLACK, "unused") if self.complete else (Kind.UNREAD, "compressed, or in chunks")
        for segment in sorted(self._owned(), key=lambda item: item.start):
            end = min(segment.end, self.size)
            start = max(segment.start, at)
            if end <= start:
                continue
            if start > at:
                found.append(_Segment(at, start, kind, name))
            offset = segment.offset + start - segment.start
            found.append(msgspec.structs.replace(segment, start=start, end=end, offset=offset))
            at = end
        if at < self.size:
            found.append(_Segment(at, self.size, kind, name))
        return found, [segment.start for segment in found]

    def _owned(self) -> Iterator[_Segment]:
        superblock = self.reader.superblock
        yield _Segment(0, SUPER_OFFSET, Kind.SYSTEM_AREA, "boot area")
        end = SUPER_OFFSET + SuperBlock.SIZE
        yield _Segment(SUPER_OFFSET, end, Kind.SUPERBLOCK, "superblock", fields=SuperBlock.FIELDS)
        if superblock.sb_extslots:
            size = superblock.sb_extslots * EXTENSION_SLOT
            yield _Segment(end, end + size, Kind.SUPERBLOCK, "extensions of the superblock")
        shared = superblock.xattr_blkaddr * self.reader.block_size
        if shared:
            yield _Segment(shared, shared + self.reader.block_size, Kind.XATTR_BLOCK, "shared attributes")
        known: set[int] = set()
        for path, node in self.nodes.items():
            if node.nid not in known:
                known.add(node.nid)
                yield from _of_node(path, node)


def _of_node(path: str, node: Node) -> Iterator[_Segment]:
    start, size = node.start, node.inode.SIZE
    fields = node.inode.FIELDS
    yield _Segment(start, start + size, Kind.INODE, f"inode of {path}", path, 0, node.nid, fields)
    if node.xattrs:
        start += size
        yield _Segment(start, start + node.xattrs, Kind.XATTR_BLOCK, f"attributes of {path}", path, 0, node.nid)
    kind, name = Kind.FILE_DATA, f"data of {path}"
    if node.is_directory:
        kind, name = Kind.DIRECTORY, f"directory {path}"
    elif stat.S_ISLNK(node.inode.i_mode):
        kind, name = Kind.SYMLINK, f"target of {path}"
    for piece in node.pieces:
        yield _Segment(piece.start, piece.start + piece.length, kind, name, path, piece.offset, node.nid)
