"""The header of a member in a cpio archive of SVR4's "new" format, with the names of the kernel's
``Documentation/driver-api/early-userspace/buffer-format.rst``.

Numbers are eight hexadecimal digits each. The name with its NUL follows, and is filled up to a multiple of four bytes
with the header; then the content, likewise.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

MAGIC = b"07070"  # of this format and of an older one, 070707
MAGIC_NEW = b"070701"
MAGIC_CRC = b"070702"  # with the sum of all bytes of the content in ``c_chksum``
ALIGNMENT = 4
TRAILER = "TRAILER!!!"
DIGITS = 8


class Header(Structure, byteorder=">"):
    """What every member begins with."""

    c_magic: bytes = field("6s")
    c_ino: bytes = field("8s")
    c_mode: bytes = field("8s")
    c_uid: bytes = field("8s")
    c_gid: bytes = field("8s")
    c_nlink: bytes = field("8s")
    c_mtime: bytes = field("8s")
    c_filesize: bytes = field("8s")
    c_maj: bytes = field("8s")
    c_min: bytes = field("8s")
    c_rmaj: bytes = field("8s")
    c_rmin: bytes = field("8s")
    c_namesize: bytes = field("8s")
    c_chksum: bytes = field("8s")


def aligned(size: int) -> int:
    """Round up to a multiple of four."""
    return -(-size // ALIGNMENT) * ALIGNMENT
