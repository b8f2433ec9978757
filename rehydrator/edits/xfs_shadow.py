"""What the regions of log items are made from: the file system as the log has told it so far.

What an item carries comes from the structure that it is about: as the disk has it by then, or as it was logged last
before (on top of the base), which :class:`Shadow` follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rehydrator.disk.overlay import Overlay
from rehydrator.edits.literal import LiteralRun, write_runs
from rehydrator.edits.replay import Replay
from rehydrator.edits.xfs_change import Setting
from rehydrator.edits.xfs_inodes import inode_bytes, setting, xfs_layout
from rehydrator.edits.xfs_items import LoggedBuffer, LoggedInode
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs import XfsDinode

CRC_SIZE = 4
MAX_BUFFER = 1 << 16
_CRC = XfsDinode.offset_of("di_crc")
_LITERAL_COST = 1000  # a byte without a name is worse than any amount of names


class Shadow:
    """The file system as the log has told it so far, on top of the base; and as the edits have left it."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self._replay = replay
        self._partition = partition
        self.layout = replay.state(xfs_layout, partition)
        self._logged = Overlay(replay.before(partition))
        self._size = replay.partition(partition).size
        self.lsns: list[int] = []  # of the records that are told, with which buffers may have been written

    def setting(self, offset: int) -> Setting:
        """Return what a change at byte ``offset`` depends on."""
        return setting(self._replay, self.layout, offset)

    def read(self, offset: int, size: int, *, now: bool) -> bytes:
        """Return bytes of the file system, as they are ``now`` or as logged last."""
        if not 0 < size <= MAX_BUFFER or not 0 <= offset <= self._size - size:
            raise StoreDamagedError("a log item leaves its partition", path=self._partition, offset=offset)
        return bytes((self._replay.now(self._partition) if now else self._logged).read(offset, size))

    def write(self, offset: int, data: bytes) -> None:
        """Remember what was logged."""
        self._logged.write(offset, data)

    def inode(self, number: int, *, now: bool) -> bytes:
        """Return an inode as it is logged, which is without checksum."""
        inode_bytes(self._replay, self._partition, self.layout, number)  # checks the number
        raw = self.read(self.layout.inode_byte(number), self.layout.inode_size, now=now)
        return raw[:_CRC] + bytes(CRC_SIZE) + raw[_CRC + CRC_SIZE :]


class Trial(Shadow):
    """A shadow that forgets what is tried."""

    def __init__(self, shadow: Shadow) -> None:
        self.__dict__.update(shadow.__dict__)

    def write(self, offset: int, data: bytes) -> None:
        """Forget it."""


def cost(item: LoggedInode | LoggedBuffer) -> int:
    """Return what telling an item costs: bytes without a name, then the length of its text."""
    change = item.forks if isinstance(item, LoggedInode) else item.change
    runs = [*item.runs, *(change.runs if change else [])]
    return sum(len(run.data) for run in runs) * _LITERAL_COST + len(msgspec.json.encode(item))


def with_runs(regions: list[bytes], runs: Sequence[LiteralRun]) -> list[bytes]:
    """Return ``regions``, over whose bytes in a row ``runs`` were written."""
    data = bytearray(b"".join(regions))
    write_runs(data, runs)
    made: list[bytes] = []
    at = 0
    for region in regions:
        made.append(bytes(data[at : at + len(region)]))
        at += len(region)
    return made
