"""A file as a list of segments, each copied from a reference or taken from the literals."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import StoreDamagedError

LITERAL = -1
_APART = 1 << 64  # more than the size of a reference


class Segment(msgspec.Struct, array_like=True, frozen=True):
    """``length`` bytes at ``offset`` come from byte ``at`` of reference number ``reference``.

    :data:`LITERAL` as the reference means the literals. What no segment covers is zero.
    """

    offset: int
    length: int
    reference: int
    at: int

    @property
    def end(self) -> int:
        """First byte after the segment."""
        return self.offset + self.length


class SegmentSource(Source):
    """The file that segments describe. Sources are only read where a segment says so."""

    def __init__(
        self, size: int, segments: Sequence[Segment], references: Sequence[Source], literals: Source | None
    ) -> None:
        self.size = size
        self._segments = segments
        self._references = references
        self._literals = literals
        self._starts = [segment.offset for segment in segments]
        at = 0
        for segment in segments:
            origin = self._origin(segment)
            outside = origin is None or segment.at < 0 or segment.at + segment.length > origin.size
            if segment.offset < at or segment.length <= 0 or segment.end > size or outside:
                raise StoreDamagedError("impossible segment table", offset=segment.offset)
            at = segment.end

    def _origin(self, segment: Segment) -> Source | None:
        if segment.reference == LITERAL:
            return self._literals
        if 0 <= segment.reference < len(self._references):
            return self._references[segment.reference]
        return None

    def read(self, offset: int, length: int) -> Data:
        """Gather the parts of the range from where they are."""
        parts: list[Data] = []
        at, end = offset, offset + length
        index = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        while at < end and index < len(self._segments):
            segment = self._segments[index]
            index += 1
            start, stop = max(segment.offset, at), min(segment.end, end)
            if start >= stop:
                if segment.offset >= end:
                    break
                continue
            if start > at:
                parts.append(bytes(start - at))
            origin = self._origin(segment)
            assert origin is not None  # checked when the table was read
            parts.append(origin.read(segment.at + start - segment.offset, stop - start))
            at = stop
        if at < end:
            parts.append(bytes(end - at))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def near(self, offset: int) -> int:
        """Sort places by where they are copied from: zeros, then the literals, then one reference after the other."""
        index = bisect.bisect_right(self._starts, offset) - 1
        if index < 0 or offset >= self._segments[index].end:
            return 0
        segment = self._segments[index]
        origin = self._origin(segment)
        assert origin is not None  # checked when the table was read
        return (segment.reference - LITERAL + 1) * _APART + origin.near(segment.at + offset - segment.offset)

    def extents(self) -> Iterator[Extent]:
        """Yield the covered ranges."""
        for segment in self._segments:
            yield Extent(segment.offset, segment.length)
