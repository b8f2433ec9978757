"""On-disk structures of XFS directories and extended attributes, version 3 ("CRC enabled").

Source: Linux ``fs/xfs/libxfs/xfs_da_format.h``. Numbers are big-endian, checksums little-endian (declared as bytes).
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

XFS_DA3_NODE_MAGIC = 0x3EBE
XFS_ATTR3_LEAF_MAGIC = 0x3BEE
XFS_DIR3_LEAF1_MAGIC = 0x3DF1
XFS_DIR3_LEAFN_MAGIC = 0x3DFF
XFS_DIR3_BLOCK_MAGIC = 0x58444233  # "XDB3"
XFS_DIR3_DATA_MAGIC = 0x58444433  # "XDD3"
XFS_DIR3_FREE_MAGIC = 0x58444633  # "XDF3"
XFS_ATTR3_RMT_MAGIC = 0x5841524D  # "XARM"

XFS_DIR2_DATA_FREE_TAG = 0xFFFF
XFS_DIR2_DATA_ALIGN = 8
XFS_DIR2_SPACE_SIZE = 1 << 35  # bytes; data, leaf and free index blocks have a space each
XFS_DIR2_LEAF_OFFSET = XFS_DIR2_SPACE_SIZE
XFS_DIR2_FREE_OFFSET = 2 * XFS_DIR2_SPACE_SIZE

XFS_ATTR_LOCAL = 1 << 0
XFS_ATTR_ROOT = 1 << 1
XFS_ATTR_SECURE = 1 << 2
XFS_ATTR_PARENT = 1 << 3


class XfsDa3Blkinfo(Structure, byteorder=">"):
    """``struct xfs_da3_blkinfo``: start of all leaf and node blocks of directories and attributes."""

    forw: int = field("I")
    back: int = field("I")
    magic: int = field("H")
    pad: int = field("H")
    crc: bytes = field("4s")
    blkno: int = field("Q")
    lsn: int = field("Q")
    uuid: bytes = field("16s")
    owner: int = field("Q")


class XfsDa3NodeHdr(Structure, byteorder=">"):
    """``struct xfs_da3_node_hdr`` behind the blkinfo."""

    count: int = field("H")
    level: int = field("H")
    pad32: int = field("I")


class XfsDir3LeafHdr(Structure, byteorder=">"):
    """``struct xfs_dir3_leaf_hdr`` behind the blkinfo."""

    count: int = field("H")
    stale: int = field("H")
    pad: int = field("I")


class XfsAttr3LeafHdr(Structure, byteorder=">"):
    """``struct xfs_attr3_leaf_hdr`` behind the blkinfo."""

    count: int = field("H")
    usedbytes: int = field("H")
    firstused: int = field("H")
    holes: int = field("B")
    pad1: int = field("B")
    freemap: bytes = field("12s")
    pad2: int = field("I")


class XfsAttrLeafEntry(Structure, byteorder=">"):
    """``struct xfs_attr_leaf_entry``."""

    hashval: int = field("I")
    nameidx: int = field("H")
    flags: int = field("B")
    pad2: int = field("B")


class XfsDir3BlkHdr(Structure, byteorder=">"):
    """``struct xfs_dir3_blk_hdr``: start of data and free index blocks."""

    magic: int = field("I")
    crc: bytes = field("4s")
    blkno: int = field("Q")
    lsn: int = field("Q")
    uuid: bytes = field("16s")
    owner: int = field("Q")


class XfsDir3DataTail(Structure, byteorder=">"):
    """The rest of ``struct xfs_dir3_data_hdr`` behind the blk_hdr."""

    best_free: bytes = field("12s")
    pad: int = field("I")


class XfsDir3FreeTail(Structure, byteorder=">"):
    """The rest of ``struct xfs_dir3_free_hdr`` behind the blk_hdr."""

    firstdb: int = field("I")
    nvalid: int = field("I")
    nused: int = field("I")
    pad: int = field("I")


class XfsDir2BlockTail(Structure, byteorder=">"):
    """``struct xfs_dir2_block_tail``: end of a single-block directory, behind its leaf entries."""

    count: int = field("I")
    stale: int = field("I")


class XfsDir2LeafTail(Structure, byteorder=">"):
    """``struct xfs_dir2_leaf_tail``: end of the only leaf of a directory; ``bests[]`` lies before it."""

    bestcount: int = field("I")


class XfsDir2LeafEntry(Structure, byteorder=">"):
    """``struct xfs_dir2_leaf_entry``."""

    hashval: int = field("I")
    address: int = field("I")


class XfsAttr3RmtHdr(Structure, byteorder=">"):
    """``struct xfs_attr3_rmt_hdr``: before each block of a large attribute value."""

    rm_magic: int = field("I")
    rm_offset: int = field("I")
    rm_bytes: int = field("I")
    rm_crc: bytes = field("4s")
    rm_uuid: bytes = field("16s")
    rm_owner: int = field("Q")
    rm_blkno: int = field("Q")
    rm_lsn: int = field("Q")


DATA_ENTRIES = XfsDir3BlkHdr.SIZE + XfsDir3DataTail.SIZE  # first entry of a directory data block
