"""Which blocks of a disk a container holds, and in which order: clusters of qcow2, grains of VMDK, blocks of VHD."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import Extent, merge


class BlockRun(msgspec.Struct, array_like=True, frozen=True):
    """``count`` guest blocks from ``start`` on."""

    start: int
    count: int

    @property
    def end(self) -> int:
        """First guest block after the run."""
        return self.start + self.count


def nonzero_runs(nonzero: Iterable[Extent], block_size: int) -> Iterator[BlockRun]:
    """Yield the runs of blocks that an ordered sequence of extents, those of non-zero bytes, touches."""
    touched = (Extent(start := extent.offset // block_size, -(-extent.end // block_size) - start) for extent in nonzero)
    for run in merge(touched):
        yield BlockRun(*run)


def runs_of(guests: Iterable[int]) -> Iterator[BlockRun]:
    """Join guest blocks, in the order of the file, that follow each other."""
    start = count = 0
    for guest in guests:
        if count and guest == start + count:
            count += 1
            continue
        if count:
            yield BlockRun(start, count)
        start, count = guest, 1
    if count:
        yield BlockRun(start, count)


def joined(runs: Iterable[BlockRun]) -> Iterator[BlockRun]:
    """Join runs, in the order of the file, where one begins at the end of the one before."""
    held: BlockRun | None = None
    for run in runs:
        if held is not None and run.start == held.end:
            held = BlockRun(held.start, held.count + run.count)
            continue
        if held is not None:
            yield held
        held = run
    if held is not None:
        yield held


def in_guest_order(runs: Iterable[BlockRun]) -> bool:
    """Tell whether the file has its blocks in the order of the disk."""
    return all(before.end <= after.start for before, after in itertools.pairwise(runs))


def fit(runs: Iterable[BlockRun], blocks: int) -> bool:
    """Tell whether runs, which may be forged, lie within a disk of ``blocks`` blocks and are no more than those."""
    room = blocks
    for run in runs:
        if not (run.start >= 0 and 0 < run.count <= blocks - run.start):
            return False
        room -= run.count
    return room >= 0
