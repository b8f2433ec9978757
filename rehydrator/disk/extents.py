"""Extents: which parts of a disk hold data, and which are zeros.

The unit is the :data:`BLOCK` of 4096 bytes: a block is *data* when any of its bytes is not zero. The map of a
disk is therefore a function of its bytes alone; how a file happens to be allocated on the host plays no part.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

Data: TypeAlias = bytes | memoryview

BLOCK = 4096
CHUNK = 1 << 20
# What one reader copies at once: it stays in a processor's cache between being read and written, and malloc keeps
# buffers of this size where each larger one may come from the kernel anew.
PIECE = 128 << 10
_ZERO_BLOCK = bytes(BLOCK)
_ZERO_CHUNK = bytes(CHUNK)


class Extent(NamedTuple):
    """A range of bytes: ``offset`` and ``length``, both in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte after the range."""
        return self.offset + self.length


def is_zero(data: Data) -> bool:
    """Tell whether all bytes of ``data`` are zero."""
    if len(data) <= CHUNK:
        return _ZERO_CHUNK.startswith(data)  # one memcmp and no copy, whatever holds the data
    view = memoryview(data)
    return all(_ZERO_CHUNK.startswith(view[at : at + CHUNK]) for at in range(0, len(view), CHUNK))


def nonzero_blocks(data: Data, base: int) -> Iterator[Extent]:
    """Yield the maximal runs of blocks in ``data`` that hold a non-zero byte.

    ``base`` is the disk offset of ``data`` in bytes and must be a multiple of :data:`BLOCK`.
    """
    if is_zero(data):
        return
    raw = bytes(data)
    size = len(raw)
    start = -1
    for at in range(0, size, BLOCK):
        zero = raw.startswith(_ZERO_BLOCK, at) if at + BLOCK <= size else is_zero(raw[at:])
        if zero and start >= 0:
            yield Extent(base + start, at - start)
            start = -1
        elif not zero and start < 0:
            start = at
    if start >= 0:
        yield Extent(base + start, size - start)


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join touching or overlapping extents of a sequence ordered by offset."""
    current: Extent | None = None
    for extent in extents:
        if current is not None and extent.offset <= current.end:
            current = Extent(current.offset, max(current.end, extent.end) - current.offset)
        else:
            if current is not None:
                yield current
            current = extent
    if current is not None:
        yield current


def outside(extents: Iterable[Extent], without: Iterable[Extent]) -> Iterator[Extent]:
    """Yield the parts of ordered ``extents`` that lie in none of the ordered ``without``."""
    holes = list(without)
    for extent in extents:
        at = extent.offset
        for hole in holes:
            if at < hole.offset < extent.end:
                yield Extent(at, hole.offset - at)
            if hole.offset < extent.end:
                at = max(at, hole.end)
        if at < extent.end:
            yield Extent(at, extent.end - at)


def chunks(extents: Iterable[Extent], limit: int = CHUNK) -> Iterator[Extent]:
    """Cut extents into pieces of at most ``limit`` bytes that end at multiples of ``limit``."""
    for offset, length in extents:
        at, end = offset, offset + length
        while at < end:
            stop = min(end, (at // limit + 1) * limit)
            yield Extent(at, stop - at)
            at = stop


def whole_chunks(pieces: Iterable[Data], limit: int = CHUNK) -> Iterator[Data]:
    """Cut content into pieces of ``limit`` bytes, the last one less: decompressors end theirs where they like."""
    held = bytearray()
    for piece in pieces:
        if not held and len(piece) == limit:
            yield piece
            continue
        held += piece
        whole = len(held) // limit * limit
        for at in range(0, whole, limit):
            yield bytes(held[at : at + limit])
        del held[:whole]
    if held:
        yield bytes(held)


def whole_blocks(extent: Extent, size: int) -> Extent:
    """Widen ``extent`` to block boundaries, but not beyond the end of a disk of ``size`` bytes."""
    start = extent.offset // BLOCK * BLOCK
    return Extent(start, min(-(-extent.end // BLOCK) * BLOCK, size) - start)


class ExtentMap:
    """An ordered, merged set of extents with logarithmic look-up."""

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self._extents = list(merge(extents))
        self._starts = [extent.offset for extent in self._extents]

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExtentMap) and self._extents == other._extents

    def __hash__(self) -> int:
        return hash(tuple(self._extents))

    @property
    def total(self) -> int:
        """Sum of all lengths in bytes."""
        return sum(extent.length for extent in self._extents)

    def within(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the parts of the set that lie in ``[offset, offset + length)``."""
        end = offset + length
        first = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        for index in range(first, len(self._extents)):
            extent = self._extents[index]
            if extent.offset >= end:
                return
            start, stop = max(extent.offset, offset), min(extent.end, end)
            if start < stop:
                yield Extent(start, stop - start)

    def touches(self, offset: int, length: int) -> bool:
        """Tell whether any byte of the range belongs to the set."""
        return next(self.within(offset, length), None) is not None
