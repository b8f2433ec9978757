"""From the blocks of a file to the pointers that zipl writes for them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rehydrator.boot.zipl.c_zipl import MAX_BLOCK_COUNT, SIGNATURE_MAGIC, SignatureTrailer

HOLE = -1


class Span(msgspec.Struct, frozen=True):
    """``count`` sectors from sector ``start`` of the disk on; ``start`` is HOLE for a sector of zeros (count 1)."""

    start: int
    count: int = 1

    @property
    def hole(self) -> bool:
        """Whether this is a sector that the file has no block for."""
        return self.start == HOLE


class FileRun(msgspec.Struct, frozen=True):
    """``count`` blocks of a file: from ``logical`` on in the file, from ``physical`` on in its file system."""

    logical: int
    physical: int
    count: int


class Grid(msgspec.Struct, frozen=True):
    """How file system blocks lie on the disk.

    ``sector``: bytes of a sector as zipl was told; ``block_size``: bytes of a file system block, a multiple of it;
    ``start``: the sector at which zipl believes the partition to begin.
    """

    sector: int
    block_size: int
    start: int

    @property
    def per_block(self) -> int:
        """Sectors of a file system block."""
        return self.block_size // self.sector

    def sector_of(self, block: int, within: int = 0) -> int:
        """Return the disk's sector of a file system block, or of the sector ``within`` it."""
        return self.start + block * self.per_block + within


def merged(spans: Iterable[Span]) -> list[Span]:
    """Join spans as zipl does: while they are contiguous and a pointer can count them; holes never."""
    found: list[Span] = []
    limit = MAX_BLOCK_COUNT + 1
    for span in spans:
        if span.hole:
            found.append(span)
            continue
        start, count = span.start, span.count
        if found and not found[-1].hole and found[-1].start + found[-1].count == start:
            more = min(count, limit - found[-1].count)
            found[-1] = Span(found[-1].start, found[-1].count + more)
            start, count = start + more, count - more
        while count:
            found.append(Span(start, min(count, limit)))
            start, count = start + found[-1].count, count - found[-1].count
    return found


def file_spans(runs: Iterable[FileRun], size: int, grid: Grid, *, block_window: bool) -> list[Span]:
    """Return the sectors of a file of ``size`` bytes whose written blocks are ``runs``, in order.

    ``block_window`` is how zipl since 2.18 asks for a sector's place: with FIEMAP over a whole file system block
    from the sector on. In the last block of a hole that window reaches the next extent, and all its sectors but the
    first come out as the block before that extent. That is a defect of zipl, and part of what it writes.
    """
    sectors = -(-size // grid.sector)
    spans: list[Span] = []
    position = 0

    def add_hole(until: int, following: int | None) -> None:
        for index in range(position, min(until, sectors)):
            within = index % grid.per_block
            last = index // grid.per_block + 1 == until // grid.per_block
            if block_window and following is not None and last and within:
                spans.append(Span(grid.sector_of(following - 1, within)))
            else:
                spans.append(Span(HOLE))

    for run in runs:
        first = run.logical * grid.per_block
        if first >= sectors:
            break
        add_hole(first, run.physical)
        count = min(run.count * grid.per_block, sectors - first)
        spans.append(Span(grid.sector_of(run.physical), count))
        position = first + count
    add_hole(sectors, None)
    return merged(spans)


def without_signature(spans: list[Span], tail: bytes, sector: int) -> list[Span]:
    """Cut off the sectors of an appended signature; ``tail`` are the last bytes of the file.

    zipl leaves them out whether or not it writes a signature component for them.
    """
    if not tail.endswith(SIGNATURE_MAGIC) or len(tail) < SignatureTrailer.SIZE:
        return spans
    trailer = SignatureTrailer.parse(tail, len(tail) - SignatureTrailer.SIZE)
    drop = -(-(trailer.sig_len + SignatureTrailer.SIZE) // sector)
    kept = list(spans)
    while drop and kept:
        last = kept.pop()
        if last.count > drop:
            kept.append(Span(last.start, last.count - drop))
        drop -= min(drop, last.count)
    return kept
