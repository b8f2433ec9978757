"""Directory blocks: their entries, the index of large directories and the checksum tails.

Source: Linux ``fs/ext4/namei.c``, ``fs/ext4/dir.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from rehydrator.fs.ext4.c_ext4_dir import DIR_TAIL_TYPE, DirEntry, DirTail, DxCountLimit, DxEntry, DxRootInfo, DxTail

_ENTRY = struct.Struct("<IHBB")
_REC_LEN_64K = (0, 0xFFFF)
_DOT_SIZE = 12  # "." with its padding, the record before ".."
_ROOT_INFO = 2 * _DOT_SIZE


class Entry(NamedTuple):
    """A name in a directory (a tuple, as there may be very many)."""

    name: bytes
    inode: int
    file_type: int


class IndexBlock(msgspec.Struct, frozen=True):
    """The index part of a directory block; ``start`` is where ``struct dx_countlimit`` lies, in bytes."""

    start: int
    limit: int
    count: int

    @property
    def tail(self) -> int:
        """Byte offset of ``struct dx_tail``."""
        return self.start + self.limit * DxEntry.SIZE


def entries(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries in use of one directory block, ``.`` and ``..`` included; damage ends the block."""
    at, end, least = start, len(data), DirEntry.SIZE
    while at + least <= end:
        inode, rec_len, name_len, file_type = _ENTRY.unpack_from(data, at)
        if rec_len in _REC_LEN_64K:
            rec_len = end - at
        if rec_len < least or at + rec_len > end or name_len + least > rec_len:
            return
        if inode and name_len:
            yield Entry(data[at + least : at + least + name_len], inode, file_type)
        at += rec_len


def entries_problem(data: bytes) -> str | None:
    """Tell what is wrong with the records of a directory block."""
    at, end = 0, len(data)
    while at < end:
        if at + DirEntry.SIZE > end:
            return f"record at {at} is cut short"
        _, rec_len, name_len, _ = _ENTRY.unpack_from(data, at)
        if rec_len < DirEntry.SIZE or rec_len % 4 or at + rec_len > end:
            return f"record at {at}: rec_len is {rec_len}"
        if name_len + DirEntry.SIZE > rec_len:
            return f"record at {at}: name_len is {name_len}"
        at += rec_len
    return None


def has_tail(data: bytes | bytearray) -> bool:
    """Tell whether a directory block ends in ``struct ext4_dir_entry_tail``."""
    tail = DirTail.parse(data, len(data) - DirTail.SIZE)
    return (
        tail.det_reserved_zero1 == 0
        and tail.det_rec_len == DirTail.SIZE
        and tail.det_reserved_zero2 == 0
        and tail.det_reserved_ft == DIR_TAIL_TYPE
    )


def index_block(data: bytes) -> IndexBlock | None:
    """Return the index part of a block of an indexed directory, None for a leaf or an impossible index."""
    first = DirEntry.parse(data)
    if first.rec_len == len(data):  # an inner node hides behind one empty record; so does an empty leaf
        start = DirEntry.SIZE
        if first.inode or first.name_len:
            return None
    elif first.rec_len == _DOT_SIZE:
        second = DirEntry.parse(data, _DOT_SIZE)
        info = DxRootInfo.parse(data, _ROOT_INFO)
        if second.rec_len != len(data) - _DOT_SIZE or info.reserved_zero or info.info_length != DxRootInfo.SIZE:
            return None
        start = _ROOT_INFO + info.info_length
    else:
        return None
    numbers = DxCountLimit.parse(data, start)
    room = (len(data) - start) // DxEntry.SIZE
    if not 0 < numbers.count <= numbers.limit <= room:
        return None
    return IndexBlock(start, numbers.limit, numbers.count)


def index_has_tail(data: bytes, index: IndexBlock) -> bool:
    """Tell whether there is room for ``struct dx_tail`` behind the index entries."""
    return index.tail + DxTail.SIZE <= len(data)
