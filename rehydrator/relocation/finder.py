"""Finding the content of a file in references, wherever it lies there.

References are indexed by their 4096-byte blocks at multiples of 4096; the file is looked up with a window of that
size that moves in steps of one 512-byte sector, so that content is found whatever its place relative to a block
(1 KiB ext4 blocks, tar members, ISO sectors). Where it consists of files that begin anywhere, the steps count from each
file's start. A hit is extended in both directions.
The index holds one entry per 4 KiB of reference data, about 100 bytes each.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence

from rehydrator.disk.extents import BLOCK, CHUNK, Extent, chunks
from rehydrator.disk.source import Source
from rehydrator.relocation.segments import LITERAL, Segment

STEP = 512
_SHIFT = 48  # an index value is reference number << _SHIFT | byte offset
_EXTEND = 1 << 16


class ContentIndex:
    """Blocks of the references by their hash; hits are always compared byte by byte."""

    def __init__(self) -> None:
        self.references: list[Source] = []
        self._blocks: dict[int, int] = {}

    def add(self, reference: Source) -> int:
        """Index a reference and return its number."""
        number = len(self.references)
        self.references.append(reference)
        blocks = self._blocks
        for piece in chunks(reference.nonzero()):
            data = bytes(reference.read(*piece))
            for at in range(0, piece.length - BLOCK + 1, BLOCK):
                blocks.setdefault(hash(data[at : at + BLOCK]), number << _SHIFT | (piece.offset + at))
        return number

    def look_up(self, window: bytes) -> tuple[int, int] | None:
        """Return reference number and offset of a block with the content of ``window``."""
        value = self._blocks.get(hash(window))
        if value is None:
            return None
        number, offset = value >> _SHIFT, value & (1 << _SHIFT) - 1
        return (number, offset) if self.references[number].read(offset, BLOCK) == window else None


def find(target: Source, index: ContentIndex, starts: Sequence[int] = ()) -> list[Segment]:
    """Describe ``target`` by segments; ``at`` of literal segments counts on from zero.

    ``starts`` are the places, in order, where files begin in it that lie at no multiple of a sector.
    """
    segments: list[Segment] = []
    literal = 0
    done = 0

    def keep_literals(end: int, extent: Extent) -> None:
        nonlocal literal, done
        start = max(done, extent.offset)
        if end > start:
            segments.append(Segment(start, end - start, LITERAL, literal))
            literal += end - start
        done = max(done, end)

    for extent, origin in _files(target.nonzero(), starts):
        at = max(done, extent.offset)
        while (hit := _next_hit(target, index, at, extent.end, origin)) is not None:
            position, number, offset = hit
            low = max(done, extent.offset)
            segment = _extend(target, index.references[number], number, position, offset, low)
            keep_literals(segment.offset, extent)
            segments.append(segment)
            at = done = segment.end
        keep_literals(extent.end, extent)
    return segments


def _files(extents: Iterable[Extent], starts: Sequence[int]) -> Iterator[tuple[Extent, int]]:
    """Cut extents at the starts of files; yield each with the start of the file that it lies in."""
    for extent in extents:
        index = bisect.bisect_right(starts, extent.offset)
        origin = starts[index - 1] if index else 0
        at = extent.offset
        while index < len(starts) and starts[index] < extent.end:
            if starts[index] > at:
                yield Extent(at, starts[index] - at), origin
            at = origin = starts[index]
            index += 1
        yield Extent(at, extent.end - at), origin


def _next_hit(target: Source, index: ContentIndex, at: int, end: int, origin: int) -> tuple[int, int, int] | None:
    """Look at ``at`` itself, which may be where a file of any size ended, then at each step from ``origin``."""
    while at + BLOCK <= end:
        length = min(CHUNK, end - at)
        data = bytes(target.read(at, length))
        first = (origin - at) % STEP
        aligned = range(first, length - BLOCK + 1, STEP)
        for inside in itertools.chain((0,) if first else (), aligned):
            hit = index.look_up(data[inside : inside + BLOCK])
            if hit is not None:
                return at + inside, *hit
        at += first + len(aligned) * STEP
    return None


def _extend(target: Source, reference: Source, number: int, position: int, offset: int, low: int) -> Segment:
    """Grow a hit by whole steps: back to ``low`` at most, forward to the end of either file."""
    start = position
    while start - STEP >= low and offset - (position - start) >= STEP:
        before = offset - (position - start) - STEP
        if target.read(start - STEP, STEP) != reference.read(before, STEP):
            break
        start -= STEP
    end = position + BLOCK
    shift = offset - position
    while (room := min(_EXTEND, target.size - end, reference.size - end - shift)) > 0:
        ours, theirs = bytes(target.read(end, room)), bytes(reference.read(end + shift, room))
        if ours != theirs:
            end += next(_equal_steps(ours, theirs))
            break
        end += room
    return Segment(start, end - start, number, start + shift)


def _equal_steps(ours: bytes, theirs: bytes) -> Iterator[int]:
    for at in range(0, len(ours), STEP):
        if ours[at : at + STEP] != theirs[at : at + STEP]:
            yield at
