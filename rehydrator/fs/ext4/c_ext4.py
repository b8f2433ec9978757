"""On-disk structures of ext4.

Source: Linux ``fs/ext4/ext4.h``, ``ext4_extents.h``; the field names are the kernel's (the
short macro names for members of unions). All numbers are little-endian.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

SUPER_OFFSET = 1024
SUPER_MAGIC = 0xEF53
EXTENT_MAGIC = 0xF30A
ORPHAN_MAGIC = 0x0B10CA04
ORPHAN_SIZE = 4  # bytes of an entry of the orphan file, a little-endian inode number
CHECKSUM_CRC32C = 1
GOOD_OLD_REV = 0
GOOD_OLD_INODE_SIZE = 128
GOOD_OLD_FIRST_INODE = 11
GOOD_OLD_DESC_SIZE = 32
MAX_EXTENT_LENGTH = 0x8000  # a longer ee_len means an unwritten extent of ee_len - MAX_EXTENT_LENGTH blocks
MAX_EXTENT_DEPTH = 5
DIRECT_BLOCKS = 12  # of i_block, before the indirect, double and triple indirect block
POINTERS = 15


class Compat(enum.IntFlag):
    """``s_feature_compat``."""

    DIR_PREALLOC = 0x1
    IMAGIC_INODES = 0x2
    HAS_JOURNAL = 0x4
    EXT_ATTR = 0x8
    RESIZE_INODE = 0x10
    DIR_INDEX = 0x20
    LAZY_BG = 0x40
    EXCLUDE_BITMAP = 0x100
    SPARSE_SUPER2 = 0x200
    FAST_COMMIT = 0x400
    STABLE_INODES = 0x800
    ORPHAN_FILE = 0x1000


class Incompat(enum.IntFlag):
    """``s_feature_incompat``."""

    COMPRESSION = 0x1
    FILETYPE = 0x2
    RECOVER = 0x4
    JOURNAL_DEV = 0x8
    META_BG = 0x10
    EXTENTS = 0x40
    BIT64 = 0x80
    MMP = 0x100
    FLEX_BG = 0x200
    EA_INODE = 0x400
    DIRDATA = 0x1000
    CSUM_SEED = 0x2000
    LARGEDIR = 0x4000
    INLINE_DATA = 0x8000
    ENCRYPT = 0x10000
    CASEFOLD = 0x20000


class RoCompat(enum.IntFlag):
    """``s_feature_ro_compat``."""

    SPARSE_SUPER = 0x1
    LARGE_FILE = 0x2
    BTREE_DIR = 0x4
    HUGE_FILE = 0x8
    GDT_CSUM = 0x10
    DIR_NLINK = 0x20
    EXTRA_ISIZE = 0x40
    HAS_SNAPSHOT = 0x80
    QUOTA = 0x100
    BIGALLOC = 0x200
    METADATA_CSUM = 0x400
    REPLICA = 0x800
    READONLY = 0x1000
    PROJECT = 0x2000
    SHARED_BLOCKS = 0x4000
    VERITY = 0x8000
    ORPHAN_PRESENT = 0x10000


class State(enum.IntFlag):
    """``s_state``."""

    VALID_FS = 0x1
    ERROR_FS = 0x2
    ORPHAN_FS = 0x4
    FC_REPLAY = 0x20


class GroupFlag(enum.IntFlag):
    """``bg_flags``."""

    INODE_UNINIT = 0x1
    BLOCK_UNINIT = 0x2
    INODE_ZEROED = 0x4


class InodeFlag(enum.IntFlag):
    """The part of ``i_flags`` that decides how an inode is read."""

    INDEX = 0x1000
    EXTENTS = 0x80000
    EA_INODE = 0x200000
    INLINE_DATA = 0x10000000


class FileType(enum.IntEnum):
    """The file type in the upper four bits of ``i_mode``."""

    NONE = 0
    FIFO = 0x1000
    CHARACTER = 0x2000
    DIRECTORY = 0x4000
    BLOCK = 0x6000
    REGULAR = 0x8000
    SYMLINK = 0xA000
    SOCKET = 0xC000


FILE_TYPE_MASK = 0xF000


class ReservedInode(enum.IntEnum):
    """Inodes with a fixed number."""

    BAD = 1
    ROOT = 2
    USR_QUOTA = 3
    GRP_QUOTA = 4
    BOOT_LOADER = 5
    UNDEL_DIR = 6
    RESIZE = 7
    JOURNAL = 8
    EXCLUDE = 9
    REPLICA = 10


class SuperBlock(Structure, byteorder="<"):
    """``struct ext4_super_block``, 1024 bytes at byte 1024 of the file system."""

    s_inodes_count: int = field("I")
    s_blocks_count_lo: int = field("I")
    s_r_blocks_count_lo: int = field("I")
    s_free_blocks_count_lo: int = field("I")
    s_free_inodes_count: int = field("I")
    s_first_data_block: int = field("I")
    s_log_block_size: int = field("I")
    s_log_cluster_size: int = field("I")
    s_blocks_per_group: int = field("I")
    s_clusters_per_group: int = field("I")
    s_inodes_per_group: int = field("I")
    s_mtime: int = field("I")
    s_wtime: int = field("I")
    s_mnt_count: int = field("H")
    s_max_mnt_count: int = field("H")
    s_magic: int = field("H")
    s_state: int = field("H")
    s_errors: int = field("H")
    s_minor_rev_level: int = field("H")
    s_lastcheck: int = field("I")
    s_checkinterval: int = field("I")
    s_creator_os: int = field("I")
    s_rev_level: int = field("I")
    s_def_resuid: int = field("H")
    s_def_resgid: int = field("H")
    s_first_ino: int = field("I")
    s_inode_size: int = field("H")
    s_block_group_nr: int = field("H")
    s_feature_compat: int = field("I")
    s_feature_incompat: int = field("I")
    s_feature_ro_compat: int = field("I")
    s_uuid: bytes = field("16s")
    s_volume_name: bytes = field("16s")
    s_last_mounted: bytes = field("64s")
    s_algorithm_usage_bitmap: int = field("I")
    s_prealloc_blocks: int = field("B")
    s_prealloc_dir_blocks: int = field("B")
    s_reserved_gdt_blocks: int = field("H")
    s_journal_uuid: bytes = field("16s")
    s_journal_inum: int = field("I")
    s_journal_dev: int = field("I")
    s_last_orphan: int = field("I")
    s_hash_seed: bytes = field("16s")
    s_def_hash_version: int = field("B")
    s_jnl_backup_type: int = field("B")
    s_desc_size: int = field("H")
    s_default_mount_opts: int = field("I")
    s_first_meta_bg: int = field("I")
    s_mkfs_time: int = field("I")
    s_jnl_blocks: bytes = field("68s")
    s_blocks_count_hi: int = field("I")
    s_r_blocks_count_hi: int = field("I")
    s_free_blocks_count_hi: int = field("I")
    s_min_extra_isize: int = field("H")
    s_want_extra_isize: int = field("H")
    s_flags: int = field("I")
    s_raid_stride: int = field("H")
    s_mmp_update_interval: int = field("H")
    s_mmp_block: int = field("Q")
    s_raid_stripe_width: int = field("I")
    s_log_groups_per_flex: int = field("B")
    s_checksum_type: int = field("B")
    s_encryption_level: int = field("B")
    s_reserved_pad: int = field("B")
    s_kbytes_written: int = field("Q")
    s_snapshot_inum: int = field("I")
    s_snapshot_id: int = field("I")
    s_snapshot_r_blocks_count: int = field("Q")
    s_snapshot_list: int = field("I")
    s_error_count: int = field("I")
    s_first_error_time: int = field("I")
    s_first_error_ino: int = field("I")
    s_first_error_block: int = field("Q")
    s_first_error_func: bytes = field("32s")
    s_first_error_line: int = field("I")
    s_last_error_time: int = field("I")
    s_last_error_ino: int = field("I")
    s_last_error_line: int = field("I")
    s_last_error_block: int = field("Q")
    s_last_error_func: bytes = field("32s")
    s_mount_opts: bytes = field("64s")
    s_usr_quota_inum: int = field("I")
    s_grp_quota_inum: int = field("I")
    s_overhead_clusters: int = field("I")
    s_backup_bgs: bytes = field("8s")
    s_encrypt_algos: bytes = field("4s")
    s_encrypt_pw_salt: bytes = field("16s")
    s_lpf_ino: int = field("I")
    s_prj_quota_inum: int = field("I")
    s_checksum_seed: int = field("I")
    s_wtime_hi: int = field("B")
    s_mtime_hi: int = field("B")
    s_mkfs_time_hi: int = field("B")
    s_lastcheck_hi: int = field("B")
    s_first_error_time_hi: int = field("B")
    s_last_error_time_hi: int = field("B")
    s_first_error_errcode: int = field("B")
    s_last_error_errcode: int = field("B")
    s_encoding: int = field("H")
    s_encoding_flags: int = field("H")
    s_orphan_file_inum: int = field("I")
    s_def_resuid_hi: int = field("H")
    s_def_resgid_hi: int = field("H")
    s_reserved: bytes = field("372s")
    s_checksum: int = field("I")


class GroupDesc(Structure, byteorder="<"):
    """``struct ext4_group_desc`` without the 64-bit feature, 32 bytes."""

    bg_block_bitmap_lo: int = field("I")
    bg_inode_bitmap_lo: int = field("I")
    bg_inode_table_lo: int = field("I")
    bg_free_blocks_count_lo: int = field("H")
    bg_free_inodes_count_lo: int = field("H")
    bg_used_dirs_count_lo: int = field("H")
    bg_flags: int = field("H")
    bg_exclude_bitmap_lo: int = field("I")
    bg_block_bitmap_csum_lo: int = field("H")
    bg_inode_bitmap_csum_lo: int = field("H")
    bg_itable_unused_lo: int = field("H")
    bg_checksum: int = field("H")


class GroupDesc64(GroupDesc, byteorder="<"):
    """``struct ext4_group_desc``, 64 bytes."""

    bg_block_bitmap_hi: int = field("I")
    bg_inode_bitmap_hi: int = field("I")
    bg_inode_table_hi: int = field("I")
    bg_free_blocks_count_hi: int = field("H")
    bg_free_inodes_count_hi: int = field("H")
    bg_used_dirs_count_hi: int = field("H")
    bg_itable_unused_hi: int = field("H")
    bg_exclude_bitmap_hi: int = field("I")
    bg_block_bitmap_csum_hi: int = field("H")
    bg_inode_bitmap_csum_hi: int = field("H")
    bg_reserved: int = field("I")


class Inode(Structure, byteorder="<"):
    """``struct ext4_inode`` up to ``EXT4_GOOD_OLD_INODE_SIZE``, 128 bytes."""

    i_mode: int = field("H")
    i_uid: int = field("H")
    i_size_lo: int = field("I")
    i_atime: int = field("I")
    i_ctime: int = field("I")
    i_mtime: int = field("I")
    i_dtime: int = field("I")
    i_gid: int = field("H")
    i_links_count: int = field("H")
    i_blocks_lo: int = field("I")
    i_flags: int = field("I")
    i_version: int = field("I")
    i_block: bytes = field("60s")
    i_generation: int = field("I")
    i_file_acl_lo: int = field("I")
    i_size_high: int = field("I")
    i_obso_faddr: int = field("I")
    i_blocks_high: int = field("H")
    i_file_acl_high: int = field("H")
    i_uid_high: int = field("H")
    i_gid_high: int = field("H")
    i_checksum_lo: int = field("H")
    i_reserved: int = field("H")


class LargeInode(Inode, byteorder="<"):
    """``struct ext4_inode``, 160 bytes; of the part from 128 on only ``i_extra_isize`` bytes are fields."""

    i_extra_isize: int = field("H")
    i_checksum_hi: int = field("H")
    i_ctime_extra: int = field("I")
    i_mtime_extra: int = field("I")
    i_atime_extra: int = field("I")
    i_crtime: int = field("I")
    i_crtime_extra: int = field("I")
    i_version_hi: int = field("I")
    i_projid: int = field("I")


class ExtentHeader(Structure, byteorder="<"):
    """``struct ext4_extent_header``, 12 bytes."""

    eh_magic: int = field("H")
    eh_entries: int = field("H")
    eh_max: int = field("H")
    eh_depth: int = field("H")
    eh_generation: int = field("I")


class ExtentLeaf(Structure, byteorder="<"):
    """``struct ext4_extent``, 12 bytes."""

    ee_block: int = field("I")
    ee_len: int = field("H")
    ee_start_hi: int = field("H")
    ee_start_lo: int = field("I")


class ExtentIndex(Structure, byteorder="<"):
    """``struct ext4_extent_idx``, 12 bytes."""

    ei_block: int = field("I")
    ei_leaf_lo: int = field("I")
    ei_leaf_hi: int = field("H")
    ei_unused: int = field("H")


class ExtentTail(Structure, byteorder="<"):
    """``struct ext4_extent_tail``: behind ``eh_max`` entries of an extent block."""

    et_checksum: int = field("I")


class OrphanTail(Structure, byteorder="<"):
    """``struct ext4_orphan_block_tail``: the last 8 bytes of a block of the orphan file."""

    ob_magic: int = field("I")
    ob_checksum: int = field("I")


class MmpBlock(Structure, byteorder="<"):
    """``struct mmp_struct``: the block of multi-mount protection."""

    mmp_magic: int = field("I")
    mmp_seq: int = field("I")
    mmp_time: int = field("Q")
    mmp_nodename: bytes = field("64s")
    mmp_bdevname: bytes = field("32s")
    mmp_check_interval: int = field("H")
    mmp_pad1: int = field("H")
    mmp_pad2: bytes = field("904s")
    mmp_checksum: int = field("I")
