"""Which block belongs to what: sorted runs of blocks in flat arrays, searched by bisection."""

from __future__ import annotations

import bisect
import enum
import heapq
import itertools
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_CONFLICTS = 1000


class Tag(enum.IntEnum):
    """What a run of blocks is. Where a damaged file system claims a block twice the smaller value owns it."""

    BOOT = 0
    SUPER = 1
    BACKUP_SUPER = 2
    GROUP_DESC = 3
    BACKUP_GROUP_DESC = 4
    RESERVED_GDT = 5
    BLOCK_BITMAP = 6
    INODE_BITMAP = 7
    INODE_TABLE = 8
    MMP = 9
    JOURNAL = 10
    ORPHAN_FILE = 11
    EXTENT_BLOCK = 12
    INDIRECT_BLOCK = 13
    XATTR = 14
    DIRECTORY = 15
    SYMLINK = 16
    DATA = 17
    UNWRITTEN = 18
    BAD = 19


class Segment(NamedTuple):
    """``length`` blocks from block ``start`` on.

    ``number`` is the group, or the inode that owns the blocks; ``logical`` the first block's number within the inode
    or table, or the level of a tree block.
    """

    start: int
    length: int
    tag: int
    number: int
    logical: int

    @property
    def end(self) -> int:
        """First block after the run."""
        return self.start + self.length


class Conflict(NamedTuple):
    """Block ``start`` and following are claimed by both."""

    start: int
    owner: Segment
    other: Segment


class SegmentMap:
    """Segments without overlap, in order."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        ordered = sorted(segments)
        self.conflicts: list[Conflict] = []
        if _overlap(ordered):
            ordered = list(_resolved(ordered, self.conflicts))
        self._starts = array("Q", [item[0] for item in ordered])
        self._lengths = array("Q", [item[1] for item in ordered])
        self._tags = bytes(item[2] for item in ordered)
        self._numbers = array("Q", [item[3] for item in ordered])
        self._logicals = array("Q", [item[4] for item in ordered])

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Segment:
        return Segment(
            self._starts[index], self._lengths[index], self._tags[index], self._numbers[index], self._logicals[index]
        )

    def from_block(self, block: int) -> Iterator[Segment]:
        """Yield the segment that holds ``block``, if one does, and all after it."""
        index = max(bisect.bisect_right(self._starts, block) - 1, 0)
        for position in range(index, len(self._starts)):
            if self._starts[position] + self._lengths[position] > block:
                yield self[position]

    def at(self, block: int) -> Segment | None:
        """Return the segment that holds ``block``."""
        found = next(self.from_block(block), None)
        return found if found is not None and found.start <= block else None


def _overlap(ordered: list[Segment]) -> bool:
    end = 0
    for start, length, _, _, _ in ordered:
        if start < end:
            return True
        end = start + length
    return False


def _resolved(ordered: list[Segment], conflicts: list[Conflict]) -> Iterator[Segment]:
    """Cut overlapping segments so that each block has the owner with the smallest tag."""
    borders = sorted({border for item in ordered for border in (item.start, item.start + item.length)})
    active: list[tuple[int, int, Segment]] = []
    following = 0
    for start, stop in itertools.pairwise(borders):
        while following < len(ordered) and ordered[following].start <= start:
            item = ordered[following]
            heapq.heappush(active, (item.tag, following, item))
            following += 1
        while active and active[0][2].end <= start:
            heapq.heappop(active)
        if not active:
            continue
        owner = active[0][2]
        if len(active) > 1 and len(conflicts) < MAX_CONFLICTS:
            rivals = (item for _, _, item in active[1:4] if item.end > start)
            conflicts.extend(Conflict(start, owner, rival) for rival in rivals)
        yield _cut(owner, start, stop)


def _cut(segment: Segment, start: int, stop: int) -> Segment:
    tree = segment.tag in (Tag.EXTENT_BLOCK, Tag.INDIRECT_BLOCK)
    logical = segment.logical if tree else segment.logical + start - segment.start
    return Segment(start, stop - start, segment.tag, segment.number, logical)
