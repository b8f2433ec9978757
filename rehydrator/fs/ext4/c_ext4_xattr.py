"""On-disk structures of ext4's extended attributes.

Source: Linux ``fs/ext4/xattr.h``; the field names are the kernel's. All numbers are little-endian.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

XATTR_MAGIC = 0xEA020000


class XattrHeader(Structure, byteorder="<"):
    """``struct ext4_xattr_header``: the first 32 bytes of an attribute block."""

    h_magic: int = field("I")
    h_refcount: int = field("I")
    h_blocks: int = field("I")
    h_hash: int = field("I")
    h_checksum: int = field("I")
    h_reserved: bytes = field("12s")


class XattrIbodyHeader(Structure, byteorder="<"):
    """``struct ext4_xattr_ibody_header``: before the attributes within an inode."""

    h_magic: int = field("I")


class XattrEntry(Structure, byteorder="<"):
    """``struct ext4_xattr_entry`` without its name, 16 bytes."""

    e_name_len: int = field("B")
    e_name_index: int = field("B")
    e_value_offs: int = field("H")
    e_value_inum: int = field("I")
    e_value_size: int = field("I")
    e_hash: int = field("I")


XATTR_PREFIXES = {
    0: "",
    1: "user.",
    2: "system.posix_acl_access",
    3: "system.posix_acl_default",
    4: "trusted.",
    6: "security.",
    7: "system.",
    8: "system.richacl",
    9: "encryption.",
    10: "hurd.",
}
