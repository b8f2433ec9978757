"""Sources that are made of others: parts one behind the other, and pieces that lie elsewhere in a file."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import Data, Extent, ExtentMap, merge
from rehydrator.disk.source import Source, Window


class Zeros(Source):
    """Nothing but zeros."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return zeros."""
        return bytes(length)

    def extents(self) -> Iterator[Extent]:
        """Yield nothing."""
        yield from ()


class Joined(Source):
    """``parts`` one behind the other."""

    def __init__(self, parts: Iterable[Source]) -> None:
        self.parts = [part for part in parts if part.size]
        self._starts = [0]
        for part in self.parts:
            self._starts.append(self._starts[-1] + part.size)
        self.size = self._starts[-1]

    def places(self) -> Iterator[tuple[Source, Extent]]:
        """Yield each part with its place."""
        for part, start in zip(self.parts, self._starts, strict=False):
            yield part, Extent(start, part.size)

    def extents(self) -> Iterator[Extent]:
        """Yield the extents of the parts."""
        yield from merge(
            Extent(place.offset + extent.offset, extent.length)
            for part, place in self.places()
            for extent in part.extents()
        )

    def read(self, offset: int, length: int) -> Data:
        """Read from the parts that the range touches."""
        found: list[Data] = []
        while length > 0:
            index = bisect.bisect_right(self._starts, offset) - 1
            inside = offset - self._starts[index]
            step = min(length, self.parts[index].size - inside)
            found.append(self.parts[index].read(inside, step))
            offset, length = offset + step, length - step
        return found[0] if len(found) == 1 else b"".join(found)


class Slice(Window):
    """A window on a source whose exact map is known, so that many of them look it up instead of walking through."""

    def __init__(self, inner: Source, start: int, size: int, known: ExtentMap) -> None:
        super().__init__(inner, start, size)
        self._map = known

    def extents(self) -> Iterator[Extent]:
        """Yield what the map says."""
        for extent in self._map.within(self._start, self.size):
            yield Extent(extent.offset - self._start, extent.length)


class Mapping(msgspec.Struct, frozen=True):
    """``length`` bytes at ``offset`` that lie at ``place`` of another source."""

    offset: int
    length: int
    place: int

    @property
    def end(self) -> int:
        """First byte after the piece."""
        return self.offset + self.length


class Mapped(Source):
    """``size`` bytes of which ``pieces``, ordered and apart from each other, lie in ``outer``; all others are zero."""

    def __init__(self, outer: Source, pieces: Iterable[Mapping], size: int) -> None:
        self._outer = outer
        self.size = size
        self._pieces = [piece for piece in pieces if piece.length]
        self._offsets = [piece.offset for piece in self._pieces]
        self._nonzero: ExtentMap | None = None

    def extents(self) -> Iterator[Extent]:
        """Yield the pieces."""
        yield from merge(Extent(piece.offset, piece.length) for piece in self._pieces)

    def nonzero(self) -> ExtentMap:
        """Look through the pieces once."""
        if self._nonzero is None:
            self._nonzero = super().nonzero()
        return self._nonzero

    def read(self, offset: int, length: int) -> Data:
        """Read the pieces; the rest is zero."""
        parts: list[Data] = []
        end = offset + length
        index = max(bisect.bisect_right(self._offsets, offset) - 1, 0)
        while index < len(self._pieces) and (piece := self._pieces[index]).offset < end:
            start, stop = max(piece.offset, offset), min(piece.end, end)
            if start < stop:
                if start > offset:
                    parts.append(bytes(start - offset))
                parts.append(self._outer.read(piece.place + start - piece.offset, stop - start))
                offset = stop
            index += 1
        if offset < end:
            parts.append(bytes(end - offset))
        return parts[0] if len(parts) == 1 else b"".join(parts)
