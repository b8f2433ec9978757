"""Inodes: their core, their forks and the extents of a fork."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from rehydrator.fs.xfs.btree import BMBT, BtreeBlock
from rehydrator.fs.xfs.c_xfs import (
    BMBT_BLOCKCOUNT_MASK,
    BMBT_STARTOFF_MASK,
    XFS_DINODE_MAGIC,
    Diflag2,
    DinodeFormat,
    XfsBmbtRec,
    XfsDinode,
)

CORE_SIZE = XfsDinode.SIZE
# di_magic, di_mode, di_version, di_format, di_big_nextents, di_size, di_nextents, di_anextents, di_forkoff,
# di_aformat, di_flags2: one unpacking for all, since mapping reads every inode
CORE = struct.Struct(">HHBB18xQ24xQ12xIHBb36xQ48x")
RECORD = struct.Struct(">QQ")
_NREXT64 = int(Diflag2.NREXT64)  # plain numbers: flag arithmetic is slow
_FORKOFF_SHIFT = 3
_REGULAR = stat.S_IFREG >> 12
_EXTENTS = int(DinodeFormat.EXTENTS)
_LOCAL = int(DinodeFormat.LOCAL)
_MAX_PLAIN = 8  # fits any fork that is not crowded out by attributes


class Mapping(NamedTuple):
    """An extent of a fork, in file system blocks: ``start_block`` is an ``xfs_fsblock_t``."""

    start_offset: int
    start_block: int
    blocks: int
    unwritten: bool


class Inode(msgspec.Struct, frozen=True):
    """What is needed of an inode to find its data. ``size`` in bytes; the forks are the inode's own bytes."""

    number: int
    mode: int
    format: int
    attribute_format: int
    size: int
    extents: int
    attribute_extents: int
    flags2: int
    data_fork: bytes
    attribute_fork: bytes

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)


def parse_inode(number: int, data: bytes, offset: int, size: int) -> Inode | None:
    """Read the inode in ``data[offset:offset + size]``; None when it isn't one."""
    if CORE.size + offset > len(data):
        return None
    (magic, mode, version, form, big, length, extents, attribute_extents, forkoff, aformat, flags2) = CORE.unpack_from(
        data, offset
    )
    if magic != XFS_DINODE_MAGIC or version != 3:
        return None
    if flags2 & _NREXT64:
        extents, attribute_extents = big, extents
    literal = offset + CORE_SIZE
    end = offset + size
    border = min(literal + (forkoff << _FORKOFF_SHIFT), end) if forkoff else end
    return Inode(
        number, mode, form, aformat, length, extents, attribute_extents, flags2,
        data[literal:border], data[border:end] if forkoff else b"",
    )  # fmt: skip


def plain_file(data: bytes, offset: int) -> tuple[int, int] | None:
    """Return size and number of extents of a regular file that lists its extents in the inode and has nothing else.

    That is nearly every inode; None for all others, which :func:`parse_inode` reads.
    """
    magic, mode, version, form, big, size, extents, other, forkoff, aformat, flags2 = CORE.unpack_from(data, offset)
    if magic != XFS_DINODE_MAGIC or version != 3 or mode >> 12 != _REGULAR or form != _EXTENTS:
        return None
    if flags2 & _NREXT64:
        extents, other = big, extents
    if forkoff and (
        (aformat != _LOCAL and (aformat != _EXTENTS or other)) or extents * RECORD.size > forkoff << _FORKOFF_SHIFT
    ):
        return None  # attributes in blocks of their own
    return None if extents > _MAX_PLAIN else (size, extents)


def decode_records(data: bytes, offset: int, count: int) -> Iterator[Mapping]:
    """Decode ``count`` bmbt records (as many of them as there are bytes)."""
    count = max(min(count, (len(data) - offset) // XfsBmbtRec.SIZE), 0)
    for at in range(offset, offset + count * XfsBmbtRec.SIZE, XfsBmbtRec.SIZE):
        l0, l1 = RECORD.unpack_from(data, at)
        yield Mapping(
            (l0 >> 9) & BMBT_STARTOFF_MASK,
            (l0 & 0x1FF) << 43 | l1 >> 21,
            l1 & BMBT_BLOCKCOUNT_MASK,
            bool(l0 >> 63),
        )


def fork_mappings(form: int, fork: bytes, extents: int, blocks: Iterable[BtreeBlock]) -> Iterator[Mapping]:
    """Yield the extents of a fork; ``blocks`` are those of its btree, if it has one."""
    if form == DinodeFormat.EXTENTS:
        yield from decode_records(fork, 0, extents)
    elif form == DinodeFormat.BTREE:
        for block in blocks:
            if block.level == 0:
                yield from decode_records(block.data, BMBT.header_size, block.records)
