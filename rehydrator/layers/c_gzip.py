"""Structures of gzip files.

Source: RFC 1952. All numbers are little-endian.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

MAGIC = b"\x1f\x8b\x08"  # with the compression method, deflate
CM_DEFLATE = 8
XFL_SLOWEST = 2
XFL_FASTEST = 4
OS_UNIX = 3


class Flag(enum.IntFlag):
    """Bits of ``FLG``."""

    FTEXT = 1 << 0
    FHCRC = 1 << 1
    FEXTRA = 1 << 2
    FNAME = 1 << 3
    FCOMMENT = 1 << 4


class Header(Structure, byteorder="<"):
    """The head of a member; with ``FNAME`` a file name follows that ends with a zero byte."""

    ID: bytes = field("2s")
    CM: int = field("B")
    FLG: int = field("B")
    MTIME: int = field("I")
    XFL: int = field("B")
    OS: int = field("B")


class Trailer(Structure, byteorder="<"):
    """The end of a member."""

    CRC32: int = field("I")
    ISIZE: int = field("I")
