"""``zero``: blocks that hold nothing any more, such as the place that a moved file had in the base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import Extent, is_zero
from rehydrator.disk.source import Source
from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError


class ZeroRun(msgspec.Struct, array_like=True, frozen=True):
    """``length`` zero bytes from byte ``offset`` of the partition on."""

    offset: int
    length: int


class Zero(msgspec.Struct, tag="zero", tag_field="op", frozen=True):
    """Ranges of a partition that are zero."""

    partition: str
    runs: list[ZeroRun]

    def apply(self, replay: Replay) -> None:
        """Write the zeros."""
        size = replay.partition(self.partition).size
        for run in self.runs:
            if not 0 <= run.offset <= run.offset + run.length <= size:  # before any room is made for the zeros
                raise StoreDamagedError("an edit leaves its partition", path=self.partition, offset=run.offset)
            replay.write(self.partition, run.offset, bytes(run.length))

    def describe(self) -> str:
        """Tell the amount."""
        return f"{sum(run.length for run in self.runs)} bytes of free space zero again"

    def literal_bytes(self) -> int:
        """Return none: zeros are not stored."""
        return 0


def recognise(partition: str, before: Source, target: Source, blocks: Iterable[Extent]) -> Iterator[Zero]:
    """Tell which of ``blocks`` (of the partition) are zero in ``target`` and not in ``before``."""
    runs: list[ZeroRun] = []
    for block in blocks:
        if not is_zero(target.read(*block)) or is_zero(before.read(*block)):
            continue
        if runs and runs[-1].offset + runs[-1].length == block.offset:
            runs[-1] = ZeroRun(runs[-1].offset, runs[-1].length + block.length)
        else:
            runs.append(ZeroRun(block.offset, block.length))
    if runs:
        yield Zero(partition, runs)
