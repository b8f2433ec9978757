"""On-disk structures of XFS, version 5 ("CRC enabled").

Source: Linux ``fs/xfs/libxfs/xfs_format.h``. All numbers are big-endian except checksums, which are little-endian
(``checksums.py`` reads them); they are declared as bytes here. Directories and attributes: ``c_xfs_da.py``.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

XFS_SB_MAGIC = 0x58465342  # "XFSB"
XFS_SB_VERSION_NUMBITS = 0x000F
XFS_SB_VERSION_5 = 5
XFS_AGF_MAGIC = 0x58414746  # "XAGF"
XFS_AGI_MAGIC = 0x58414749  # "XAGI"
XFS_AGFL_MAGIC = 0x5841464C  # "XAFL"
XFS_DINODE_MAGIC = 0x494E  # "IN"
XFS_SYMLINK_MAGIC = 0x58534C4D  # "XSLM"
XFS_BMAP_CRC_MAGIC = 0x424D4133  # "BMA3"
XFS_DQUOT_MAGIC = 0x4451  # "DQ"

XFS_AGI_UNLINKED_BUCKETS = 64
XFS_INODES_PER_CHUNK = 64
XFS_INODES_PER_HOLEMASK_BIT = 4
XFS_BTREE_MAXLEVELS = 9
XFS_AG_MIN_BYTES = 1 << 24
XFS_MAX_SYMLINK_LEN = 1024
NULLAGBLOCK = 0xFFFFFFFF
NULLFSINO = (1 << 64) - 1

# xfs_bmbt_rec: l0:63 unwritten, l0:9-62 startoff, l0:0-8 and l1:21-63 startblock, l1:0-20 blockcount
BMBT_STARTOFF_MASK = (1 << 54) - 1
BMBT_BLOCKCOUNT_MASK = (1 << 21) - 1
# refcount records of copy-on-write staging extents have this bit set in rc_startblock
XFS_REFC_COWFLAG = 1 << 31


class RoCompat(enum.IntFlag):
    """``sb_features_ro_compat``."""

    FINOBT = 1 << 0
    RMAPBT = 1 << 1
    REFLINK = 1 << 2
    INOBTCNT = 1 << 3


class Incompat(enum.IntFlag):
    """``sb_features_incompat``."""

    FTYPE = 1 << 0
    SPINODES = 1 << 1
    META_UUID = 1 << 2
    BIGTIME = 1 << 3
    NEEDSREPAIR = 1 << 4
    NREXT64 = 1 << 5
    EXCHRANGE = 1 << 6
    PARENT = 1 << 7
    METADIR = 1 << 8
    ZONED = 1 << 9
    ZONE_GAPS = 1 << 10


# METADIR and ZONED move the metadata of realtime devices; nothing that CoreOS makes has them.
SUPPORTED_INCOMPAT = (
    Incompat.FTYPE
    | Incompat.SPINODES
    | Incompat.META_UUID
    | Incompat.BIGTIME
    | Incompat.NEEDSREPAIR
    | Incompat.NREXT64
    | Incompat.EXCHRANGE
    | Incompat.PARENT
)


class DinodeFormat(enum.IntEnum):
    """``di_format`` and ``di_aformat``."""

    DEV = 0
    LOCAL = 1
    EXTENTS = 2
    BTREE = 3
    UUID = 4


class Diflag2(enum.IntFlag):
    """``di_flags2``."""

    DAX = 1 << 0
    REFLINK = 1 << 1
    COWEXTSIZE = 1 << 2
    BIGTIME = 1 << 3
    NREXT64 = 1 << 4
    METADATA = 1 << 5


class XfsDsb(Structure, byteorder=">"):
    """``struct xfs_dsb``: the superblock in the first sector of each allocation group."""

    sb_magicnum: int = field("I")
    sb_blocksize: int = field("I")
    sb_dblocks: int = field("Q")
    sb_rblocks: int = field("Q")
    sb_rextents: int = field("Q")
    sb_uuid: bytes = field("16s")
    sb_logstart: int = field("Q")
    sb_rootino: int = field("Q")
    sb_rbmino: int = field("Q")
    sb_rsumino: int = field("Q")
    sb_rextsize: int = field("I")
    sb_agblocks: int = field("I")
    sb_agcount: int = field("I")
    sb_rbmblocks: int = field("I")
    sb_logblocks: int = field("I")
    sb_versionnum: int = field("H")
    sb_sectsize: int = field("H")
    sb_inodesize: int = field("H")
    sb_inopblock: int = field("H")
    sb_fname: bytes = field("12s")
    sb_blocklog: int = field("B")
    sb_sectlog: int = field("B")
    sb_inodelog: int = field("B")
    sb_inopblog: int = field("B")
    sb_agblklog: int = field("B")
    sb_rextslog: int = field("B")
    sb_inprogress: int = field("B")
    sb_imax_pct: int = field("B")
    sb_icount: int = field("Q")
    sb_ifree: int = field("Q")
    sb_fdblocks: int = field("Q")
    sb_frextents: int = field("Q")
    sb_uquotino: int = field("Q")
    sb_gquotino: int = field("Q")
    sb_qflags: int = field("H")
    sb_flags: int = field("B")
    sb_shared_vn: int = field("B")
    sb_inoalignmt: int = field("I")
    sb_unit: int = field("I")
    sb_width: int = field("I")
    sb_dirblklog: int = field("B")
    sb_logsectlog: int = field("B")
    sb_logsectsize: int = field("H")
    sb_logsunit: int = field("I")
    sb_features2: int = field("I")
    sb_bad_features2: int = field("I")
    sb_features_compat: int = field("I")
    sb_features_ro_compat: int = field("I")
    sb_features_incompat: int = field("I")
    sb_features_log_incompat: int = field("I")
    sb_crc: bytes = field("4s")
    sb_spino_align: int = field("I")
    sb_pquotino: int = field("Q")
    sb_lsn: int = field("Q")
    sb_meta_uuid: bytes = field("16s")


class XfsAgf(Structure, byteorder=">"):
    """``struct xfs_agf``: free space of an allocation group, in its second sector."""

    agf_magicnum: int = field("I")
    agf_versionnum: int = field("I")
    agf_seqno: int = field("I")
    agf_length: int = field("I")
    agf_bno_root: int = field("I")
    agf_cnt_root: int = field("I")
    agf_rmap_root: int = field("I")
    agf_bno_level: int = field("I")
    agf_cnt_level: int = field("I")
    agf_rmap_level: int = field("I")
    agf_flfirst: int = field("I")
    agf_fllast: int = field("I")
    agf_flcount: int = field("I")
    agf_freeblks: int = field("I")
    agf_longest: int = field("I")
    agf_btreeblks: int = field("I")
    agf_uuid: bytes = field("16s")
    agf_rmap_blocks: int = field("I")
    agf_refcount_blocks: int = field("I")
    agf_refcount_root: int = field("I")
    agf_refcount_level: int = field("I")
    agf_spare64: bytes = field("112s")
    agf_lsn: int = field("Q")
    agf_crc: bytes = field("4s")
    agf_spare2: int = field("I")


class XfsAgi(Structure, byteorder=">"):
    """``struct xfs_agi``: inodes of an allocation group, in its third sector."""

    agi_magicnum: int = field("I")
    agi_versionnum: int = field("I")
    agi_seqno: int = field("I")
    agi_length: int = field("I")
    agi_count: int = field("I")
    agi_root: int = field("I")
    agi_level: int = field("I")
    agi_freecount: int = field("I")
    agi_newino: int = field("I")
    agi_dirino: int = field("I")
    agi_unlinked: bytes = field(f"{4 * XFS_AGI_UNLINKED_BUCKETS}s")
    agi_uuid: bytes = field("16s")
    agi_crc: bytes = field("4s")
    agi_pad32: int = field("I")
    agi_lsn: int = field("Q")
    agi_free_root: int = field("I")
    agi_free_level: int = field("I")
    agi_iblocks: int = field("I")
    agi_fblocks: int = field("I")


class XfsAgfl(Structure, byteorder=">"):
    """``struct xfs_agfl`` without ``agfl_bno[]``, which fills the rest of the fourth sector."""

    agfl_magicnum: int = field("I")
    agfl_seqno: int = field("I")
    agfl_uuid: bytes = field("16s")
    agfl_lsn: int = field("Q")
    agfl_crc: bytes = field("4s")


class XfsBtreeShort(Structure, byteorder=">"):
    """``struct xfs_btree_block`` with ``xfs_btree_block_shdr``: the btrees of an allocation group."""

    bb_magic: int = field("I")
    bb_level: int = field("H")
    bb_numrecs: int = field("H")
    bb_leftsib: int = field("I")
    bb_rightsib: int = field("I")
    bb_blkno: int = field("Q")
    bb_lsn: int = field("Q")
    bb_uuid: bytes = field("16s")
    bb_owner: int = field("I")
    bb_crc: bytes = field("4s")


class XfsBtreeLong(Structure, byteorder=">"):
    """``struct xfs_btree_block`` with ``xfs_btree_block_lhdr``: the block maps of inodes."""

    bb_magic: int = field("I")
    bb_level: int = field("H")
    bb_numrecs: int = field("H")
    bb_leftsib: int = field("Q")
    bb_rightsib: int = field("Q")
    bb_blkno: int = field("Q")
    bb_lsn: int = field("Q")
    bb_uuid: bytes = field("16s")
    bb_owner: int = field("Q")
    bb_crc: bytes = field("4s")
    bb_pad: int = field("I")


class XfsBmdrBlock(Structure, byteorder=">"):
    """``struct xfs_bmdr_block``: root of a block map inside an inode fork."""

    bb_level: int = field("H")
    bb_numrecs: int = field("H")


class XfsAllocRec(Structure, byteorder=">"):
    """``struct xfs_alloc_rec``, record and key of both free space btrees."""

    ar_startblock: int = field("I")
    ar_blockcount: int = field("I")


class XfsInobtRec(Structure, byteorder=">"):
    """``struct xfs_inobt_rec`` in its sparse form; without SPINODES the middle is one ``ir_freecount``."""

    ir_startino: int = field("I")
    ir_holemask: int = field("H")
    ir_count: int = field("B")
    ir_freecount: int = field("B")
    ir_free: int = field("Q")


class XfsRmapRec(Structure, byteorder=">"):
    """``struct xfs_rmap_rec``."""

    rm_startblock: int = field("I")
    rm_blockcount: int = field("I")
    rm_owner: int = field("Q")
    rm_offset: int = field("Q")


class XfsRefcountRec(Structure, byteorder=">"):
    """``struct xfs_refcount_rec``."""

    rc_startblock: int = field("I")
    rc_blockcount: int = field("I")
    rc_refcount: int = field("I")


class XfsBmbtRec(Structure, byteorder=">"):
    """``struct xfs_bmbt_rec``: one extent of a file."""

    l0: int = field("Q")
    l1: int = field("Q")


class XfsDinode(Structure, byteorder=">"):
    """``struct xfs_dinode``, version 3, without NREXT64."""

    di_magic: int = field("H")
    di_mode: int = field("H")
    di_version: int = field("B")
    di_format: int = field("B")
    di_metatype: int = field("H")
    di_uid: int = field("I")
    di_gid: int = field("I")
    di_nlink: int = field("I")
    di_projid_lo: int = field("H")
    di_projid_hi: int = field("H")
    di_v3_pad: int = field("Q")
    di_atime: int = field("Q")
    di_mtime: int = field("Q")
    di_ctime: int = field("Q")
    di_size: int = field("Q")
    di_nblocks: int = field("Q")
    di_extsize: int = field("I")
    di_nextents: int = field("I")
    di_anextents: int = field("H")
    di_forkoff: int = field("B")
    di_aformat: int = field("b")
    di_dmevmask: int = field("I")
    di_dmstate: int = field("H")
    di_flags: int = field("H")
    di_gen: int = field("I")
    di_next_unlinked: int = field("I")
    di_crc: bytes = field("4s")
    di_changecount: int = field("Q")
    di_lsn: int = field("Q")
    di_flags2: int = field("Q")
    di_cowextsize: int = field("I")
    di_pad2: bytes = field("12s")
    di_crtime: int = field("Q")
    di_ino: int = field("Q")
    di_uuid: bytes = field("16s")


class XfsDinodeNrext64(Structure, byteorder=">"):
    """``struct xfs_dinode``, version 3, where ``di_flags2`` has NREXT64: the extent counters moved."""

    di_magic: int = field("H")
    di_mode: int = field("H")
    di_version: int = field("B")
    di_format: int = field("B")
    di_metatype: int = field("H")
    di_uid: int = field("I")
    di_gid: int = field("I")
    di_nlink: int = field("I")
    di_projid_lo: int = field("H")
    di_projid_hi: int = field("H")
    di_big_nextents: int = field("Q")
    di_atime: int = field("Q")
    di_mtime: int = field("Q")
    di_ctime: int = field("Q")
    di_size: int = field("Q")
    di_nblocks: int = field("Q")
    di_extsize: int = field("I")
    di_big_anextents: int = field("I")
    di_nrext64_pad: int = field("H")
    di_forkoff: int = field("B")
    di_aformat: int = field("b")
    di_dmevmask: int = field("I")
    di_dmstate: int = field("H")
    di_flags: int = field("H")
    di_gen: int = field("I")
    di_next_unlinked: int = field("I")
    di_crc: bytes = field("4s")
    di_changecount: int = field("Q")
    di_lsn: int = field("Q")
    di_flags2: int = field("Q")
    di_cowextsize: int = field("I")
    di_pad2: bytes = field("12s")
    di_crtime: int = field("Q")
    di_ino: int = field("Q")
    di_uuid: bytes = field("16s")


class XfsDsymlinkHdr(Structure, byteorder=">"):
    """``struct xfs_dsymlink_hdr``: before each piece of a symlink target that does not fit the inode."""

    sl_magic: int = field("I")
    sl_offset: int = field("I")
    sl_bytes: int = field("I")
    sl_crc: bytes = field("4s")
    sl_uuid: bytes = field("16s")
    sl_owner: int = field("Q")
    sl_blkno: int = field("Q")
    sl_lsn: int = field("Q")


class XfsDqblk(Structure, byteorder=">"):
    """``struct xfs_dqblk``: the quota of one user, group or project (``struct xfs_disk_dquot`` and its trailer)."""

    d_magic: int = field("H")
    d_version: int = field("B")
    d_type: int = field("B")
    d_id: int = field("I")
    d_blk_hardlimit: int = field("Q")
    d_blk_softlimit: int = field("Q")
    d_ino_hardlimit: int = field("Q")
    d_ino_softlimit: int = field("Q")
    d_bcount: int = field("Q")
    d_icount: int = field("Q")
    d_itimer: int = field("I")
    d_btimer: int = field("I")
    d_iwarns: int = field("H")
    d_bwarns: int = field("H")
    d_pad0: int = field("I")
    d_rtb_hardlimit: int = field("Q")
    d_rtb_softlimit: int = field("Q")
    d_rtbcount: int = field("Q")
    d_rtbtimer: int = field("I")
    d_rtbwarns: int = field("H")
    d_pad: int = field("H")
    dd_fill: int = field("I")
    dd_crc: bytes = field("4s")
    dd_lsn: int = field("Q")
    dd_uuid: bytes = field("16s")
