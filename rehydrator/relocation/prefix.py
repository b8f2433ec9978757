"""What the rest of a relocated disk is compressed against: the metadata of the file systems of the canonical.

A disk that was formatted separately has the same files, so its directories, inodes and log have names, owners and
sizes in common with the canonical's, though hardly ever a whole block.
"""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.disk.extents import BLOCK, Extent, ExtentMap, merge, whole_blocks
from rehydrator.disk.gpt import PartitionTable
from rehydrator.disk.source import Source, Window
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.place import Kind
from rehydrator.fs.probe import open_filesystem
from rehydrator.relocation.segments import Segment, SegmentSource

_CONTENT = frozenset({Kind.FILE_DATA, Kind.FREE, Kind.SLACK, Kind.UNKNOWN})


def metadata_blocks(disk: Source, table: PartitionTable, limit: int) -> ExtentMap:
    """Return the blocks that hold metadata of file systems, ``limit`` bytes at most."""
    return ExtentMap(_up_to(limit, merge(_metadata(disk, table))))


def _metadata(disk: Source, table: PartitionTable) -> Iterator[Extent]:
    for region in table.regions:
        if not region.partition:
            continue
        window = Window(disk, *region.extent)
        filesystem = open_filesystem(window)
        if filesystem is None:
            continue
        for place in filesystem.places(window.nonzero()):
            if place.kind not in _CONTENT:
                offset, length = place.extent
                yield whole_blocks(Extent(region.extent.offset + offset, length), disk.size)


def _up_to(limit: int, extents: Iterator[Extent]) -> Iterator[Extent]:
    for offset, length in extents:
        if limit < BLOCK:
            return
        yield Extent(offset, min(length, limit // BLOCK * BLOCK))
        limit -= length


def prefix_source(disk: Source, blocks: ExtentMap) -> Source:
    """Return these blocks of a disk one behind the other. Raises StoreDamagedError where it has no such blocks."""
    segments: list[Segment] = []
    at = 0
    for offset, length in blocks:
        segments.append(Segment(at, length, 0, offset))
        at += length
    if not segments:
        raise StoreDamagedError("no blocks to refer to")
    return SegmentSource(at, segments, [disk], None)
