"""``blocks``: bytes that differ from the base and have no name yet; the literal fallback.

Runs are byte runs, not sectors: a changed checksum costs its four bytes. The bytes of all runs lie one after the
other in one blob.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import BLOCK, Extent, chunks, merge, whole_blocks
from rehydrator.disk.source import Source
from rehydrator.edits.base import BlobWriter
from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError

# Equal bytes between two changes that are cheaper to repeat than to skip: a run costs about this much in a manifest.
_JOIN = 6


class ByteRun(msgspec.Struct, array_like=True, frozen=True):
    """``length`` bytes at byte ``offset`` of the region."""

    offset: int
    length: int


class Blocks(msgspec.Struct, tag="blocks", tag_field="op", frozen=True):
    """Literal bytes that belong to ``owner``; runs count from ``start``, where its partition begins on the disk."""

    owner: str
    start: int
    runs: list[ByteRun]
    blob: str

    def apply(self, replay: Replay) -> None:
        """Write each run."""
        data = replay.blob(self.blob)
        if len(data) != self.literal_bytes():
            raise StoreDamagedError(
                f"blob {self.blob} does not fill its runs", expected=self.literal_bytes(), actual=len(data)
            )
        at = 0
        for run in self.runs:
            replay.disk.write(self.start + run.offset, data[at : at + run.length])
            at += run.length

    def describe(self) -> str:
        """Name the region and the amount."""
        return f"{self.owner}: {self.literal_bytes()} literal bytes in {len(self.runs)} runs"

    def literal_bytes(self) -> int:
        """Sum of the runs."""
        return sum(run.length for run in self.runs)


def differing_blocks(base: Source, disk: Source) -> Iterator[Extent]:
    """Yield the blocks (see :data:`BLOCK`) in which two sources of one size differ, in order."""
    either = merge(sorted([*base.nonzero(), *disk.nonzero()]))
    for piece in chunks(merge(whole_blocks(extent, disk.size) for extent in either)):
        ours, theirs = bytes(base.read(*piece)), bytes(disk.read(*piece))
        if ours == theirs:
            continue
        for at in range(0, piece.length, BLOCK):
            if ours[at : at + BLOCK] != theirs[at : at + BLOCK]:
                yield Extent(piece.offset + at, min(BLOCK, piece.length - at))


def differing_runs(base: Source, disk: Source, blocks: Iterable[Extent]) -> Iterator[Extent]:
    """Yield the byte runs in which ``blocks`` differ; changes closer than a few bytes are joined."""
    current: Extent | None = None
    for block in blocks:
        ours, theirs = bytes(base.read(*block)), bytes(disk.read(*block))
        for at in (i for i in range(block.length) if ours[i] != theirs[i]):
            position = block.offset + at
            if current is not None and position - current.end <= _JOIN:
                current = Extent(current.offset, position + 1 - current.offset)
                continue
            if current is not None:
                yield current
            current = Extent(position, 1)
    if current is not None:
        yield current


class OwnedRun(msgspec.Struct, frozen=True):
    """A run of the disk with the name of its owner; ``start`` is where the owner's region begins on the disk."""

    owner: str
    start: int
    extent: Extent


def recognise(disk: Source, runs: Iterable[OwnedRun], blobs: BlobWriter) -> Iterator[Blocks]:
    """Make one ``blocks`` edit per owner of the differing ``runs`` of ``disk``."""
    owners: dict[tuple[str, int], tuple[list[ByteRun], bytearray]] = {}
    for run in runs:
        found, data = owners.setdefault((run.owner, run.start), ([], bytearray()))
        found.append(ByteRun(run.extent.offset - run.start, run.extent.length))
        data += disk.read(*run.extent)
    for (owner, start), (found, data) in owners.items():
        yield Blocks(owner, start, found, blobs.put(bytes(data)))
