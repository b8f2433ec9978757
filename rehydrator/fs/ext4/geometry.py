"""Where ext4 keeps its structures, as far as the superblock alone tells.

Source: Linux ``fs/ext4/super.c`` (``ext4_fill_super``, ``descriptor_loc``) and ``balloc.c`` (``ext4_bg_has_super``,
``ext4_bg_num_gdb``). Blocks are file system blocks, offsets are bytes from the start of the file system.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import msgspec

from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.ext4.c_ext4 import (
    GOOD_OLD_DESC_SIZE,
    GOOD_OLD_FIRST_INODE,
    GOOD_OLD_INODE_SIZE,
    GOOD_OLD_REV,
    SUPER_MAGIC,
    SUPER_OFFSET,
    Compat,
    GroupDesc64,
    Incompat,
    RoCompat,
    SuperBlock,
)

MAX_LOG_BLOCK_SIZE = 2  # 4 KiB; larger blocks need larger pages than CoreOS kernels have
MAX_DESC_SIZE = 1024
MAX_TRUNCATION = 1024  # a file system may claim this many times the size of its partition before it is not believed
POWERS_WITH_SUPER = (3, 5, 7)

SUPPORTED_INCOMPAT = (
    Incompat.FILETYPE
    | Incompat.RECOVER
    | Incompat.META_BG
    | Incompat.EXTENTS
    | Incompat.BIT64
    | Incompat.MMP
    | Incompat.FLEX_BG
    | Incompat.EA_INODE
    | Incompat.CSUM_SEED
    | Incompat.LARGEDIR
    | Incompat.INLINE_DATA
    | Incompat.ENCRYPT
    | Incompat.CASEFOLD
)


class BlockRange(msgspec.Struct, frozen=True):
    """``count`` blocks from block ``start`` on."""

    start: int
    count: int

    @property
    def end(self) -> int:
        """First block after the range."""
        return self.start + self.count


class Geometry(msgspec.Struct, frozen=True, dict=True):
    """Sizes and places that follow from the superblock."""

    block_size: int
    blocks_count: int
    first_data_block: int
    blocks_per_group: int
    inodes_per_group: int
    inodes_count: int
    inode_size: int
    desc_size: int
    first_ino: int
    group_count: int
    reserved_gdt_blocks: int
    first_meta_bg: int
    compat: Compat
    incompat: Incompat
    ro_compat: RoCompat

    @cached_property
    def metadata_csum(self) -> bool:
        """Whether all metadata carries CRC-32C."""
        return RoCompat.METADATA_CSUM in self.ro_compat

    @cached_property
    def group_csum(self) -> bool:
        """Whether group descriptors carry a checksum, and with it the UNINIT flags a meaning."""
        return bool(self.ro_compat & (RoCompat.METADATA_CSUM | RoCompat.GDT_CSUM))

    @cached_property
    def itable_blocks(self) -> int:
        """Blocks of one group's inode table."""
        return -(-self.inodes_per_group * self.inode_size // self.block_size)

    @cached_property
    def descs_per_block(self) -> int:
        """Group descriptors in one block."""
        return self.block_size // self.desc_size

    @cached_property
    def desc_blocks(self) -> int:
        """Blocks that all group descriptors take."""
        return -(-self.group_count // self.descs_per_block)

    @property
    def super_block(self) -> int:
        """The block that holds the primary superblock."""
        return SUPER_OFFSET // self.block_size

    def group_start(self, group: int) -> int:
        """First block of ``group``."""
        return self.first_data_block + group * self.blocks_per_group

    def group_blocks(self, group: int) -> int:
        """Blocks in ``group``; only the last one may be shorter than the rest."""
        return min(self.blocks_per_group, self.blocks_count - self.group_start(group))

    def has_super(self, group: int) -> bool:
        """Tell whether ``group`` begins with a superblock."""
        return group in self._super_groups if RoCompat.SPARSE_SUPER in self.ro_compat else True

    @cached_property
    def _super_groups(self) -> frozenset[int]:
        groups = {0, 1}
        for base in POWERS_WITH_SUPER:
            power = base
            while power < self.group_count:
                groups.add(power)
                power *= base
        return frozenset(groups)

    def super_copies(self) -> Iterator[int]:
        """Yield the groups that have a superblock, group 0 included."""
        return (group for group in range(self.group_count) if self.has_super(group))

    @property
    def _old_desc_blocks(self) -> int:
        """Descriptor blocks that lie behind each superblock; the others are spread by META_BG."""
        if Incompat.META_BG in self.incompat:
            return min(self.first_meta_bg, self.desc_blocks)
        return self.desc_blocks

    def desc_block(self, index: int) -> int:
        """Block of the ``index``-th primary block of group descriptors."""
        if index < self._old_desc_blocks:
            return self.super_block + 1 + index
        group = index * self.descs_per_block
        return self.group_start(group) + int(self.has_super(group))

    def desc_offset(self, group: int) -> int:
        """Byte offset of the primary descriptor of ``group``."""
        index, within = divmod(group, self.descs_per_block)
        return self.desc_block(index) * self.block_size + within * self.desc_size

    def backup_desc_blocks(self) -> Iterator[tuple[int, int]]:
        """Yield (block, index of the descriptor block that it copies)."""
        for group in self.super_copies():
            if group:
                for index in range(self._old_desc_blocks):
                    yield self.group_start(group) + 1 + index, index
        for index in range(self._old_desc_blocks, self.desc_blocks):
            first = index * self.descs_per_block
            for group in (first + 1, first + self.descs_per_block - 1):
                if group < self.group_count:
                    yield self.group_start(group) + int(self.has_super(group)), index

    def reserved_gdt(self) -> Iterator[BlockRange]:
        """Yield the blocks that are kept for growing the descriptor table."""
        if not self.reserved_gdt_blocks:
            return
        for group in self.super_copies():
            base = self.group_start(group) if group else self.super_block
            yield BlockRange(base + 1 + self._old_desc_blocks, self.reserved_gdt_blocks)

    def inode_position(self, ino: int) -> tuple[int, int]:
        """Return (group, index within the group) of an inode."""
        return divmod(ino - 1, self.inodes_per_group)

    def valid_ino(self, ino: int) -> bool:
        """Tell whether an inode of this number exists."""
        return 0 < ino <= self.inodes_count


def read_geometry(superblock: SuperBlock, source_size: int) -> Geometry:
    """Check a superblock and return what follows from it; ``source_size`` is in bytes.

    Raises CorruptError when it is not that of an ext4 file system, UnsupportedError when it is but uses a feature
    that moves structures in ways unknown here.
    """
    _require("s_magic", superblock.s_magic == SUPER_MAGIC, hex(SUPER_MAGIC), hex(superblock.s_magic))
    _require(
        "s_log_block_size", superblock.s_log_block_size <= MAX_LOG_BLOCK_SIZE, "0 to 2", superblock.s_log_block_size
    )
    _refuse(superblock)
    block_size = SUPER_OFFSET << superblock.s_log_block_size
    old = superblock.s_rev_level == GOOD_OLD_REV
    inode_size = GOOD_OLD_INODE_SIZE if old else superblock.s_inode_size
    incompat = Incompat(superblock.s_feature_incompat)
    wide = Incompat.BIT64 in incompat
    desc_size = superblock.s_desc_size if wide else GOOD_OLD_DESC_SIZE
    blocks_count = superblock.s_blocks_count_lo | (superblock.s_blocks_count_hi << 32 if wide else 0)
    per_group, inodes = superblock.s_blocks_per_group, superblock.s_inodes_per_group
    first = superblock.s_first_data_block
    _require(
        "s_inode_size", _power(inode_size) and GOOD_OLD_INODE_SIZE <= inode_size <= block_size, "128..", inode_size
    )
    least = GroupDesc64.SIZE if wide else GOOD_OLD_DESC_SIZE
    _require("s_desc_size", _power(desc_size) and least <= desc_size <= MAX_DESC_SIZE, f"{least}..", desc_size)
    bits = block_size * 8
    _require("s_blocks_per_group", 0 < per_group <= bits and per_group % 8 == 0, f"8..{bits}", per_group)
    _require("s_inodes_per_group", 0 < inodes <= bits and inodes % 8 == 0, f"8..{bits}", inodes)
    _require("s_first_data_block", first == int(block_size == SUPER_OFFSET), int(block_size == SUPER_OFFSET), first)
    most = source_size // block_size * MAX_TRUNCATION
    _require("s_blocks_count", first < blocks_count <= most, f"at most {most}", blocks_count)
    groups = -(-(blocks_count - first) // per_group)
    _require("s_inodes_count", superblock.s_inodes_count == groups * inodes, groups * inodes, superblock.s_inodes_count)
    reserved = superblock.s_reserved_gdt_blocks
    _require("s_reserved_gdt_blocks", reserved <= block_size // 4, f"at most {block_size // 4}", reserved)
    return Geometry(
        block_size=block_size,
        blocks_count=blocks_count,
        first_data_block=first,
        blocks_per_group=per_group,
        inodes_per_group=inodes,
        inodes_count=superblock.s_inodes_count,
        inode_size=inode_size,
        desc_size=desc_size,
        first_ino=GOOD_OLD_FIRST_INODE if old else superblock.s_first_ino,
        group_count=groups,
        reserved_gdt_blocks=reserved,
        first_meta_bg=superblock.s_first_meta_bg,
        compat=Compat(superblock.s_feature_compat),
        incompat=incompat,
        ro_compat=RoCompat(superblock.s_feature_ro_compat),
    )


def _refuse(superblock: SuperBlock) -> None:
    incompat = superblock.s_feature_incompat & ~int(SUPPORTED_INCOMPAT)  # as a number: ~ of a flag loses unknown bits
    if incompat:
        raise UnsupportedError("ext4 feature is not supported", offset=SUPER_OFFSET, actual=_names(incompat))
    if RoCompat.BIGALLOC in RoCompat(superblock.s_feature_ro_compat):
        raise UnsupportedError("ext4 feature is not supported", offset=SUPER_OFFSET, actual="bigalloc")
    if Compat.SPARSE_SUPER2 in Compat(superblock.s_feature_compat):
        raise UnsupportedError("ext4 feature is not supported", offset=SUPER_OFFSET, actual="sparse_super2")


def _names(flags: int) -> str:
    known = [flag.name.lower() for flag in Incompat if flag & flags and flag.name]
    rest = flags & ~sum(int(flag) for flag in Incompat)
    return ", ".join([*known, hex(rest)] if rest else known)


def _require(name: str, condition: bool, expected: object, actual: object) -> None:
    if not condition:
        raise CorruptError(f"not an ext4 file system: {name}", offset=SUPER_OFFSET, expected=expected, actual=actual)


def _power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
