"""``xfs.inodes`` and ``xfs.superblock``: fields and forks of inodes, the superblock; checksums follow by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import listed
from rehydrator.edits.xfs_change import Setting, StructureChange, changed_structure, told_structure, with_named_times
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs import XfsDinode, XfsDsb
from rehydrator.fs.xfs.checksums import Seal, reseal
from rehydrator.fs.xfs.forms import INODE
from rehydrator.fs.xfs.geometry import Geometry, geometry, read_superblock
from rehydrator.fs.xfs.inode import parse_inode

_DERIVED_SUPERBLOCK = ("sb_crc",)
_MAX_RUN = 1 << 16
_NUMBER = "di_ino"


class XfsInodeChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes in one inode: fields of its core, and ``forks``, what it holds behind the core."""

    inode: int
    path: str = ""
    set: Fields = {}
    forks: StructureChange | None = None


class XfsInodeRun(msgspec.Struct, array_like=True, frozen=True):
    """``count`` inodes from ``first`` on that are new and all the same but for their numbers."""

    first: int
    count: int
    set: Fields


class XfsInodes(msgspec.Struct, tag="xfs.inodes", tag_field="op", frozen=True, omit_defaults=True):
    """Changes of inodes in one partition. The ``new`` ones are made first."""

    partition: str
    inodes: list[XfsInodeChange] = []
    new: list[XfsInodeRun] = []

    def apply(self, replay: Replay) -> None:
        """Set the fields of each inode."""
        layout = replay.state(xfs_layout, self.partition)
        for run in self.new:
            if not 0 <= run.count <= _MAX_RUN:
                raise StoreDamagedError("an edit makes too many inodes", path=self.partition, actual=run.count)
            for number in range(run.first, run.first + run.count):
                change = StructureChange(INODE, run.set | {_NUMBER: number})
                _change(replay, self.partition, layout, number, change)
        for item in self.inodes:
            change = replace(item.forks or StructureChange(), set=item.set)
            _change(replay, self.partition, layout, item.inode, change)

    def describe(self) -> str:
        """Name the files that are new, and count the other inodes."""
        created = [item.path for item in self.inodes if item.path and "di_crtime" in item.set]
        access = sum(set(item.set) == {"di_atime"} and item.forks is None for item in self.inodes)
        freed = sum(item.set.get("di_mode") == 0 for item in self.inodes)
        other = len(self.inodes) - len(created) - access - freed
        new = sum(run.count for run in self.new)
        counts = {"access time": access, "other inode change": other, "freed inode": freed, "new free inode": new}
        return ", ".join([*(f"{path} created" for path in created), *listed(counts)])

    def literal_bytes(self) -> int:
        """Sum of the bytes in forks that have no name."""
        return sum(len(run.data) for item in self.inodes if item.forks for run in item.forks.runs)


class XfsSuperblock(msgspec.Struct, tag="xfs.superblock", tag_field="op", frozen=True):
    """Changes of the primary superblock of one partition."""

    partition: str
    set: Fields

    def apply(self, replay: Replay) -> None:
        """Set the fields; the checksum covers the whole sector."""
        source = replay.now(self.partition)
        superblock = read_superblock(source)
        raw = bytes(source.read(0, superblock.sb_sectsize))
        data = updated(superblock, self.set).pack() + raw[superblock.SIZE :]
        replay.write(self.partition, 0, reseal(Seal.SUPERBLOCK, data))

    def describe(self) -> str:
        """Name the fields."""
        return f"superblock {', '.join(self.set)}"

    def literal_bytes(self) -> int:
        """Return none: every field has its name."""
        return 0


def xfs_layout(replay: Replay, partition: str) -> Geometry:
    """Return the geometry of a partition, which no edit changes."""
    return geometry(read_superblock(replay.before(partition)))


def inode_bytes(replay: Replay, partition: str, layout: Geometry, number: int) -> bytes:
    """Return an inode as it is now."""
    source = replay.now(partition)
    at = layout.inode_byte(number)
    if number < 0 or at + layout.inode_size > source.size:
        raise StoreDamagedError("an edit names an inode that does not exist", path=partition, actual=number)
    return bytes(source.read(at, layout.inode_size))


def setting(replay: Replay, layout: Geometry, offset: int) -> Setting:
    """Return what a change of the structure at byte ``offset`` depends on."""
    return Setting(layout.uuid, offset, replay.times)


def _change(replay: Replay, partition: str, layout: Geometry, number: int, change: StructureChange) -> None:
    raw, at = inode_bytes(replay, partition, layout, number), layout.inode_byte(number)
    replay.write(partition, at, changed_structure(raw, change, setting(replay, layout, at)))


def recognise_inodes(replay: Replay, partition: str, inodes: Iterable[tuple[int, str, bytes]]) -> Iterator[XfsInodes]:
    """Tell how inodes (number, path, bytes as they should be) differ from what they are now."""
    layout = replay.state(xfs_layout, partition)
    wanted = list(inodes)
    new = list(_new_runs(replay, partition, layout, wanted))
    if new:
        edit = XfsInodes(partition, new=new)
        yield edit  # applied by now
    changes: list[XfsInodeChange] = []
    for number, path, raw in wanted:
        before = inode_bytes(replay, partition, layout, number)
        if before == raw:
            continue
        change = told_structure(before, raw, setting(replay, layout, layout.inode_byte(number)))
        if change is not None and change.new in ("", INODE):
            rest = replace(change, set={})
            fields = with_named_times(change.set, XfsDinode.parse(raw).di_flags2, replay.times)
            changes.append(XfsInodeChange(number, path, fields, None if rest == StructureChange() else rest))
    if changes:
        yield XfsInodes(partition, changes)


def _new_runs(
    replay: Replay, partition: str, layout: Geometry, wanted: list[tuple[int, str, bytes]]
) -> Iterator[XfsInodeRun]:
    """Tell chunks of inodes where there were none, by those of them that are still unused."""
    run: XfsInodeRun | None = None
    for number, _path, raw in sorted(wanted):
        if parse_inode(number, inode_bytes(replay, partition, layout, number), 0, layout.inode_size) is not None:
            continue
        inode = parse_inode(number, raw, 0, layout.inode_size)
        if inode is None:
            continue
        if run is not None and number == run.first + run.count and number % 64:
            run = replace(run, count=run.count + 1)
        else:
            if run is not None and run.set:
                yield run
            run = XfsInodeRun(number, 1, {})
        if not inode.mode and not run.set:
            change = told_structure(bytes(len(raw)), raw, setting(replay, layout, layout.inode_byte(number)))
            if change is not None:
                fields = {name: value for name, value in change.set.items() if name != _NUMBER}
                run = replace(run, set=fields)
    if run is not None and run.set:
        yield run


def recognise_superblock(replay: Replay, partition: str, target: XfsDsb) -> Iterator[XfsSuperblock]:
    """Tell how the superblock differs from what it is now."""
    fields = changed(read_superblock(replay.now(partition)), target, _DERIVED_SUPERBLOCK)
    if fields:
        yield XfsSuperblock(partition, fields)
