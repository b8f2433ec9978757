"""Geometry of an XFS file system: from block and inode numbers to bytes and back."""

from __future__ import annotations

import msgspec

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.xfs.c_xfs import (
    SUPPORTED_INCOMPAT,
    XFS_AG_MIN_BYTES,
    XFS_SB_MAGIC,
    XFS_SB_VERSION_5,
    XFS_SB_VERSION_NUMBITS,
    Incompat,
    RoCompat,
    XfsDsb,
)

_BLOCK_SIZES = tuple(1 << shift for shift in range(10, 17))
_SECTOR_SIZES = tuple(1 << shift for shift in range(9, 16))
_INODE_SIZES = tuple(1 << shift for shift in range(9, 12))
_MAX_DIRBLKLOG = 6


class Geometry(msgspec.Struct, frozen=True):
    """What the superblock says about the layout. Sizes are in bytes, ``*_blocks`` in file system blocks."""

    block_size: int
    sector_size: int
    inode_size: int
    directory_block_size: int
    blocks: int
    ag_blocks: int
    ag_count: int
    block_log: int
    inode_per_block_log: int
    ag_block_log: int
    log: Extent
    root_inode: int
    uuid: bytes
    user_uuid: bytes
    ro_compat: RoCompat
    incompat: Incompat

    @property
    def ag_size(self) -> int:
        """Bytes of an allocation group (the last one may be shorter)."""
        return self.ag_blocks << self.block_log

    @property
    def size(self) -> int:
        """Bytes of the file system."""
        return self.blocks << self.block_log

    @property
    def ag_inode_log(self) -> int:
        """Bits of an inode number below its AG number."""
        return self.ag_block_log + self.inode_per_block_log

    @property
    def chunk_size(self) -> int:
        """Bytes of an inode chunk of 64 inodes."""
        return self.inode_size * 64

    def ag_length(self, ag: int) -> int:
        """Blocks of allocation group ``ag``."""
        return min(self.ag_blocks, self.blocks - ag * self.ag_blocks)

    def ag_byte(self, ag: int, block: int = 0) -> int:
        """Byte offset of block ``block`` of allocation group ``ag``."""
        return (ag * self.ag_blocks + block) << self.block_log

    def fsblock_byte(self, fsblock: int) -> int:
        """Byte offset of an ``xfs_fsblock_t``, whose high bits are the AG number."""
        ag, block = fsblock >> self.ag_block_log, fsblock & ((1 << self.ag_block_log) - 1)
        return (ag * self.ag_blocks + block) << self.block_log

    def fsblock_valid(self, fsblock: int, count: int) -> bool:
        """Tell whether ``count`` blocks from ``fsblock`` on exist within one allocation group."""
        ag, block = fsblock >> self.ag_block_log, fsblock & ((1 << self.ag_block_log) - 1)
        return ag < self.ag_count and count > 0 and block + count <= self.ag_length(ag)

    def inode_number(self, ag: int, ag_inode: int) -> int:
        """Inode number of inode ``ag_inode`` of allocation group ``ag``."""
        return ag << self.ag_inode_log | ag_inode

    def inode_byte(self, number: int) -> int:
        """Byte offset of inode ``number``; may lie outside of the file system for a damaged number."""
        ag, ag_inode = number >> self.ag_inode_log, number & ((1 << self.ag_inode_log) - 1)
        block = ag_inode >> self.inode_per_block_log
        within = ag_inode & ((1 << self.inode_per_block_log) - 1)
        return self.ag_byte(ag, block) + within * self.inode_size


def is_xfs(source: Source) -> bool:
    """Tell whether there is an XFS superblock."""
    return source.size >= XfsDsb.SIZE and XfsDsb.parse(source.read(0, XfsDsb.SIZE)).sb_magicnum == XFS_SB_MAGIC


def read_superblock(source: Source) -> XfsDsb:
    """Read the primary superblock. Raises CorruptError for anything that is not XFS."""
    if source.size < XfsDsb.SIZE:
        raise CorruptError("not an XFS file system", expected="a superblock", actual=f"{source.size} bytes")
    superblock = XfsDsb.parse(source.read(0, XfsDsb.SIZE))
    if superblock.sb_magicnum != XFS_SB_MAGIC:
        raise CorruptError(
            "not an XFS file system", offset=0, expected="XFSB", actual=f"{superblock.sb_magicnum:#010x}"
        )
    return superblock


def geometry(superblock: XfsDsb) -> Geometry:
    """Derive the geometry. Raises UnsupportedError, by name, for what is not read, CorruptError for nonsense."""
    _refuse_unsupported(superblock)
    _refuse_impossible(superblock)
    log_ag = superblock.sb_logstart >> superblock.sb_agblklog
    log_block = superblock.sb_logstart & ((1 << superblock.sb_agblklog) - 1)
    log_start = (log_ag * superblock.sb_agblocks + log_block) << superblock.sb_blocklog
    incompat = Incompat(superblock.sb_features_incompat)
    return Geometry(
        block_size=superblock.sb_blocksize,
        sector_size=superblock.sb_sectsize,
        inode_size=superblock.sb_inodesize,
        directory_block_size=superblock.sb_blocksize << superblock.sb_dirblklog,
        blocks=superblock.sb_dblocks,
        ag_blocks=superblock.sb_agblocks,
        ag_count=superblock.sb_agcount,
        block_log=superblock.sb_blocklog,
        inode_per_block_log=superblock.sb_inopblog,
        ag_block_log=superblock.sb_agblklog,
        log=Extent(log_start, superblock.sb_logblocks << superblock.sb_blocklog),
        root_inode=superblock.sb_rootino,
        uuid=superblock.sb_meta_uuid if incompat & Incompat.META_UUID else superblock.sb_uuid,
        user_uuid=superblock.sb_uuid,
        ro_compat=RoCompat(superblock.sb_features_ro_compat),
        incompat=incompat,
    )


def _refuse_unsupported(superblock: XfsDsb) -> None:
    version = superblock.sb_versionnum & XFS_SB_VERSION_NUMBITS
    if version != XFS_SB_VERSION_5:
        raise UnsupportedError(f"XFS version {version} (without checksums) is not supported, only version 5")
    if superblock.sb_rblocks or superblock.sb_rextents:
        raise UnsupportedError("XFS with a realtime device is not supported")
    if not superblock.sb_logstart:
        raise UnsupportedError("XFS with an external log is not supported")
    unknown = superblock.sb_features_incompat & ~SUPPORTED_INCOMPAT
    if unknown:
        raise UnsupportedError(f"XFS with {Incompat(unknown)!r} is not supported")


def _refuse_impossible(superblock: XfsDsb) -> None:
    blocks, ag_blocks = superblock.sb_dblocks, superblock.sb_agblocks
    size = superblock.sb_blocksize
    rules = {
        "sb_blocksize": size in _BLOCK_SIZES and size == 1 << superblock.sb_blocklog,
        "sb_sectsize": superblock.sb_sectsize in _SECTOR_SIZES and superblock.sb_sectsize <= size,
        "sb_inodesize": superblock.sb_inodesize in _INODE_SIZES,
        "sb_inopblog": superblock.sb_inodesize << superblock.sb_inopblog == size,
        "sb_dirblklog": superblock.sb_dirblklog <= _MAX_DIRBLKLOG,
        "sb_agblocks": ag_blocks * size >= XFS_AG_MIN_BYTES,
        "sb_agblklog": ag_blocks.bit_length() - 1 <= superblock.sb_agblklog <= ag_blocks.bit_length(),
        "sb_dblocks": (superblock.sb_agcount - 1) * ag_blocks < blocks <= superblock.sb_agcount * ag_blocks,
    }
    for name, fine in rules.items():
        if not fine:
            raise CorruptError(
                f"impossible {name} in the XFS superblock",
                offset=XfsDsb.offset_of(name),
                actual=getattr(superblock, name),
            )
