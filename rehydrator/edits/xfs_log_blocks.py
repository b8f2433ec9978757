"""The log of an XFS partition during a replay: a ring of basic blocks."""

from __future__ import annotations

from rehydrator.edits.replay import Replay
from rehydrator.edits.xfs_inodes import xfs_layout
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs_log import BBSIZE, XlogRecHeader
from rehydrator.fs.xfs.geometry import Geometry
from rehydrator.fs.xfs.log import make_lsn


class LogBlocks:
    """The log of a partition during a replay."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self.replay = replay
        self.partition = partition
        self.layout: Geometry = replay.state(xfs_layout, partition)
        self.blocks = self.layout.log.length // BBSIZE

    def write(self, block: int, data: bytes) -> None:
        """Write whole blocks; the log is a ring."""
        if not 0 <= block < self.blocks or len(data) > self.blocks * BBSIZE:
            raise StoreDamagedError("an edit leaves the log", actual=block)
        first = data[: (self.blocks - block) * BBSIZE]
        self.replay.write(self.partition, self.layout.log.offset + block * BBSIZE, first)
        if len(first) < len(data):
            self.replay.write(self.partition, self.layout.log.offset, data[len(first) :])

    def before(self, block: int, count: int) -> bytes:
        """Return blocks of the base's log."""
        if not 0 <= block < self.blocks or not 0 <= count <= self.blocks:
            raise StoreDamagedError("an edit leaves the log", actual=block)
        source = self.replay.before(self.partition)
        first = min(count, self.blocks - block)
        data = bytes(source.read(self.layout.log.offset + block * BBSIZE, first * BBSIZE))
        if first < count:
            data += bytes(source.read(self.layout.log.offset, (count - first) * BBSIZE))
        return data


def at_block(header: XlogRecHeader, block: int) -> XlogRecHeader:
    """Return a record header for another place in the log: its sequence number is cycle and block."""
    return header.replaced(h_lsn=make_lsn(header.h_cycle, block))
