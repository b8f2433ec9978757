"""Checksums of XFS: ``~crc32c(~0, structure with the checksum zeroed)``, stored little-endian.

Source: Linux ``fs/xfs/libxfs/xfs_cksum.h`` and ``xlog_cksum`` in ``fs/xfs/xfs_log.c``. Everything here is pure.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from rehydrator.codecs.crc32c import crc32c
from rehydrator.fs.xfs.c_xfs import (
    XfsAgf,
    XfsAgfl,
    XfsAgi,
    XfsBtreeLong,
    XfsBtreeShort,
    XfsDinode,
    XfsDqblk,
    XfsDsb,
    XfsDsymlinkHdr,
)
from rehydrator.fs.xfs.c_xfs_da import XfsAttr3RmtHdr, XfsDa3Blkinfo, XfsDir3BlkHdr
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XLOG_HEADER_CYCLE_SIZE,
    XLOG_VERSION_2,
    XlogRecExtHeader,
    XlogRecHeader,
)

_ALL_ONES = 0xFFFFFFFF
_CRC = struct.Struct("<I")
_NO_CRC = bytes(_CRC.size)


class Seal(enum.Enum):
    """Kinds of structures with a checksum; the value is the checksum's byte offset and its field."""

    SUPERBLOCK = (XfsDsb.offset_of("sb_crc"), "sb_crc")
    AGF = (XfsAgf.offset_of("agf_crc"), "agf_crc")
    AGI = (XfsAgi.offset_of("agi_crc"), "agi_crc")
    AGFL = (XfsAgfl.offset_of("agfl_crc"), "agfl_crc")
    BTREE_SHORT = (XfsBtreeShort.offset_of("bb_crc"), "bb_crc")
    BTREE_LONG = (XfsBtreeLong.offset_of("bb_crc"), "bb_crc ")  # enum values must differ even where offsets agree
    INODE = (XfsDinode.offset_of("di_crc"), "di_crc")
    DIRECTORY_DATA = (XfsDir3BlkHdr.offset_of("crc"), "crc")
    DA_BLOCK = (XfsDa3Blkinfo.offset_of("crc"), "crc")
    ATTRIBUTE_REMOTE = (XfsAttr3RmtHdr.offset_of("rm_crc"), "rm_crc")
    SYMLINK = (XfsDsymlinkHdr.offset_of("sl_crc"), "sl_crc")
    DQUOT = (XfsDqblk.offset_of("dd_crc"), "dd_crc")

    def __init__(self, offset: int, _field: str) -> None:
        """Keep the byte offset of the checksum within the structure as ``offset``: it is asked for all the time."""
        self.offset = offset


class Sealed(msgspec.Struct, frozen=True):
    """A structure with a checksum: ``length`` bytes at byte ``offset`` of the file system."""

    seal: Seal
    offset: int
    length: int


def expected(seal: Seal, data: bytes | bytearray | memoryview) -> int:
    """Return the checksum that the whole structure ``data`` should have."""
    end = seal.offset + _CRC.size
    crc = crc32c(_ALL_ONES, bytes(data[: seal.offset]) + _NO_CRC)
    return crc32c(crc, bytes(data[end:])) ^ _ALL_ONES


def stored(seal: Seal, data: bytes | bytearray | memoryview) -> int:
    """Return the checksum that ``data`` has."""
    value: int = _CRC.unpack_from(data, seal.offset)[0]
    return value


def reseal(seal: Seal, data: bytes | bytearray | memoryview) -> bytes:
    """Return ``data`` with its checksum made right."""
    return b"".join((data[: seal.offset], _CRC.pack(expected(seal, data)), data[seal.offset + _CRC.size :]))


def header_blocks(header: XlogRecHeader) -> int:
    """Return how many basic blocks the header of a log record takes (``xlog_logrec_hblks``)."""
    if header.h_version & XLOG_VERSION_2 and header.h_size > XLOG_HEADER_CYCLE_SIZE:
        return -(-header.h_size // XLOG_HEADER_CYCLE_SIZE)
    return 1


def expected_record(headers: bytes, payload: bytes) -> int:
    """Return ``h_crc`` of a log record.

    ``headers`` are its header blocks and ``payload`` its ``h_len`` bytes, both as they are on disk, that is with
    the cycle number in the first word of each basic block.
    """
    at = XlogRecHeader.offset_of("h_crc")
    crc = crc32c(_ALL_ONES, headers[:at] + _NO_CRC + headers[at + _CRC.size : XlogRecHeader.SIZE])
    for start in range(BBSIZE, len(headers), BBSIZE):
        crc = crc32c(crc, headers[start : start + XlogRecExtHeader.SIZE])
    return crc32c(crc, payload) ^ _ALL_ONES


def stored_record(headers: bytes) -> int:
    """Return ``h_crc`` as it is stored; zero in the record that mkfs.xfs writes."""
    value: int = _CRC.unpack_from(headers, XlogRecHeader.offset_of("h_crc"))[0]
    return value


def reseal_record(headers: bytes, payload: bytes) -> bytes:
    """Return ``headers`` with ``h_crc`` made right."""
    at = XlogRecHeader.offset_of("h_crc")
    return headers[:at] + _CRC.pack(expected_record(headers, payload)) + headers[at + _CRC.size :]
