"""Directories: entries of the short form in the inode and of data blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from rehydrator.fs.xfs.c_xfs_da import (
    DATA_ENTRIES,
    XFS_DIR2_DATA_ALIGN,
    XFS_DIR2_DATA_FREE_TAG,
    XFS_DIR3_BLOCK_MAGIC,
    XFS_DIR3_DATA_MAGIC,
    XfsDir2BlockTail,
    XfsDir2LeafEntry,
)

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_UNUSED = struct.Struct(">HH")  # freetag, length
_ENTRY = struct.Struct(">QB")  # inumber, namelen
_TAIL = struct.Struct(">II")
_SF_HEADER = 2  # count, i8count
_SF_ENTRY = 3  # namelen, offset[2]
DATA_MAGICS = frozenset({XFS_DIR3_BLOCK_MAGIC, XFS_DIR3_DATA_MAGIC})


class Entry(NamedTuple):
    """A directory entry; ``offset`` and ``length`` are its bytes within the block or fork."""

    name: bytes
    inode: int
    offset: int
    length: int


def short_form(fork: bytes, ftype: bool) -> tuple[int, list[Entry]]:
    """Read a short-form directory: the parent's inode number and the entries (as far as they make sense)."""
    entries: list[Entry] = []
    if len(fork) < _SF_HEADER + 4:
        return 0, entries
    count, wide = fork[0], fork[1]
    number = _U64 if wide else _U32
    at = _SF_HEADER + number.size
    if at > len(fork):
        return 0, entries
    parent: int = number.unpack_from(fork, _SF_HEADER)[0]
    for _ in range(count):
        if at >= len(fork):
            break
        length = fork[at]
        where = at + _SF_ENTRY + length + ftype
        end = where + number.size
        if not length or end > len(fork):
            break
        name = bytes(fork[at + _SF_ENTRY : at + _SF_ENTRY + length])
        entries.append(Entry(name, number.unpack_from(fork, where)[0], at, end - at))
        at = end
    return parent, entries


def entries_end(block: bytes) -> int:
    """Where the entries of a data block end: before the leaf entries in a single-block directory."""
    end = len(block)
    if _U32.unpack_from(block)[0] == XFS_DIR3_BLOCK_MAGIC:
        count: int = _TAIL.unpack_from(block, end - XfsDir2BlockTail.SIZE)[0]
        return max(end - XfsDir2BlockTail.SIZE - count * XfsDir2LeafEntry.SIZE, DATA_ENTRIES)
    return end


def block_entries(block: bytes, ftype: bool) -> Iterator[Entry]:
    """Yield the entries of a data block, including ``.`` and ``..``; stops at the first impossible one."""
    at, end = DATA_ENTRIES, entries_end(block)
    fixed = _ENTRY.size + 2 + ftype + XFS_DIR2_DATA_ALIGN - 1  # tag and file type, to be rounded up
    while at + _ENTRY.size <= end:
        tag, length = _UNUSED.unpack_from(block, at)
        if tag == XFS_DIR2_DATA_FREE_TAG:
            if length < XFS_DIR2_DATA_ALIGN or length % XFS_DIR2_DATA_ALIGN:
                return
            at += length
            continue
        inode, size = _ENTRY.unpack_from(block, at)
        length = (size + fixed) & -XFS_DIR2_DATA_ALIGN
        if not size or at + length > end:
            return
        name = at + _ENTRY.size
        yield Entry(block[name : name + size], inode, at, length)
        at += length
