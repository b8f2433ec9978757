"""``ext4.inodes``: fields of inodes. Times refer to the manifest's table; checksums follow by themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from rehydrator.edits.ext4_allocation import Move, move_blocks
from rehydrator.edits.ext4_group import Span
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import Fields, Value, changed, updated
from rehydrator.edits.replay import Replay
from rehydrator.edits.times import TimeTable, ext4_time, ext4_words
from rehydrator.edits.words import listed
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.c_ext4 import EXTENT_MAGIC, ExtentHeader, ExtentLeaf, InodeFlag, LargeInode
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.inode import InodeInfo

DERIVED = ("i_checksum_lo", "i_checksum_hi")
_TIMES = ("i_atime", "i_ctime", "i_mtime", "i_crtime")
_TIME_FIELDS = frozenset({*_TIMES, "i_dtime"})
_TAIL = "i_xattr_ibody"
_HEX = "0x"


class ExtentRow(msgspec.Struct, array_like=True, frozen=True):
    """``length`` blocks of a file from block ``ee_block`` on lie from block ``start`` on in the file system."""

    ee_block: int
    length: int
    start: int


class InodeChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes in one inode.

    ``extents`` replaces the whole extent list: the file's content moves with it, the blocks it had are free again
    and the new ones taken.
    """

    inode: int
    path: str
    set: Fields = {}
    extents: list[ExtentRow] | None = None


class Ext4Inodes(msgspec.Struct, tag="ext4.inodes", tag_field="op", frozen=True):
    """Changes of inodes in one partition."""

    partition: str
    inodes: list[InodeChange]

    def apply(self, replay: Replay) -> None:
        """Set the fields of each inode."""
        state = replay.state(Ext4State, self.partition)
        moves: list[Move] = []
        for change in self.inodes:
            inode = state.now.inode(change.inode)
            state.put_inode(change.inode, changed_inode(inode, change.set, change.extents, replay.times))
            if change.extents is not None:
                state.move_content(change.inode)
                moves.append(Move(_blocks(state.before, inode), _blocks(state.now, state.now.inode(change.inode))))
        move_blocks(state, moves)

    def describe(self) -> str:
        """Count inodes by what changes in them."""
        fields = [change.set.keys() for change in self.inodes]
        counts = {
            "inode time": sum(bool(keys & _TIME_FIELDS) for keys in fields),
            "inode generation": sum("i_generation" in keys for keys in fields),
            "other inode change": sum(bool(keys - _TIME_FIELDS - {"i_generation"}) for keys in fields),
            "moved file": sum(change.extents is not None for change in self.inodes),
        }
        return ", ".join(listed(counts))

    def literal_bytes(self) -> int:
        """Return none: every field has its name."""
        return 0


def _blocks(ext4: Ext4, inode: InodeInfo) -> list[Span]:
    """The blocks of a file in use."""
    if not inode.disk.i_links_count:
        return []
    return [Span(run.physical, run.count) for run in ext4.block_map(inode).runs]


def changed_inode(inode: InodeInfo, values: Fields, extents: list[ExtentRow] | None, times: TimeTable) -> bytes:
    """Return an inode's bytes with other field values and, where given, other extents; the checksum is left open."""
    fields: Fields = {}
    for name, value in values.items():
        if name in _TIMES and isinstance(value, str):
            fields[name], fields[f"{name}_extra"] = ext4_words(times.at(value))
        elif name == "i_dtime" and isinstance(value, str):
            fields[name] = times.at(value).sec
        elif name != _TAIL:
            fields[name] = value
    disk = updated(inode.disk, fields)
    raw = disk.pack() + inode.raw[disk.SIZE :]
    if _TAIL in values:
        raw = raw[: disk.SIZE] + _tail(values[_TAIL], len(raw) - disk.SIZE)
    if extents is not None:
        at = LargeInode.offset_of("i_block")
        block = _extent_root(extents)
        raw = raw[:at] + block + raw[at + len(block) :]
    return raw


def _tail(value: Value, size: int) -> bytes:
    try:
        return bytes.fromhex(str(value).removeprefix(_HEX)).ljust(size, b"\0")[:size]
    except ValueError as error:
        raise StoreDamagedError(f"impossible value for {_TAIL}", actual=repr(value)) from error


def _extent_root(rows: list[ExtentRow]) -> bytes:
    """The 60 bytes of ``i_block`` for extents that fit into the inode."""
    room = 4
    if len(rows) > room:
        raise StoreDamagedError("too many extents for an inode", expected=f"at most {room}", actual=len(rows))
    header = ExtentHeader(eh_magic=EXTENT_MAGIC, eh_entries=len(rows), eh_max=room, eh_depth=0, eh_generation=0)
    leaves = (
        ExtentLeaf(ee_block=r.ee_block, ee_len=r.length, ee_start_hi=r.start >> 32, ee_start_lo=r.start % (1 << 32))
        for r in rows
    )
    size = ExtentHeader.SIZE + room * ExtentLeaf.SIZE
    return (header.pack() + b"".join(leaf.pack() for leaf in leaves)).ljust(size, b"\0")


def _extent_rows(inode: InodeInfo) -> list[ExtentRow] | None:
    """The extents of an inode if :func:`_extent_root` gives its ``i_block`` back."""
    if not inode.flags & InodeFlag.EXTENTS:
        return None
    header = ExtentHeader.parse(inode.disk.i_block)
    if header.eh_magic != EXTENT_MAGIC or header.eh_depth or header.eh_entries > header.eh_max:
        return None
    rows = []
    for index in range(header.eh_entries):
        leaf = ExtentLeaf.parse(inode.disk.i_block, ExtentHeader.SIZE + index * ExtentLeaf.SIZE)
        rows.append(ExtentRow(leaf.ee_block, leaf.ee_len, leaf.ee_start_lo | leaf.ee_start_hi << 32))
    return rows if len(rows) <= 4 and _extent_root(rows) == inode.disk.i_block else None


def recognise(
    replay: Replay, partition: str, inodes: Iterable[tuple[InodeInfo, str]], sized: Collection[int]
) -> Iterator[Ext4Inodes]:
    """Tell how inodes (as they should be, with their paths) differ from what they are now.

    ``sized`` are inodes whose size follows from content that another edit brings.
    """
    now = replay.state(Ext4State, partition).now
    changes: list[InodeChange] = []
    for after, path in inodes:
        before = now.inode(after.number)
        change = inode_change(before, after, path, replay.times, sized)
        if change.set or change.extents is not None:
            changes.append(change)
    if changes:
        yield Ext4Inodes(partition, changes)


def inode_change(
    before: InodeInfo, after: InodeInfo, path: str, times: TimeTable, sized: Collection[int]
) -> InodeChange:
    """Tell how an inode becomes another one; see :func:`recognise`."""
    derived = set(DERIVED)
    if after.number in sized:
        derived.add("i_size_lo")
    fields = changed(before.disk, after.disk, derived)
    if isinstance(after.disk, LargeInode):
        _name_times(fields, after.disk, times)
    if fields.get("i_dtime"):
        fields["i_dtime"] = times.second(after.disk.i_dtime)
    extents = None
    if "i_block" in fields and (extents := _extent_rows(after)) is not None:
        del fields["i_block"]
    tail = slice(after.disk.SIZE, None)
    if before.raw[tail] != after.raw[tail]:
        fields[_TAIL] = _HEX + after.raw[tail].hex()
    ordered = {span.name: fields[span.name] for span in after.disk.FIELDS if span.name in fields}
    return InodeChange(after.number, path, ordered | fields, extents)


def _name_times(fields: Fields, disk: LargeInode, times: TimeTable) -> None:
    """Replace changed time words by names of moments."""
    for name in _TIMES:
        extra = f"{name}_extra"
        if name in fields or extra in fields:
            seconds, words = getattr(disk, name), getattr(disk, extra)
            time = ext4_time(seconds, words)
            if ext4_words(time) == (seconds, words):
                fields.pop(extra, None)
                fields[name] = times.intern(time)
