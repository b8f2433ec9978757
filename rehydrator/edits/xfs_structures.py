"""``xfs.structures``: headers, btree blocks, directory and attribute blocks of XFS, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.edits.replay import Replay
from rehydrator.edits.words import listed
from rehydrator.edits.xfs_change import StructureChange, changed_structure, told_structure
from rehydrator.edits.xfs_inodes import setting, xfs_layout
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.btree import KINDS

_MAX_SIZE = 1 << 16
_NUMBERS = "0123456789"
_SAID = {kind.name: f"{kind.name} block" for kind in KINDS.values()} | {"directory data": "directory block"}
_SAID = {kind.name: f"{kind.name} block" for kind in KINDS.values()} | {"directory data": "directory block"}


class XfsStructureChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes in the structure of ``size`` bytes at byte ``at`` of the partition."""

    at: int
    size: int
    name: str
    change: StructureChange
    path: str = ""


class XfsStructures(msgspec.Struct, tag="xfs.structures", tag_field="op", frozen=True):
    """Changes of structures in one partition that are neither the superblock nor inodes."""

    partition: str
    structures: list[XfsStructureChange]

    def apply(self, replay: Replay) -> None:
        """Make each change; checksums follow."""
        layout = replay.state(xfs_layout, self.partition)
        size = replay.partition(self.partition).size
        for item in self.structures:
            if not 0 < item.size <= _MAX_SIZE or not 0 <= item.at <= size - item.size:
                raise StoreDamagedError("an edit leaves its partition", path=self.partition, offset=item.at)
            before = bytes(replay.now(self.partition).read(item.at, item.size))
            replay.write(
                self.partition, item.at, changed_structure(before, item.change, setting(replay, layout, item.at))
            )

    def describe(self) -> str:
        """Count the structures by what they are."""
        kinds = Counter(item.name.partition(" of ")[0].rstrip(f" {_NUMBERS}") for item in self.structures)
        return ", ".join(listed({_SAID.get(kind, kind): count for kind, count in kinds.items()}))

    def literal_bytes(self) -> int:
        """Sum of the bytes without a name."""
        return sum(len(run.data) for item in self.structures for run in item.change.runs)


class Wanted(msgspec.Struct, frozen=True):
    """A structure as it should be: where it is, what it is called, its bytes."""

    at: int
    name: str
    path: str
    data: bytes


def recognise(replay: Replay, partition: str, structures: Iterable[Wanted]) -> Iterator[XfsStructures]:
    """Tell how structures differ from what they are now."""
    layout = replay.state(xfs_layout, partition)
    changes: list[XfsStructureChange] = []
    for wanted in structures:
        before = bytes(replay.now(partition).read(wanted.at, len(wanted.data)))
        change = told_structure(before, wanted.data, setting(replay, layout, wanted.at))
        if before != wanted.data and change is not None:
            changes.append(XfsStructureChange(wanted.at, len(wanted.data), wanted.name, change, wanted.path))
    if changes:
        yield XfsStructures(partition, changes)
