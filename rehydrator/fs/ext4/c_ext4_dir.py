"""On-disk structures of ext4's directories.

Source: Linux ``fs/ext4/ext4.h`` and ``namei.c``; the field names are the kernel's. All numbers are little-endian.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

DIR_TAIL_TYPE = 0xDE


class DirEntry(Structure, byteorder="<"):
    """``struct ext4_dir_entry_2`` without its name, 8 bytes."""

    inode: int = field("I")
    rec_len: int = field("H")
    name_len: int = field("B")
    file_type: int = field("B")


class DirTail(Structure, byteorder="<"):
    """``struct ext4_dir_entry_tail``: the last 12 bytes of a directory block."""

    det_reserved_zero1: int = field("I")
    det_rec_len: int = field("H")
    det_reserved_zero2: int = field("B")
    det_reserved_ft: int = field("B")
    det_checksum: int = field("I")


class DxRootInfo(Structure, byteorder="<"):
    """``struct dx_root_info``: in block 0 of an indexed directory, behind ``.`` and ``..``."""

    reserved_zero: int = field("I")
    hash_version: int = field("B")
    info_length: int = field("B")
    indirect_levels: int = field("B")
    unused_flags: int = field("B")


class DxCountLimit(Structure, byteorder="<"):
    """``struct dx_countlimit``: over the hash of the first ``dx_entry``."""

    limit: int = field("H")
    count: int = field("H")


class DxEntry(Structure, byteorder="<"):
    """``struct dx_entry``, 8 bytes."""

    hash: int = field("I")
    block: int = field("I")


class DxTail(Structure, byteorder="<"):
    """``struct dx_tail``: behind ``limit`` index entries."""

    dt_reserved: int = field("I")
    dt_checksum: int = field("I")


class DxMapEntry(Structure, byteorder="<"):
    """``struct dx_map_entry``: by which a split sorts entries, at the end of the new block until entries lie there."""

    hash: int = field("I")
    offs: int = field("H")
    size: int = field("H")
