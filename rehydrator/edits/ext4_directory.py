"""``ext4.directory``: names in directories come and go: files are created, renamed, replaced and removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import msgspec

from rehydrator.edits.ext4_directory_block import DirectoryChange, changed_block, told_block
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.inode import InodeInfo

_SHOWN = 6
_DOTS = (".", "..")


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
                data = changed_block(state.now.read_block(physical), change, tails=state.tails)
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

    def paths(self) -> set[str]:
        """Return the paths that came, went or were given to other files."""
        return {path for field in ("added", "removed", "retargeted") for path in self._paths(field)}

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
    named = DirectoryChange(number, path, block)
    return told_block(before, after, named, partial(state.sealed_directory_block, inode), tails=state.tails)
