"""Structures of an erofs file system, with the names of the kernel's ``fs/erofs/erofs_fs.h``.

All are little-endian. Inodes lie in slots of 32 bytes from ``meta_blkaddr`` on, and are named by their slot, the nid.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

SUPER_OFFSET = 1024  # EROFS_SUPER_OFFSET
MAGIC = b"\xe2\xe1\xf5\xe0"  # EROFS_SUPER_MAGIC_V1
EXTENSION_SLOT = 16  # EROFS_SB_EXTSLOT_SIZE
SLOT_SIZE = 32  # 1 << EROFS_ISLOTBITS
MIN_BLOCK_BITS, MAX_BLOCK_BITS = 9, 16
XATTR_ENTRY = 4  # what i_xattr_icount counts, but for the header


class Compat(enum.IntFlag):
    """``feature_compat`` of the superblock."""

    SB_CHKSUM = 1 << 0


class Incompat(enum.IntFlag):
    """``feature_incompat`` of the superblock; some bits stand for two features that came together."""

    ZERO_PADDING = 1 << 0
    COMPR_CFGS = 1 << 1
    CHUNKED_FILE = 1 << 2
    DEVICE_TABLE = 1 << 3
    ZTAILPACKING = 1 << 4
    FRAGMENTS = 1 << 5
    XATTR_PREFIXES = 1 << 6


class Compression(enum.IntEnum):
    """``Z_EROFS_COMPRESSION_*``: the bits of ``available_compr_algs``."""

    LZ4 = 0
    LZMA = 1
    DEFLATE = 2
    ZSTD = 3


class Layout(enum.IntEnum):
    """``EROFS_INODE_*``: how an inode's data lies; bits 1 to 3 of ``i_format``."""

    FLAT_PLAIN = 0
    COMPRESSED_FULL = 1
    FLAT_INLINE = 2
    COMPRESSED_COMPACT = 3
    CHUNK_BASED = 4


class SuperBlock(Structure, byteorder="<"):
    """``struct erofs_super_block``, at byte 1024; ``u1`` is ``available_compr_algs`` or ``lz4_max_distance``."""

    magic: bytes = field("4s")
    checksum: int = field("I")
    feature_compat: int = field("I")
    blkszbits: int = field("B")
    sb_extslots: int = field("B")
    root_nid: int = field("H")
    inos: int = field("Q")
    build_time: int = field("Q")
    build_time_nsec: int = field("I")
    blocks: int = field("I")
    meta_blkaddr: int = field("I")
    xattr_blkaddr: int = field("I")
    uuid: bytes = field("16s")
    volume_name: bytes = field("16s")
    feature_incompat: int = field("I")
    u1: int = field("H")
    extra_devices: int = field("H")
    devt_slotoff: int = field("H")
    dirblkbits: int = field("B")
    xattr_prefix_count: int = field("B")
    xattr_prefix_start: int = field("I")
    packed_nid: int = field("Q")
    xattr_filter_reserved: int = field("B")
    reserved2: bytes = field("23s")


class InodeHead(Structure, byteorder="<"):
    """What both kinds of inodes begin with; ``i_format`` has the kind in bit 0 and the layout in the next three."""

    i_format: int = field("H")
    i_xattr_icount: int = field("H")
    i_mode: int = field("H")


class InodeCompact(InodeHead, byteorder="<"):
    """``struct erofs_inode_compact``; ``i_u`` is where the data begins, in blocks, or what the layout makes of it."""

    i_nlink: int = field("H")
    i_size: int = field("I")
    i_reserved: int = field("I")
    i_u: int = field("I")
    i_ino: int = field("I")
    i_uid: int = field("H")
    i_gid: int = field("H")
    i_reserved2: int = field("I")


class InodeExtended(InodeHead, byteorder="<"):
    """``struct erofs_inode_extended``; ``i_u`` as in the compact one."""

    i_reserved: int = field("H")
    i_size: int = field("Q")
    i_u: int = field("I")
    i_ino: int = field("I")
    i_uid: int = field("I")
    i_gid: int = field("I")
    i_mtime: int = field("Q")
    i_mtime_nsec: int = field("I")
    i_nlink: int = field("I")
    i_reserved2: bytes = field("16s")


class XattrHeader(Structure, byteorder="<"):
    """``struct erofs_xattr_ibody_header``, behind the inode where ``i_xattr_icount`` is not 0."""

    h_name_filter: int = field("I")
    h_shared_count: int = field("B")
    h_reserved2: bytes = field("7s")


class Dirent(Structure, byteorder="<"):
    """``struct erofs_dirent``; the names lie behind all entries of a block, each up to the next one's."""

    nid: int = field("Q")
    nameoff: int = field("H")
    file_type: int = field("B")
    reserved: int = field("B")
