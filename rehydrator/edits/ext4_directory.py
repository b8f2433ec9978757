"""``ext4.directory``: names in directories come and go: files are created, renamed, replaced and removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.fs.ext4 import dirblock
from rehydrator.fs.ext4.dirblock import Index, Slot
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.inode import InodeInfo

_SHOWN = 6
_DOTS = (".", "..")


class DirectoryEntry(msgspec.Struct, array_like=True, frozen=True):
    """An entry at byte ``at`` of its block; ``file_type`` as in ``struct ext4_dir_entry_2``."""

    at: int
    inode: int
    file_type: int
    name: str


class IndexRow(msgspec.Struct, array_like=True, frozen=True):
    """One entry of a directory's index: names from ``hash`` on are in ``block`` of the directory."""

    hash: int
    block: int


class DirectoryIndex(msgspec.Struct, frozen=True, omit_defaults=True):
    """The index in a block: ``struct dx_root_info`` (in the root), ``dx_countlimit``, ``dx_entry``, ``dx_tail``."""

    limit: int
    rows: list[IndexRow]
    hash_version: int | None = None
    indirect_levels: int = 0
    dt_reserved: int = 0

    @classmethod
    def of(cls, index: Index) -> DirectoryIndex:
        """Return the index as a manifest has it."""
        rows = [IndexRow(*row) for row in index.rows]
        return cls(index.limit, rows, index.hash_version, index.indirect_levels, index.dt_reserved)

    def parts(self) -> Index:
        """Return the index for writing it."""
        rows = [(row.hash, row.block) for row in self.rows]
        return Index(self.limit, rows, self.hash_version, self.indirect_levels, self.dt_reserved)


class DirectoryChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes in block ``block`` of the directory ``inode``; a ``fresh`` block had no entries.

    A ``retargeted`` entry keeps place and name and leads to another inode, as when a file is renamed over another.
    """

    inode: int
    path: str
    block: int = 0
    fresh: bool = False
    removed: list[DirectoryEntry] = []
    added: list[DirectoryEntry] = []
    retargeted: list[DirectoryEntry] = []
    index: DirectoryIndex | None = None


class Ext4Directory(msgspec.Struct, tag="ext4.directory", tag_field="op", frozen=True):
    """Directory entries of a partition."""

    partition: str
    directories: list[DirectoryChange]

    def apply(self, replay: Replay) -> None:
        """Write the blocks, each sealed with its checksum."""
        state = replay.state(Ext4State, self.partition)
        for change in self.directories:
            inode = state.now.inode(change.inode)
            physical = _physical(state.now, inode, change.block)
            if physical is None:
                raise StoreDamagedError(f"directory {change.inode} has no block {change.block}", path=self.partition)
            try:
                data = _changed(state, physical, change)
            except CorruptError as error:
                raise StoreDamagedError(f"{change.path}: {error}", path=self.partition) from error
            state.put_directory_block(inode, physical, data)

    def describe(self) -> str:
        """Tell which names came, went and were given to other files."""
        words = list(_words(self._paths("added"), self._paths("removed"), self._paths("retargeted")))
        more = len(words) - _SHOWN
        told = ", ".join([*words[:_SHOWN], *([f"and {more} more names"] if more > 0 else [])])
        return told or "directory entries moved"

    def _paths(self, field: str) -> dict[str, int]:
        """Return the inodes of the entries in a field by path."""
        return {
            f"{change.path.rstrip('/')}/{item.name}": item.inode
            for change in self.directories
            for item in getattr(change, field)
            if item.inode and item.name not in _DOTS
        }

    def literal_bytes(self) -> int:
        """Return none: names are there to be read."""
        return 0


def _words(added: dict[str, int], removed: dict[str, int], retargeted: dict[str, int]) -> Iterator[str]:
    """Tell names by what happened to them; one that is on both sides under one number only moved."""
    origin = {inode: path for path, inode in removed.items() if added.get(path) != inode}
    for path, inode in retargeted.items():
        old = origin.pop(inode, None)
        yield f"{path} replaced by rename of {old}" if old else f"{path} replaced"
    for path, inode in added.items():
        if removed.get(path) == inode:
            continue
        old = origin.pop(inode, None)
        yield f"{old} renamed to {path}" if old else f"{path} created"
    yield from (f"{path} removed" for path in origin.values())


def _physical(fs: Ext4, inode: InodeInfo, block: int) -> int | None:
    for run in fs.block_map(inode).runs if inode.is_dir else ():
        if run.logical <= block < run.logical + run.count:
            return run.physical + block - run.logical
    return None


def _changed(state: Ext4State, physical: int, change: DirectoryChange) -> bytes:
    data = state.now.read_block(physical)
    if change.fresh:
        tail = state.now.geometry.metadata_csum and change.index is None
        data = dirblock.empty_block(len(data), tail=tail)
    return dirblock.changed_block(
        data,
        [item.at for item in change.removed],
        [Slot(item.at, item.inode, item.file_type, item.name.encode()) for item in (*change.added, *change.retargeted)],
        change.index.parts() if change.index else None,
        fresh=change.fresh,
    )  # fmt: skip


def recognise(
    replay: Replay, partition: str, target: Ext4, directories: Iterable[tuple[int, str]]
) -> Iterator[Ext4Directory]:
    """Tell how the blocks of directories (inode and path) differ from what they are now."""
    state = replay.state(Ext4State, partition)
    changes = [
        change
        for number, path in directories
        for run in target.block_map(target.inode(number)).runs
        for block in range(run.logical, run.logical + run.count)
        if (change := _recognise_block(state, target, number, path, block)) is not None
    ]
    if changes:
        yield Ext4Directory(partition, changes)


def _recognise_block(state: Ext4State, target: Ext4, number: int, path: str, block: int) -> DirectoryChange | None:
    """Return the change that comes closest to the target's block, None where nothing helps."""
    now = state.now
    inode = now.inode(number)
    physical, aim = _physical(now, inode, block), _physical(target, target.inode(number), block)
    if physical is None or aim is None:
        return None
    before, after = now.read_block(physical), target.read_block(aim)
    if before == after:
        return None
    best, least = None, _distance(before, after)
    for change in _candidates(before, after, number, path, block):
        try:
            made = state.sealed_directory_block(inode, _changed(state, physical, change))
        except CorruptError:
            continue
        if (distance := _distance(made, after)) < least:
            best, least = change, distance
    return best


def _distance(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _candidates(before: bytes, after: bytes, number: int, path: str, block: int) -> Iterator[DirectoryChange]:
    """Yield the change of an existing block, and that of a fresh one."""
    wanted = dirblock.slots(after)
    found = dirblock.index_of(after)
    index = DirectoryIndex.of(found) if found else None
    try:
        new = {slot.at: _entry(slot) for slot in wanted or ()}
        old = {slot.at: _entry(slot) for slot in dirblock.slots(before) or ()}
    except UnicodeDecodeError:
        return
    if not new:
        return
    same_index = dirblock.index_of(before) == found
    removed = [item for at, item in old.items() if at not in new or (at == 0 and item.inode and not new[0].inode)]
    changed = [item for at, item in new.items() if old.get(at) != item and (item.inode or at)]
    retargeted = [item for item in changed if item.at in old and old[item.at].name == item.name]
    added = [item for item in changed if item not in retargeted]
    yield DirectoryChange(number, path, block, False, removed, added, retargeted, None if same_index else index)
    yield DirectoryChange(number, path, block, True, [], list(new.values()), [], index)


def _entry(slot: Slot) -> DirectoryEntry:
    return DirectoryEntry(slot.at, slot.inode, slot.file_type, slot.name.decode())
