"""A source with a few changed ranges laid over another source."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

from rehydrator.disk.extents import Data, Extent, ExtentMap, merge, whole_blocks
from rehydrator.disk.source import Source, scan


class Overlay(Source):
    """``base`` with patches: what the direct engine makes of a canonical and its edits.

    Patches may be added in any order; a later patch wins where two overlap. Memory is that of the patches.
    """

    def __init__(self, base: Source) -> None:
        self._base = base
        self.size = base.size
        self._starts: list[int] = []
        self._patches: dict[int, bytes] = {}

    def write(self, offset: int, data: bytes) -> None:
        """Lay ``data`` over the bytes from ``offset`` on; it must lie within ``size``."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError(f"patch of {len(data)} bytes at {offset:#x} leaves the disk of {self.size} bytes")
        if not data:
            return
        start, end = offset, offset + len(data)
        for other in list(self._overlapping(start, end)):
            held = self._patches.pop(other)
            self._starts.remove(other)
            if other < start:
                self._insert(other, held[: start - other])
            if other + len(held) > end:
                self._insert(end, held[end - other :])
        self._insert(start, data)

    def _insert(self, offset: int, data: bytes) -> None:
        bisect.insort(self._starts, offset)
        self._patches[offset] = data

    def _overlapping(self, start: int, end: int) -> Iterator[int]:
        index = max(bisect.bisect_right(self._starts, start) - 1, 0)
        for at in self._starts[index:]:
            if at >= end:
                return
            if at + len(self._patches[at]) > start:
                yield at

    @property
    def patched(self) -> Iterable[Extent]:
        """The patched ranges in order."""
        return merge(Extent(at, len(self._patches[at])) for at in self._starts)

    def patches(self) -> Iterator[tuple[int, bytes]]:
        """Yield each patch, offset and bytes, in order."""
        return ((at, self._patches[at]) for at in self._starts)

    def read(self, offset: int, length: int) -> Data:
        """Read the base and lay the patches over it."""
        data = self._base.read(offset, length)
        touched = list(self._overlapping(offset, offset + length))
        if not touched:
            return data
        buffer = bytearray(data)
        for at in touched:
            patch = self._patches[at]
            start, stop = max(at, offset), min(at + len(patch), offset + length)
            buffer[start - offset : stop - offset] = patch[start - at : stop - at]
        return bytes(buffer)

    def extents(self) -> Iterator[Extent]:
        """Yield the exact map: patches may fill blocks that were zero, or empty some that were not."""
        return iter(self.nonzero())

    def nonzero(self) -> ExtentMap:
        """Return the base's exact map, with the patched blocks looked at again."""
        patched = [whole_blocks(extent, self.size) for extent in self.patched]
        if not patched:
            return self._base.nonzero()
        touched = ExtentMap(patched)
        untouched = (piece for extent in self._base.nonzero() for piece in _without(extent, touched))
        return ExtentMap(sorted([*untouched, *scan(self, touched)]))


def _without(extent: Extent, holes: ExtentMap) -> Iterator[Extent]:
    """Yield the parts of ``extent`` that are not in ``holes``."""
    at = extent.offset
    for hole in holes.within(*extent):
        if hole.offset > at:
            yield Extent(at, hole.offset - at)
        at = hole.end
    if at < extent.end:
        yield Extent(at, extent.end - at)
