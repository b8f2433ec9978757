"""Walking the btrees of an allocation group, and of inode forks, whose roots lie inside the inode."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from rehydrator.fs.xfs.c_xfs import (
    XFS_BMAP_CRC_MAGIC,
    XFS_BTREE_MAXLEVELS,
    XfsAllocRec,
    XfsBmbtRec,
    XfsBmdrBlock,
    XfsBtreeLong,
    XfsBtreeShort,
    XfsInobtRec,
    XfsRefcountRec,
    XfsRmapRec,
)
from rehydrator.fs.xfs.geometry import Geometry
from rehydrator.fs.xfs.reader import Reader
from rehydrator.fs.xfs.segments import Role


class BtreeKind(msgspec.Struct, frozen=True):
    """A kind of btree. ``key_size`` is that of a node's key (low and high key for rmapbt); sizes in bytes."""

    role: Role
    name: str
    magic: int
    record_size: int
    key_size: int
    long: bool = False

    @property
    def header_size(self) -> int:
        """Bytes before the records."""
        return XfsBtreeLong.SIZE if self.long else XfsBtreeShort.SIZE

    @property
    def pointer_size(self) -> int:
        """Bytes of a pointer to a child."""
        return 8 if self.long else 4

    def max_records(self, block_size: int, level: int) -> int:
        """How many records (level 0) or keys and pointers fit into a block."""
        entry = self.record_size if level == 0 else self.key_size + self.pointer_size
        return (block_size - self.header_size) // entry

    def pointers_offset(self, block_size: int, level: int) -> int:
        """Where the pointers of a node begin."""
        return self.header_size + self.max_records(block_size, level) * self.key_size


BNOBT = BtreeKind(Role.BNOBT, "bnobt", 0x41423342, XfsAllocRec.SIZE, 8)  # "AB3B"
CNTBT = BtreeKind(Role.CNTBT, "cntbt", 0x41423343, XfsAllocRec.SIZE, 8)  # "AB3C"
INOBT = BtreeKind(Role.INOBT, "inobt", 0x49414233, XfsInobtRec.SIZE, 4)  # "IAB3"
FINOBT = BtreeKind(Role.FINOBT, "finobt", 0x46494233, XfsInobtRec.SIZE, 4)  # "FIB3"
RMAPBT = BtreeKind(Role.RMAPBT, "rmapbt", 0x524D4233, XfsRmapRec.SIZE, 40)  # "RMB3"
REFCOUNTBT = BtreeKind(Role.REFCOUNTBT, "refcountbt", 0x52334643, XfsRefcountRec.SIZE, 4)  # "R3FC"
BMBT = BtreeKind(Role.BMBT, "bmbt", XFS_BMAP_CRC_MAGIC, XfsBmbtRec.SIZE, 8, long=True)
KINDS = {kind.role: kind for kind in (BNOBT, CNTBT, INOBT, FINOBT, RMAPBT, REFCOUNTBT, BMBT)}

_HEAD = struct.Struct(">IHH")  # bb_magic, bb_level, bb_numrecs


class BtreeBlock(msgspec.Struct, frozen=True):
    """A block that belongs to a btree; ``data`` is its content, ``offset`` in bytes."""

    offset: int
    level: int
    records: int
    data: bytes


class BtreeWalker:
    """Visits blocks of btrees, each block of the file system at most once."""

    def __init__(self, reader: Reader, geometry: Geometry) -> None:
        self._reader = reader
        self._geometry = geometry
        self._visited: set[int] = set()

    def group(self, kind: BtreeKind, ag: int, root: int, levels: int) -> Iterator[BtreeBlock]:
        """Walk a btree of allocation group ``ag`` whose header says it has ``levels`` levels, leaves in order."""
        name = f"{kind.name} of AG {ag}"
        if not 0 < levels <= XFS_BTREE_MAXLEVELS:
            self._reader.report(name, self._geometry.ag_byte(ag), f"impossible number of levels {levels}")
            return
        yield from self._descend(kind, name, ag, root, levels - 1)

    def fork(self, name: str, fork: bytes) -> Iterator[BtreeBlock]:
        """Walk the block map whose root is the inode fork ``fork``."""
        root = XfsBmdrBlock.parse(fork) if len(fork) >= XfsBmdrBlock.SIZE else None
        most = fork_max_records(len(fork))
        if root is None or not 0 < root.bb_level < XFS_BTREE_MAXLEVELS or root.bb_numrecs > most:
            self._reader.report(name, 0, "impossible block map root in the inode")
            return
        first = XfsBmdrBlock.SIZE + most * BMBT.key_size
        for child in struct.unpack_from(f">{root.bb_numrecs}Q", fork, first):
            yield from self._descend(BMBT, name, -1, child, root.bb_level - 1)

    def _offset(self, ag: int, block: int) -> int:
        """Byte offset of a pointer's block, -1 where there is none. AG -1 stands for absolute pointers."""
        geometry = self._geometry
        if ag < 0:
            return geometry.fsblock_byte(block) if geometry.fsblock_valid(block, 1) else -1
        return geometry.ag_byte(ag, block) if 0 < block < geometry.ag_length(ag) else -1

    def _descend(self, kind: BtreeKind, name: str, ag: int, block: int, level: int) -> Iterator[BtreeBlock]:
        offset = self._offset(ag, block)
        size = self._geometry.block_size
        data = self._reader.read(offset, size)
        if not data:
            self._reader.report(name, 0, f"{kind.name} pointer to block {block}, which does not exist")
            return
        if offset in self._visited:
            self._reader.report(name, offset, f"{kind.name} block is reached twice")
            return
        magic, found, records = _HEAD.unpack_from(data)
        if magic != kind.magic:
            self._reader.report(name, offset, f"no {kind.name} block where one should be")
            return
        self._visited.add(offset)
        most = kind.max_records(size, level)
        if found != level or records > most:
            self._reader.report(name, offset, f"{kind.name} block has impossible level {found} or {records} records")
            yield BtreeBlock(offset, level, 0, data)
            return
        yield BtreeBlock(offset, level, records, data)
        if level:
            code = "Q" if kind.long else "I"
            for child in struct.unpack_from(f">{records}{code}", data, kind.pointers_offset(size, level)):
                yield from self._descend(kind, name, ag, child, level - 1)


def fork_max_records(fork_size: int) -> int:
    """Keys and pointers that fit into a btree root in an inode fork of ``fork_size`` bytes (``xfs_bmdr_maxrecs``)."""
    return (fork_size - XfsBmdrBlock.SIZE) // (BMBT.key_size + BMBT.pointer_size)
