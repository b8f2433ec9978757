"""``xfs.inodes`` and ``xfs.superblock``: fields of XFS structures; checksums follow by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.replay import Replay
from rehydrator.edits.times import Time, TimeTable
from rehydrator.edits.words import listed
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs import Diflag2, XfsDinode, XfsDinodeNrext64, XfsDsb
from rehydrator.fs.xfs.checksums import Seal, reseal
from rehydrator.fs.xfs.geometry import Geometry, geometry, read_superblock

TIMES = ("di_atime", "di_mtime", "di_ctime", "di_crtime")
_DERIVED_INODE = ("di_crc",)
_DERIVED_SUPERBLOCK = ("sb_crc",)
_NSEC = 1_000_000_000
_BIGTIME_EPOCH = 1 << 31  # seconds before 1970 (XFS_BIGTIME_EPOCH_OFFSET)
_WORD = 1 << 32
_SIGN = 1 << 31

Dinode = XfsDinode | XfsDinodeNrext64


class XfsInodeChange(msgspec.Struct, frozen=True):
    """What changes in one inode."""

    inode: int
    path: str
    set: Fields


class XfsInodes(msgspec.Struct, tag="xfs.inodes", tag_field="op", frozen=True):
    """Changes of inodes in one partition."""

    partition: str
    inodes: list[XfsInodeChange]

    def apply(self, replay: Replay) -> None:
        """Set the fields of each inode."""
        layout = replay.state(xfs_layout, self.partition)
        for change in self.inodes:
            raw = inode_bytes(replay, self.partition, layout, change.inode)
            core = dinode(raw)
            fields = {
                name: encode_time(replay.times.at(value), core) if name in TIMES and isinstance(value, str) else value
                for name, value in change.set.items()
            }
            data = updated(core, fields).pack() + raw[core.SIZE :]
            replay.write(self.partition, layout.inode_byte(change.inode), reseal(Seal.INODE, data))

    def describe(self) -> str:
        """Count the inodes."""
        access = sum(set(change.set) == {"di_atime"} for change in self.inodes)
        other = len(self.inodes) - access
        return ", ".join(listed({"access time": access, "changed inode": other}))

    def literal_bytes(self) -> int:
        """Return none: every field has its name."""
        return 0


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


def dinode(raw: bytes) -> Dinode:
    """Parse the core of an inode with the counters where its flags say they are."""
    core = XfsDinode.parse(raw)
    return XfsDinodeNrext64.parse(raw) if core.di_flags2 & Diflag2.NREXT64 else core


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


def decode_time(value: int, core: Dinode) -> Time:
    """Read a timestamp: nanoseconds since the bigtime epoch, or two 32-bit halves."""
    if core.di_flags2 & Diflag2.BIGTIME:
        sec, nsec = divmod(value, _NSEC)
        return Time(sec - _BIGTIME_EPOCH, nsec)
    sec, nsec = value >> 32, value % _WORD
    return Time(sec - _WORD if sec >= _SIGN else sec, nsec)


def encode_time(time: Time, core: Dinode) -> int:
    """Write a timestamp; the inverse of :func:`decode_time`."""
    if core.di_flags2 & Diflag2.BIGTIME:
        return (time.sec + _BIGTIME_EPOCH) * _NSEC + time.nsec
    return (time.sec % _WORD) << 32 | time.nsec


def recognise_inodes(replay: Replay, partition: str, inodes: Iterable[tuple[int, str, bytes]]) -> Iterator[XfsInodes]:
    """Tell how inodes (number, path, bytes as they should be) differ in their core from what they are now."""
    layout = replay.state(xfs_layout, partition)
    changes: list[XfsInodeChange] = []
    for number, path, raw in inodes:
        before, after = dinode(inode_bytes(replay, partition, layout, number)), dinode(raw)
        if type(before) is not type(after):
            continue
        fields = changed(before, after, _DERIVED_INODE)
        _name_times(fields, after, replay.times)
        if fields:
            changes.append(XfsInodeChange(number, path, fields))
    if changes:
        yield XfsInodes(partition, changes)


def _name_times(fields: Fields, core: Dinode, times: TimeTable) -> None:
    for name in TIMES:
        if name in fields:
            value: int = getattr(core, name)
            time = decode_time(value, core)
            if encode_time(time, core) == value:
                fields[name] = times.intern(time)


def recognise_superblock(replay: Replay, partition: str, target: XfsDsb) -> Iterator[XfsSuperblock]:
    """Tell how the superblock differs from what it is now."""
    fields = changed(read_superblock(replay.now(partition)), target, _DERIVED_SUPERBLOCK)
    if fields:
        yield XfsSuperblock(partition, fields)
