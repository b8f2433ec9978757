"""On-disk structures of the XFS log.

Source: Linux ``fs/xfs/libxfs/xfs_log_format.h``. Record and operation headers are big-endian; what the operations
carry is in the byte order of the host that wrote it, little-endian here (``h_fmt`` 1).
"""

from __future__ import annotations

import enum

from rehydrator.binary import FieldSpan, Structure, field

BBSIZE = 512  # the log counts basic blocks, whatever the sector size
XLOG_HEADER_MAGIC_NUM = 0xFEEDBABE
XLOG_VERSION_2 = 2
XLOG_HEADER_CYCLE_SIZE = 32 * 1024
XLOG_CYCLE_DATA_SIZE = XLOG_HEADER_CYCLE_SIZE // BBSIZE
XLOG_MAX_RECORD_BSIZE = 256 * 1024
XLOG_FMT_LINUX_LE = 1
XLOG_UNMOUNT_TYPE = 0x556E
XFS_TRANS_HEADER_MAGIC = 0x5452414E
XFS_BLF_CHUNK = 128
XFS_BLFT_SHIFT = 11


class XlogOpFlag(enum.IntFlag):
    """``oh_flags``."""

    START_TRANS = 0x01
    COMMIT_TRANS = 0x02
    CONTINUE_TRANS = 0x04
    WAS_CONT_TRANS = 0x08
    END_TRANS = 0x10
    UNMOUNT_TRANS = 0x20


class LogItem(enum.IntEnum):
    """Types of log items, ``XFS_LI_*``."""

    EFI = 0x1236
    EFD = 0x1237
    IUNLINK = 0x1238
    INODE = 0x123B
    BUF = 0x123C
    DQUOT = 0x123D
    QUOTAOFF = 0x123E
    ICREATE = 0x123F
    RUI = 0x1240
    RUD = 0x1241
    CUI = 0x1242
    CUD = 0x1243
    BUI = 0x1244
    BUD = 0x1245
    ATTRI = 0x1246
    ATTRD = 0x1247
    XMI = 0x1248
    XMD = 0x1249


class BlfType(enum.IntEnum):
    """What a logged buffer is, ``enum xfs_blft``; upper bits of ``blf_flags``."""

    UNKNOWN = 0
    UDQUOT = 1
    PDQUOT = 2
    GDQUOT = 3
    BTREE = 4
    AGF = 5
    AGFL = 6
    AGI = 7
    DINO = 8
    SYMLINK = 9
    DIR_BLOCK = 10
    DIR_DATA = 11
    DIR_FREE = 12
    DIR_LEAF1 = 13
    DIR_LEAFN = 14
    DA_NODE = 15
    ATTR_LEAF = 16
    ATTR_RMT = 17
    SB = 18
    RTBITMAP = 19
    RTSUMMARY = 20


class IlogField(enum.IntFlag):
    """``ilf_fields``: which parts of an inode follow, in this order."""

    CORE = 0x001
    DDATA = 0x002
    DEXT = 0x004
    DBROOT = 0x008
    DEV = 0x010
    UUID = 0x020
    ADATA = 0x040
    AEXT = 0x080
    ABROOT = 0x100
    DOWNER = 0x200
    AOWNER = 0x400


class XlogRecHeader(Structure, byteorder=">"):
    """``struct xlog_rec_header``: the first basic block of a record."""

    h_magicno: int = field("I")
    h_cycle: int = field("I")
    h_version: int = field("I")
    h_len: int = field("I")
    h_lsn: int = field("Q")
    h_tail_lsn: int = field("Q")
    h_crc: bytes = field("4s")
    h_prev_block: int = field("I")
    h_num_logops: int = field("I")
    h_cycle_data: bytes = field(f"{4 * XLOG_CYCLE_DATA_SIZE}s")
    h_fmt: int = field("I")
    h_fs_uuid: bytes = field("16s")
    h_size: int = field("I")
    h_pad0: int = field("I")


class XlogRecExtHeader(Structure, byteorder=">"):
    """``struct xlog_rec_ext_header``: further header blocks of records above 32 KiB, up to ``xh_cycle_data``."""

    xh_cycle: int = field("I")
    xh_cycle_data: bytes = field(f"{4 * XLOG_CYCLE_DATA_SIZE}s")


class XlogOpHeader(Structure, byteorder=">"):
    """``struct xlog_op_header``: before each operation of a record."""

    oh_tid: int = field("I")
    oh_len: int = field("I")
    oh_clientid: int = field("B")
    oh_flags: int = field("B")
    oh_res2: int = field("H")


class XfsTransHeader(Structure, byteorder="<"):
    """``struct xfs_trans_header``."""

    th_magic: int = field("I")
    th_type: int = field("I")
    th_tid: int = field("I")
    th_num_items: int = field("I")


class XfsInodeLogFormat(Structure, byteorder="<"):
    """``struct xfs_inode_log_format``."""

    ilf_type: int = field("H")
    ilf_size: int = field("H")
    ilf_fields: int = field("I")
    ilf_asize: int = field("H")
    ilf_dsize: int = field("H")
    ilf_pad: int = field("I")
    ilf_ino: int = field("Q")
    ilf_u: bytes = field("16s")
    ilf_blkno: int = field("q")
    ilf_len: int = field("i")
    ilf_boffset: int = field("i")


class XfsBufLogFormat(Structure, byteorder="<"):
    """``struct xfs_buf_log_format`` up to the bitmap ``blf_data_map`` of :data:`XFS_BLF_CHUNK` byte chunks."""

    blf_type: int = field("H")
    blf_size: int = field("H")
    blf_flags: int = field("H")
    blf_len: int = field("H")
    blf_blkno: int = field("q")
    blf_map_size: int = field("I")


class XfsIntentLogFormat(Structure, byteorder="<"):
    """The head that all intents and their "done" items share (``struct xfs_efi_log_format`` and the like)."""

    type: int = field("H")
    size: int = field("H")
    nextents: int = field("I")
    id: int = field("Q")


class XfsPhysExtent(Structure, byteorder="<"):
    """``struct xfs_extent`` and ``struct xfs_phys_extent``; ``flags`` is padding in the former."""

    start: int = field("Q")
    len: int = field("I")
    flags: int = field("I")


class XfsMapExtent(Structure, byteorder="<"):
    """``struct xfs_map_extent``."""

    me_owner: int = field("Q")
    me_startblock: int = field("Q")
    me_startoff: int = field("Q")
    me_len: int = field("I")
    me_flags: int = field("I")


class XfsIcreateLog(Structure, byteorder="<"):
    """The head of ``struct xfs_icreate_log``, whose other fields are big-endian."""

    icl_type: int = field("H")
    icl_size: int = field("H")


class XfsIcreateBody(Structure, byteorder=">"):
    """The rest of ``struct xfs_icreate_log``."""

    icl_ag: int = field("I")
    icl_agbno: int = field("I")
    icl_count: int = field("I")
    icl_isize: int = field("I")
    icl_length: int = field("I")
    icl_gen: int = field("I")


class XfsUnmountLogFormat(Structure, byteorder="<"):
    """``struct xfs_unmount_log_format``."""

    magic: int = field("H")
    pad1: int = field("H")
    pad2: int = field("I")


def _record_fields() -> tuple[FieldSpan, ...]:
    """``h_cycle_data`` as 64 words, since each holds a word of the payload."""
    spans: list[FieldSpan] = []
    for span in XlogRecHeader.FIELDS:
        if span.name == "h_cycle_data":
            spans += [FieldSpan(f"h_cycle_data[{i}]", span.offset + 4 * i, 4) for i in range(XLOG_CYCLE_DATA_SIZE)]
        else:
            spans.append(span)
    return tuple(spans)


RECORD_FIELDS = _record_fields()
