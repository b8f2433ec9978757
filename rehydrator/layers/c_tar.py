"""Structures of tar archives: ustar, pax and GNU tar's own format with sparse members.

Source: POSIX.1-2017 ``pax`` ("ustar Interchange Format") and GNU tar ``src/tar.h`` (``posix_header``,
``oldgnu_header``, ``sparse_header``). Numbers are octal text; GNU tar writes those that do not fit in base 256.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

BLOCKSIZE = 512
RECORDSIZE = 20 * BLOCKSIZE  # what GNU tar fills an archive up to
MAGIC = b"ustar"
MAGIC_OFFSET = 257
TMAGIC = b"ustar\x0000"  # magic and version of POSIX
OLDGNU_MAGIC = b"ustar  \0"
BASE_256 = 0x80
SPARSES_IN_OLDGNU_HEADER = 4
SPARSES_IN_SPARSE_HEADER = 21


class Type(enum.StrEnum):
    """Values of ``typeflag``."""

    REGULAR = "0"
    OLD_REGULAR = "\0"
    CONTIGUOUS = "7"
    GNU_SPARSE = "S"
    GNU_LONGNAME = "L"
    GNU_LONGLINK = "K"
    PAX_HEADER = "x"
    PAX_GLOBAL = "g"


FILES = (Type.REGULAR, Type.OLD_REGULAR, Type.CONTIGUOUS, Type.GNU_SPARSE)
ABOUT_FILES = (Type.GNU_LONGNAME, Type.GNU_LONGLINK, Type.PAX_HEADER, Type.PAX_GLOBAL)


class PosixHeader(Structure, byteorder=">"):
    """The header block of a member."""

    name: bytes = field("100s")
    mode: bytes = field("8s")
    uid: bytes = field("8s")
    gid: bytes = field("8s")
    size: bytes = field("12s")
    mtime: bytes = field("12s")
    chksum: bytes = field("8s")
    typeflag: bytes = field("1s")
    linkname: bytes = field("100s")
    magic: bytes = field("8s")  # with the version
    uname: bytes = field("32s")
    gname: bytes = field("32s")
    devmajor: bytes = field("8s")
    devminor: bytes = field("8s")
    tail: bytes = field("167s")  # UstarTail or OldGnuTail


class UstarTail(Structure, byteorder=">"):
    """End of a header block of POSIX."""

    prefix: bytes = field("155s")
    pad: bytes = field("12s")


class OldGnuTail(Structure, byteorder=">"):
    """End of a header block of GNU tar."""

    atime: bytes = field("12s")
    ctime: bytes = field("12s")
    offset: bytes = field("12s")
    longnames: bytes = field("4s")
    unused: bytes = field("1s")
    sp: bytes = field("96s")  # 4 SparseEntry
    isextended: int = field("B")
    realsize: bytes = field("12s")
    pad: bytes = field("17s")


class SparseEntry(Structure, byteorder=">"):
    """A piece of a sparse file that the archive holds."""

    offset: bytes = field("12s")
    numbytes: bytes = field("12s")


class SparseHeader(Structure, byteorder=">"):
    """A block with more pieces."""

    sp: bytes = field("504s")  # 21 SparseEntry
    isextended: int = field("B")
    pad: bytes = field("7s")
