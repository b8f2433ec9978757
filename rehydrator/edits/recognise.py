"""Telling a disk as edits of its base: from the most specific op to the least, until nothing is left.

Each recogniser looks at what the edits so far leave different; what it finds is applied before the next one looks.
So the edits give the disk by construction, and whatever none of them understands ends in ``blocks``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rehydrator.boot.zipl.installed import bootmap_inode
from rehydrator.disk.extents import Extent, ExtentMap, whole_blocks
from rehydrator.disk.gpt import PartitionTable, Region
from rehydrator.disk.source import Source, Window
from rehydrator.edits import (
    blocks,
    ext4_allocation,
    ext4_directory,
    ext4_extents,
    ext4_inodes,
    ext4_journal,
    ext4_superblock,
    ext4_xattrs,
    file_content,
    platform,
    xfs_inodes,
    xfs_log,
    xfs_structures,
    zero,
    zipl,
)
from rehydrator.edits.base import BlobWriter
from rehydrator.edits.replay import Replay
from rehydrator.edits.table import Edit
from rehydrator.edits.times import Time
from rehydrator.errors import RehydratorError
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import Filesystem, Kind, Place
from rehydrator.fs.probe import open_filesystem
from rehydrator.fs.xfs.geometry import read_superblock
from rehydrator.fs.xfs.owner import XfsFilesystem
from rehydrator.fs.xfs.reader import Reader

_SECTOR = 512
_HASH = re.compile(r"([0-9a-f]{4})[0-9a-f]{60}")
_BITMAPS = frozenset({Kind.BLOCK_BITMAP, Kind.INODE_BITMAP, Kind.GROUP_DESCRIPTOR})
_XFS_STRUCTURES = frozenset(
    {Kind.AGF, Kind.AGI, Kind.AGFL, Kind.BTREE_BLOCK, Kind.DIRECTORY, Kind.XATTR_BLOCK, Kind.SYMLINK}
)


class Recognised(msgspec.Struct, frozen=True):
    """Edits in order, and the moments that they refer to."""

    edits: list[Edit]
    times: list[Time]


def recognise(
    base: Source, target: Source, table: PartitionTable, differing: Sequence[Extent], blobs: BlobWriter
) -> Recognised:
    """Tell how ``target`` is made from ``base`` (of the same size), which differ in the blocks ``differing``."""
    kept = _Kept(blobs)
    replay = Replay(base, blobs=kept.content.__getitem__)
    edits: list[Edit] = []
    for region, extents in _by_region(table, differing):
        try:
            for edit in _region_edits(replay, target, region, extents, kept):
                edits.append(edit)
        except RehydratorError:
            replay = _repeated(replay, edits)
    edits += _rest(replay, target, table, differing, kept)
    return Recognised(edits, replay.times.times)


def _repeated(failed: Replay, edits: Iterable[Edit]) -> Replay:
    """Return a replay of ``edits`` without what another edit did before it failed; the rest becomes blocks."""
    replay = failed.fresh()
    for edit in edits:
        edit.apply(replay)
    return replay


class _Kept:
    """Remembers blobs while edits are recognised, since each edit is applied at once."""

    def __init__(self, blobs: BlobWriter) -> None:
        self._blobs = blobs
        self.content: dict[str, bytes] = {}

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its name."""
        name = self._blobs.put(content)
        self.content[name] = content
        return name


def _by_region(table: PartitionTable, differing: Iterable[Extent]) -> Iterator[tuple[Region, list[Extent]]]:
    """Group differing blocks by partition, relative to its start."""
    found: dict[Region, list[Extent]] = {}
    for extent in differing:
        for region, part in table.split(extent):
            found.setdefault(region, []).append(Extent(part.offset - region.extent.offset, part.length))
    return ((region, extents) for region, extents in found.items() if region.partition)


def _region_edits(
    replay: Replay, target: Source, region: Region, extents: list[Extent], blobs: BlobWriter
) -> Iterator[Edit]:
    """Yield the edits of one partition, each applied already. Raises RehydratorError where the rest can't be told."""
    window = Window(target, *region.extent)
    filesystem = open_filesystem(window)
    match filesystem:
        case Ext4Filesystem():
            sector = bytes(target.read(0, min(_SECTOR, target.size)))
            yield from _applied(replay, _ext4_edits(replay, region.name, filesystem, window, extents, sector, blobs))
        case XfsFilesystem():
            yield from _applied(replay, _xfs_edits(replay, region.name, filesystem, window, extents, blobs))


def _applied(replay: Replay, edits: Iterable[Edit]) -> Iterator[Edit]:
    for edit in edits:
        edit.apply(replay)
        yield edit


def _ext4_edits(
    replay: Replay,
    name: str,
    filesystem: Ext4Filesystem,
    target: Source,
    extents: list[Extent],
    sector: bytes,
    blobs: BlobWriter,
) -> Iterator[Edit]:
    places = list(filesystem.places(extents))
    fs = filesystem.fs
    records = list(zipl.recognise(replay, name, fs, sector))
    texts = list(platform.recognise(replay, name, fs))
    bootmaps = {bootmap_inode(fs) or 0 for _record in records}
    sized = bootmaps | {fs.lookup(text.path) or 0 for edit in texts for text in platform.platform_texts(fs, edit.id)}
    inodes = [(fs.inode(number), path) for number, path in _numbered(places, Kind.INODE)]
    yield from ext4_inodes.recognise(replay, name, inodes, sized)
    yield from ext4_extents.recognise(replay, name, fs, _numbered(places, Kind.EXTENT_BLOCK))
    yield from ext4_xattrs.recognise(replay, name, fs, _blocks_of(places, Kind.XATTR_BLOCK, fs.geometry.block_size))
    yield from ext4_allocation.recognise(replay, name, fs, {item.number for item in places if item.kind in _BITMAPS})
    yield from ext4_superblock.recognise(replay, name, fs)
    yield from ext4_directory.recognise(replay, name, fs, _numbered(places, Kind.DIRECTORY))
    yield from texts
    files = _numbered(places, Kind.FILE_DATA, Kind.SYMLINK, Kind.SLACK)
    yield from file_content.recognise(replay, name, fs, [file for file in files if file[0] not in bootmaps], blobs)
    yield from records  # the command line comes from a BLS entry
    yield from zero.recognise(name, replay.now(name), target, _pieces(places, fs.geometry.block_size))
    yield from ext4_journal.recognise(replay, name, filesystem)


def _xfs_edits(
    replay: Replay,
    name: str,
    filesystem: XfsFilesystem,
    target: Source,
    extents: list[Extent],
    blobs: BlobWriter,
) -> Iterator[Edit]:
    places = list(filesystem.places(extents))
    layout = filesystem.reader.geometry
    yield from xfs_inodes.recognise_superblock(replay, name, read_superblock(target))
    yield from xfs_structures.recognise(replay, name, _structures(filesystem, places, target))
    inodes = (
        (number, path, bytes(target.read(layout.inode_byte(number), layout.inode_size)))
        for number, path in _numbered(places, Kind.INODE)
    )
    yield from xfs_inodes.recognise_inodes(replay, name, inodes)
    files = _numbered(places, Kind.FILE_DATA, Kind.SLACK)
    yield from file_content.recognise_xfs(replay, name, filesystem.reader, files, blobs)
    yield from zero.recognise(name, replay.now(name), target, _pieces(places, layout.block_size))
    yield from xfs_log.recognise(replay, name, Reader(target))


def _structures(filesystem: XfsFilesystem, places: Iterable[Place], target: Source) -> Iterator[xfs_structures.Wanted]:
    """Yield the structures of some kinds, each once and whole."""
    seen: set[int] = set()
    for place in places:
        sealed = filesystem.sealed_at(place.extent.offset) if place.kind in _XFS_STRUCTURES else None
        if sealed is None or sealed.offset in seen:
            continue
        seen.add(sealed.offset)
        data = bytes(target.read(sealed.offset, sealed.length))
        yield xfs_structures.Wanted(sealed.offset, place.name, _short(place.path), data)


def _numbered(places: Iterable[Place], *kinds: Kind) -> list[tuple[int, str]]:
    """Return number and path of the places of some kinds, each once; hashes in paths are cut short for the reader."""
    found = (item for item in places if item.kind in kinds and (item.path or item.kind is not Kind.SLACK))
    return list(dict.fromkeys((item.number, _short(item.path)) for item in found))


def _short(path: str) -> str:
    return _HASH.sub(r"\1…", path)


def _blocks_of(places: Iterable[Place], kind: Kind, size: int) -> list[int]:
    """Return the numbers of the blocks of a kind."""
    return list(dict.fromkeys(item.extent.offset // size for item in places if item.kind is kind))


def _pieces(places: Iterable[Place], size: int) -> Iterator[Extent]:
    """Yield the free space and file slack among places, whole file system blocks only."""
    for place in places:
        if place.kind in (Kind.FREE, Kind.UNKNOWN):
            for at in range(place.extent.offset, place.extent.end - size + 1, size):
                yield Extent(at, size)


def _rest(
    replay: Replay, target: Source, table: PartitionTable, differing: Iterable[Extent], blobs: BlobWriter
) -> Iterator[Edit]:
    """Keep what is still different as literal bytes, also where an edit went wrong; each op names an owner."""
    touched = (whole_blocks(extent, target.size) for extent in replay.disk.patched)
    candidates = ExtentMap(sorted([*differing, *touched]))
    runs = blocks.differing_runs(replay.disk, target, candidates)
    return blocks.recognise(target, _owned(target, runs, table), blobs)


def _owned(target: Source, runs: Iterable[Extent], table: PartitionTable) -> Iterator[blocks.OwnedRun]:
    """Cut runs by partition and by the kind of structure that they belong to."""
    filesystems: dict[str, Filesystem | None] = {}
    for run in ExtentMap(runs):
        for region, part in table.split(run):
            start = region.extent.offset
            if region.name not in filesystems:
                window = Window(target, *region.extent) if region.partition else None
                filesystems[region.name] = open_filesystem(window) if window else None
            filesystem = filesystems[region.name]
            if filesystem is None:
                yield blocks.OwnedRun(region.name, start, part)
                continue
            for place in filesystem.places([Extent(part.offset - start, part.length)]):
                piece = Extent(start + place.extent.offset, place.extent.length)
                yield blocks.OwnedRun(f"{region.name}, {place.kind}", start, piece)
