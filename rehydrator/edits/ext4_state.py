"""Changing structures of an ext4 file system in a replay, each sealed with its checksum again."""

from __future__ import annotations

from collections.abc import Iterable

from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4 import checksums, dirblock
from rehydrator.fs.ext4.blocks import Run
from rehydrator.fs.ext4.c_ext4 import SUPER_OFFSET, Inode
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.inode import InodeInfo


class Ext4State:
    """One ext4 partition during a replay: ``now`` as edited so far, ``before`` as it was."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self._replay = replay
        self._partition = partition
        self.before = Ext4(replay.before(partition))
        self._now: Ext4 | None = None

    @property
    def now(self) -> Ext4:
        """The file system as it is now; its superblock and descriptors are read again after they were written."""
        if self._now is None:
            self._now = Ext4(self._replay.now(self._partition))
        return self._now

    def forget(self) -> None:
        """Have superblock and descriptors read again: another hand may have written them."""
        self._now = None

    @property
    def tails(self) -> bool:
        """Whether directory blocks end in a checksum."""
        return self.before.geometry.metadata_csum

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Write bytes; ``offset`` from the start of the file system."""
        self._replay.write(self._partition, offset, data)

    def put_superblock(self, raw: bytes) -> None:
        """Write the primary superblock with its checksum."""
        data = bytearray(raw)
        if self.before.geometry.metadata_csum:
            checksums.SUPERBLOCK.put(data, checksums.expected_superblock(raw))
        self.write(SUPER_OFFSET, data)
        self.forget()

    def put_inode(self, number: int, raw: bytes) -> None:
        """Write an inode with its checksum; blocks that its generation seals are sealed again."""
        ext4 = self.now
        offset = ext4.inode_offset(number)
        old = InodeInfo.parse(number, ext4.read(offset, len(raw)))
        data = bytearray(raw)
        if ext4.geometry.metadata_csum:
            checksums.inode_slot(raw).put(data, checksums.expected_inode(ext4.seed, number, raw))
        self.write(offset, data)
        new = InodeInfo.parse(number, bytes(data))
        if ext4.geometry.metadata_csum and new.is_dir and old.disk.i_generation != new.disk.i_generation:
            self._seal_directory(new)

    def _seal_directory(self, inode: InodeInfo) -> None:
        ext4 = self.now
        for run in ext4.block_map(inode).runs:
            for block in range(run.physical, run.physical + run.count):
                self.put_directory_block(inode, block, ext4.read_block(block))

    def put_directory_block(self, inode: InodeInfo, block: int, data: bytes) -> None:
        """Write a block of a directory with its checksum."""
        self.write(block * self.before.geometry.block_size, self.sealed_directory_block(inode, data))

    def sealed_directory_block(self, inode: InodeInfo, data: bytes) -> bytes:
        """Return a block of a directory with its checksum, if the file system has such."""
        if not self.before.geometry.metadata_csum:
            return data
        seed = checksums.inode_seed(self.before.seed, inode.number, inode.disk.i_generation)
        return dirblock.sealed_block(data, seed)

    def read_file(self, number: int, limit: int) -> bytes:
        """Return the content of a file as it is now."""
        return self.now.read_file(number, limit)

    def put_content(self, number: int, content: bytes) -> None:
        """Give a file other content in the blocks it has now, padded with zeros, and the size that follows."""
        ext4 = self.now
        inode = ext4.inode(number)
        size = ext4.geometry.block_size
        runs = ext4.block_map(inode).runs
        if content and (not runs or max(run.logical + run.count for run in runs) * size < len(content)):
            raise StoreDamagedError(f"inode {number} has no room for its content", actual=f"{len(content)} bytes")
        self._fill(runs, content)
        raw = bytearray(inode.raw)
        at = Inode.offset_of("i_size_lo")
        raw[at : at + 4] = len(content).to_bytes(4, "little")
        self.put_inode(number, bytes(raw))

    def _fill(self, runs: Iterable[Run], content: bytes) -> None:
        size = self.before.geometry.block_size
        for run in runs:
            part = content[run.logical * size : (run.logical + run.count) * size]
            self.write(run.physical * size, part.ljust(run.count * size, b"\0"))

    def move_content(self, number: int, limit: int = 64 << 20) -> None:
        """Put the content that a file had before all edits into the blocks it has now."""
        ext4 = self.now
        inode = ext4.inode(number)
        if inode.size and inode.size <= limit and ext4.has_blocks(inode):
            self._fill(ext4.block_map(inode).runs, self.before.read_file(number, limit))
