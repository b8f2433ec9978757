"""Structures of a squashfs 4.0 file system, with the names of the kernel's ``fs/squashfs/squashfs_fs.h``.

All are little-endian. Metadata lies in blocks of 8192 bytes before compression, each behind its size in two bytes.
"""

from __future__ import annotations

import enum
import struct

from rehydrator.binary import Structure, field

MAGIC = b"hsqs"
MAJOR, MINOR = 4, 0
METADATA_SIZE = 8192
METADATA_HEADER = struct.Struct("<H")
METADATA_UNCOMPRESSED = 1 << 15  # SQUASHFS_COMPRESSED_BIT, which is set for what is not compressed
BLOCK_UNCOMPRESSED = 1 << 24  # SQUASHFS_COMPRESSED_BIT_BLOCK, likewise
BLOCK_SIZE_MASK = BLOCK_UNCOMPRESSED - 1
MIN_BLOCK, MAX_BLOCK = 1 << 12, 1 << 20  # SQUASHFS_FILE_MAX_SIZE
INVALID_FRAG = 0xFFFFFFFF
INVALID_BLK = 0xFFFFFFFFFFFFFFFF
POINTER = struct.Struct("<Q")
BLOCK_WORD = struct.Struct("<I")  # size of a stored block, with its bit
ID_SIZE = 4
INODE_NUMBER_SHIFT = 16  # an inode is named by the place of its metadata block << 16 | its offset therein


class Flag(enum.IntFlag):
    """``flags`` of the superblock that matter here: what is not compressed, and whether options follow."""

    UNCOMPRESSED_INODES = 1 << 0
    UNCOMPRESSED_FRAGMENTS = 1 << 3
    UNCOMPRESSED_XATTRS = 1 << 8
    COMP_OPT = 1 << 10
    UNCOMPRESSED_IDS = 1 << 11


class Compression(enum.IntEnum):
    """``compression`` of the superblock."""

    GZIP = 1
    LZMA = 2
    LZO = 3
    XZ = 4
    LZ4 = 5
    ZSTD = 6


class InodeType(enum.IntEnum):
    """``inode_type``: the seven kinds of files, and the same with extended inodes."""

    DIR = 1
    REG = 2
    SYMLINK = 3
    BLKDEV = 4
    CHRDEV = 5
    FIFO = 6
    SOCKET = 7
    LDIR = 8
    LREG = 9
    LSYMLINK = 10
    LBLKDEV = 11
    LCHRDEV = 12
    LFIFO = 13
    LSOCKET = 14


class SuperBlock(Structure, byteorder="<"):
    """``struct squashfs_super_block``, at the start of the file system."""

    s_magic: bytes = field("4s")
    inodes: int = field("I")
    mkfs_time: int = field("I")
    block_size: int = field("I")
    fragments: int = field("I")
    compression: int = field("H")
    block_log: int = field("H")
    flags: int = field("H")
    no_ids: int = field("H")
    s_major: int = field("H")
    s_minor: int = field("H")
    root_inode: int = field("Q")
    bytes_used: int = field("Q")
    id_table_start: int = field("Q")
    xattr_id_table_start: int = field("Q")
    inode_table_start: int = field("Q")
    directory_table_start: int = field("Q")
    fragment_table_start: int = field("Q")
    lookup_table_start: int = field("Q")


class GzipOptions(Structure, byteorder="<"):
    """``struct gzip_comp_opts`` of squashfs-tools' ``gzip_wrapper.h``."""

    compression_level: int = field("i")
    window_size: int = field("h")
    strategy: int = field("h")


class XzOptions(Structure, byteorder="<"):
    """``struct disk_comp_opts`` of the kernel's ``xz_wrapper.c``; ``flags`` has a bit for each filter."""

    dictionary_size: int = field("i")
    flags: int = field("i")


class ZstdOptions(Structure, byteorder="<"):
    """``struct zstd_comp_opts`` of squashfs-tools' ``zstd_wrapper.h``."""

    compression_level: int = field("i")


class FragmentEntry(Structure, byteorder="<"):
    """``struct squashfs_fragment_entry``: a block that holds the ends of several files."""

    start_block: int = field("Q")
    size: int = field("I")
    unused: int = field("I")


class XattrIdTable(Structure, byteorder="<"):
    """``struct squashfs_xattr_id_table``, in front of the pointers to the blocks with the ``squashfs_xattr_id``."""

    xattr_table_start: int = field("Q")
    xattr_ids: int = field("I")
    unused: int = field("I")


class XattrId(Structure, byteorder="<"):
    """``struct squashfs_xattr_id``."""

    xattr: int = field("Q")
    count: int = field("I")
    size: int = field("I")


class BaseInode(Structure, byteorder="<"):
    """``struct squashfs_base_inode``, with which every inode begins."""

    inode_type: int = field("H")
    mode: int = field("H")
    uid: int = field("H")
    guid: int = field("H")
    mtime: int = field("I")
    inode_number: int = field("I")


class RegInode(BaseInode, byteorder="<"):
    """``struct squashfs_reg_inode``; the words of the file's blocks follow."""

    start_block: int = field("I")
    fragment: int = field("I")
    offset: int = field("I")
    file_size: int = field("I")


class LregInode(BaseInode, byteorder="<"):
    """``struct squashfs_lreg_inode``; the words of the file's blocks follow."""

    start_block: int = field("Q")
    file_size: int = field("Q")
    sparse: int = field("Q")
    nlink: int = field("I")
    fragment: int = field("I")
    offset: int = field("I")
    xattr: int = field("I")


class DirInode(BaseInode, byteorder="<"):
    """``struct squashfs_dir_inode``."""

    start_block: int = field("I")
    nlink: int = field("I")
    file_size: int = field("H")
    offset: int = field("H")
    parent_inode: int = field("I")


class LdirInode(BaseInode, byteorder="<"):
    """``struct squashfs_ldir_inode``; ``i_count`` entries of an index follow."""

    nlink: int = field("I")
    file_size: int = field("I")
    start_block: int = field("I")
    parent_inode: int = field("I")
    i_count: int = field("H")
    offset: int = field("H")
    xattr: int = field("I")


class DirIndex(Structure, byteorder="<"):
    """``struct squashfs_dir_index``; a name of ``size`` + 1 bytes follows."""

    index: int = field("I")
    start_block: int = field("I")
    size: int = field("I")


class SymlinkInode(BaseInode, byteorder="<"):
    """``struct squashfs_symlink_inode``; the target of ``symlink_size`` bytes follows, then an extended one's xattr."""

    nlink: int = field("I")
    symlink_size: int = field("I")


class DevInode(BaseInode, byteorder="<"):
    """``struct squashfs_dev_inode``; an extended one's xattr follows."""

    nlink: int = field("I")
    rdev: int = field("I")


class IpcInode(BaseInode, byteorder="<"):
    """``struct squashfs_ipc_inode``; an extended one's xattr follows."""

    nlink: int = field("I")


XATTR_SIZE = 4  # of the number that ends extended inodes but those of files and directories


class DirHeader(Structure, byteorder="<"):
    """``struct squashfs_dir_header``, in front of ``count`` + 1 entries."""

    count: int = field("I")
    start_block: int = field("I")
    inode_number: int = field("I")


class DirEntry(Structure, byteorder="<"):
    """``struct squashfs_dir_entry``; a name of ``size`` + 1 bytes follows."""

    offset: int = field("H")
    inode_number: int = field("h")
    type: int = field("H")
    size: int = field("H")
