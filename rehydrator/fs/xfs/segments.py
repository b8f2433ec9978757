"""Who owns which bytes: a sorted table of segments without overlap.

Segments come in any order and may claim the same bytes: copies made by reflink share their data rightly, a damaged
file system may claim anything. The owner is then the one with the lowest role, and among equals the lowest number.
"""

from __future__ import annotations

import enum
import heapq
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Role(enum.IntEnum):
    """What a segment is, in order of precedence."""

    SUPERBLOCK = 0
    AGF = 1
    AGI = 2
    AGFL = 3
    HEADER_SLACK = 4
    LOG = 5
    BNOBT = 6
    CNTBT = 7
    INOBT = 8
    FINOBT = 9
    RMAPBT = 10
    REFCOUNTBT = 11
    INODES = 12
    BMBT = 13
    DIRECTORY = 14
    ATTRIBUTES = 15
    SYMLINK = 16
    QUOTA = 17
    DATA = 18
    UNWRITTEN = 19
    EOF_SLACK = 20
    COW = 21
    FREE_LIST = 22
    FREE = 23
    BEYOND = 24
    UNKNOWN = 25


FILE_ROLES = frozenset({Role.DATA, Role.UNWRITTEN, Role.EOF_SLACK})


class Segment(NamedTuple):
    """Bytes ``[start, end)`` of a role. ``number`` is the inode, AG or first inode; ``offset`` its byte in the file."""

    start: int
    end: int
    role: Role
    number: int
    offset: int
    shared: bool = False


class Conflict(NamedTuple):
    """Bytes from ``start`` on that two owners claim which must not share."""

    start: int
    first: Segment
    second: Segment


# A claim is a Segment without `shared`; plain tuples, since there are some hundred thousand of them.
Claim = tuple[int, int, int, int, int]
_MAX_CONFLICTS = 100
_LOOK_AT = 8


class SegmentTable:
    """The resolved segments in five flat arrays: 33 bytes each, and logarithmic look-up."""

    def __init__(self, claims: list[Claim], size: int) -> None:
        self.size = size
        self.conflicts: list[Conflict] = []
        self._shared: set[int] = set()
        claims.sort()
        resolved = self._resolve(claims)
        starts, ends, roles, numbers, offsets = zip(*resolved, strict=True) if resolved else ((), (), (), (), ())
        self._starts = array("Q", starts)
        self._ends = array("Q", ends)
        self._roles = array("B", roles)
        self._numbers = array("Q", numbers)
        self._offsets = array("Q", offsets)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Segment]:
        return (self._segment(index) for index in range(len(self._starts)))

    def of_roles(self, roles: Collection[Role]) -> Iterator[Segment]:
        """Yield the segments of some roles; most of a table is file data that nobody has to look at."""
        wanted = frozenset(int(role) for role in roles)
        return (self._segment(index) for index, role in enumerate(self._roles) if role in wanted)

    def _segment(self, index: int) -> Segment:
        return Segment(
            self._starts[index],
            self._ends[index],
            Role(self._roles[index]),
            self._numbers[index],
            self._offsets[index],
            index in self._shared,
        )

    def within(self, start: int, end: int) -> Iterator[Segment]:
        """Yield what covers ``[start, end)``: whole segments, and ``UNKNOWN`` ones where nobody claims anything."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        while start < end:
            if index < len(self._starts) and self._ends[index] <= start:
                index += 1
            elif index < len(self._starts) and self._starts[index] <= start:
                segment = self._segment(index)
                yield segment
                start = segment.end
                index += 1
            else:
                begin = self._ends[index - 1] if index else 0
                stop = self._starts[index] if index < len(self._starts) else self.size
                yield Segment(begin, stop, Role.UNKNOWN, 0, 0)
                start = stop

    def _resolve(self, claims: list[Claim]) -> list[Claim]:
        resolved: list[Claim] = []
        first, count = 0, len(claims)
        while first < count:
            end = claims[first][1]
            last = first + 1
            while last < count and claims[last][0] < end:
                end = max(end, claims[last][1])
                last += 1
            if last == first + 1:
                resolved.append(claims[first])
            else:
                self._flatten(claims[first:last], resolved)
            first = last
        return resolved

    def _flatten(self, claims: list[Claim], resolved: list[Claim]) -> None:
        """Cut overlapping claims at all their borders and give each piece to the first in precedence."""
        borders = sorted({claim[0] for claim in claims} | {claim[1] for claim in claims})
        active: list[tuple[int, int, int, Claim]] = []  # role, number, tie-breaker, claim
        ends: list[int] = []
        upcoming = 0
        current: tuple[Claim, int, bool] | None = None
        for at in borders:
            while upcoming < len(claims) and claims[upcoming][0] == at:
                claim = claims[upcoming]
                heapq.heappush(active, (claim[2], claim[3], upcoming, claim))
                heapq.heappush(ends, claim[1])
                upcoming += 1
            while ends and ends[0] <= at:
                heapq.heappop(ends)
            while active and active[0][3][1] <= at:
                heapq.heappop(active)
            owner = active[0][3] if active else None
            shared = len(ends) > 1
            if current is not None and (current[0] is not owner or current[2] != shared):
                self._emit(current, at, resolved)
                current = None
            if owner is not None and current is None:
                current = (owner, at, shared)
                self._note_conflict(active, owner, at)

    def _emit(self, current: tuple[Claim, int, bool], end: int, resolved: list[Claim]) -> None:
        (start, _, role, number, offset), begin, shared = current
        if shared and role in FILE_ROLES:
            self._shared.add(len(resolved))
        resolved.append((begin, end, role, number, offset + begin - start))

    def _note_conflict(self, active: list[tuple[int, int, int, Claim]], owner: Claim, at: int) -> None:
        if len(self.conflicts) >= _MAX_CONFLICTS:
            return
        # The heap's first entries hold the next in precedence; more of them need not be looked at to see a conflict.
        for _, _, _, other in active[:_LOOK_AT]:
            if other is owner or other[1] <= at:
                continue
            if owner[2] not in FILE_ROLES or other[2] not in FILE_ROLES:
                self.conflicts.append(Conflict(at, _as_segment(owner), _as_segment(other)))
                return


def _as_segment(claim: Claim) -> Segment:
    start, end, role, number, offset = claim
    return Segment(start, end, Role(role), number, offset)
