"""The checksums of ext4 metadata: what each should be, and where it is stored.

All functions are pure. Each ``expected_*`` takes the structure's bytes, ignores the checksum that is in them and
returns what the kernel would store; the :class:`Slot` beside it reads and writes the stored value.

Source: Linux ``fs/ext4``: ``ext4_superblock_csum``, ``ext4_group_desc_csum``, ``ext4_inode_bitmap_csum_set``,
``ext4_block_bitmap_csum_set``, ``ext4_inode_csum``, ``ext4_dirblock_csum``, ``ext4_dx_csum``,
``ext4_extent_block_csum``, ``ext4_xattr_block_csum``, ``ext4_orphan_file_block_csum``, ``ext4_mmp_csum``.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from rehydrator.binary import Structure
from rehydrator.codecs.crc32c import crc32c
from rehydrator.fs.ext4.c_ext4 import (
    GOOD_OLD_INODE_SIZE,
    ExtentHeader,
    ExtentLeaf,
    ExtentTail,
    GroupDesc,
    GroupDesc64,
    Incompat,
    Inode,
    LargeInode,
    MmpBlock,
    OrphanTail,
    SuperBlock,
)
from rehydrator.fs.ext4.c_ext4_dir import DirTail, DxEntry, DxTail
from rehydrator.fs.ext4.c_ext4_xattr import XattrHeader
from rehydrator.fs.ext4.directory import IndexBlock

ALL_ONES = 0xFFFFFFFF
_LE32 = struct.Struct("<I")
_LE64 = struct.Struct("<Q")
_LE16 = struct.Struct("<H")


class Part(msgspec.Struct, frozen=True):
    """``size`` bytes at byte ``offset`` of the structure that hold some bits of a checksum."""

    offset: int
    size: int


class Slot(msgspec.Struct, frozen=True):
    """Where a checksum is stored: its parts from the lowest bits to the highest.

    A slot with fewer bits than the checksum (32-byte descriptors, 128-byte inodes) keeps the low ones.
    """

    parts: tuple[Part, ...]
    byteorder: Literal["little", "big"] = "little"

    @property
    def mask(self) -> int:
        """The bits of a checksum that are stored."""
        return (1 << 8 * sum(part.size for part in self.parts)) - 1

    def get(self, data: bytes | bytearray | memoryview) -> int:
        """Read the stored checksum from the structure's bytes."""
        value = shift = 0
        for part in self.parts:
            value |= int.from_bytes(data[part.offset : part.offset + part.size], self.byteorder) << shift
            shift += 8 * part.size
        return value

    def put(self, data: bytearray | memoryview, checksum: int) -> None:
        """Write a checksum into the structure's bytes."""
        for part in self.parts:
            bits = checksum & ((1 << 8 * part.size) - 1)
            data[part.offset : part.offset + part.size] = bits.to_bytes(part.size, self.byteorder)
            checksum >>= 8 * part.size

    def cleared(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the structure's bytes with a zero checksum."""
        copy = bytearray(data)
        self.put(copy, 0)
        return bytes(copy)


def mismatch(stored: int, expected: int, name: str = "checksum") -> str:
    """Say that a checksum is wrong, for people to read."""
    return f"{name} is {stored:#x}, should be {expected:#x}"


def slot_of(structure: type[Structure], *names: str, base: int = 0, big: bool = False) -> Slot:
    """Return the slot made of the named fields of ``structure``, which begins at byte ``base``."""
    sizes = {span.name: span.size for span in structure.FIELDS}
    parts = tuple(Part(base + structure.offset_of(name), sizes[name]) for name in names)
    return Slot(parts, "big" if big else "little")


SUPERBLOCK = slot_of(SuperBlock, "s_checksum")
GROUP = slot_of(GroupDesc, "bg_checksum")
XATTR = slot_of(XattrHeader, "h_checksum")
MMP = slot_of(MmpBlock, "mmp_checksum")
_INODE_SMALL = slot_of(Inode, "i_checksum_lo")
_INODE_LARGE = slot_of(LargeInode, "i_checksum_lo", "i_checksum_hi")
_HI_END = LargeInode.offset_of("i_ctime_extra") - GOOD_OLD_INODE_SIZE  # i_extra_isize that covers i_checksum_hi


def metadata_seed(superblock: SuperBlock) -> int:
    """First seed of everything but the superblock: ``s_csum_seed`` of ``struct ext4_sb_info``."""
    if Incompat.CSUM_SEED in Incompat(superblock.s_feature_incompat):
        return superblock.s_checksum_seed
    return crc32c(ALL_ONES, superblock.s_uuid)


def inode_seed(seed: int, ino: int, generation: int) -> int:
    """Seed of an inode and of the blocks that only it owns: ``i_csum_seed`` of ``struct ext4_inode_info``."""
    return crc32c(crc32c(seed, _LE32.pack(ino)), _LE32.pack(generation))


def expected_superblock(data: bytes) -> int:
    """Return ``s_checksum`` for the 1024 bytes of a superblock."""
    return crc32c(ALL_ONES, data[: SUPERBLOCK.parts[0].offset])


def expected_group(seed: int, group: int, descriptor: bytes) -> int:
    """Return ``bg_checksum`` of a descriptor with METADATA_CSUM; ``descriptor`` is ``s_desc_size`` long."""
    return crc32c(crc32c(seed, _LE32.pack(group)), GROUP.cleared(descriptor)) & GROUP.mask


def expected_group_crc16(uuid: bytes, group: int, descriptor: bytes) -> int:
    """Return ``bg_checksum`` of a descriptor with GDT_CSUM (the older ``uninit_bg``) alone."""
    part = GROUP.parts[0]
    value = _crc16(_crc16(_LE16.unpack(b"\xff\xff")[0], uuid), _LE32.pack(group))
    return _crc16(_crc16(value, descriptor[: part.offset]), descriptor[part.offset + part.size :])


def block_bitmap_slot(desc_size: int) -> Slot:
    """Where a group descriptor keeps the checksum of its block bitmap."""
    if desc_size >= GroupDesc64.SIZE:
        return slot_of(GroupDesc64, "bg_block_bitmap_csum_lo", "bg_block_bitmap_csum_hi")
    return slot_of(GroupDesc, "bg_block_bitmap_csum_lo")


def inode_bitmap_slot(desc_size: int) -> Slot:
    """Where a group descriptor keeps the checksum of its inode bitmap."""
    if desc_size >= GroupDesc64.SIZE:
        return slot_of(GroupDesc64, "bg_inode_bitmap_csum_lo", "bg_inode_bitmap_csum_hi")
    return slot_of(GroupDesc, "bg_inode_bitmap_csum_lo")


def expected_bitmap(seed: int, bitmap: bytes, bits: int) -> int:
    """Checksum of a bitmap block.

    ``bits`` is ``s_blocks_per_group`` for block bitmaps and ``s_inodes_per_group`` for inode bitmaps.
    """
    return crc32c(seed, bitmap[: bits // 8])


def inode_slot(inode: bytes) -> Slot:
    """Where an inode keeps its checksum; depends on ``i_extra_isize``."""
    if len(inode) > GOOD_OLD_INODE_SIZE:
        at = LargeInode.offset_of("i_extra_isize")
        if _LE16.unpack_from(inode, at)[0] >= _HI_END:
            return _INODE_LARGE
    return _INODE_SMALL


def expected_inode(seed: int, ino: int, inode: bytes) -> int:
    """Checksum of an inode; ``inode`` is ``s_inode_size`` long, ``seed`` the :func:`metadata_seed`."""
    generation: int = _LE32.unpack_from(inode, Inode.offset_of("i_generation"))[0]
    slot = inode_slot(inode)
    return crc32c(inode_seed(seed, ino, generation), slot.cleared(inode)) & slot.mask


def dir_slot(block_size: int) -> Slot:
    """Where a directory block with ``struct ext4_dir_entry_tail`` keeps its checksum."""
    return slot_of(DirTail, "det_checksum", base=block_size - DirTail.SIZE)


def expected_dir(owner_seed: int, block: bytes) -> int:
    """``det_checksum`` of a directory block; ``owner_seed`` is the :func:`inode_seed` of the directory."""
    return crc32c(owner_seed, block[: len(block) - DirTail.SIZE])


def dx_slot(index: IndexBlock) -> Slot:
    """Where an index block of a directory keeps its checksum."""
    return slot_of(DxTail, "dt_checksum", base=index.tail)


def expected_dx(owner_seed: int, block: bytes, index: IndexBlock) -> int:
    """``dt_checksum`` of an index block: the entries in use, then the tail with a zero checksum."""
    value = crc32c(owner_seed, block[: index.start + index.count * DxEntry.SIZE])
    reserved = block[index.tail : index.tail + DxTail.offset_of("dt_checksum")]
    return crc32c(crc32c(value, reserved), bytes(_LE32.size))


def extent_slot(block: bytes) -> Slot:
    """Where an extent block keeps its checksum; depends on ``eh_max``."""
    header = ExtentHeader.parse(block)
    return slot_of(ExtentTail, "et_checksum", base=ExtentHeader.SIZE + header.eh_max * ExtentLeaf.SIZE)


def expected_extent(owner_seed: int, block: bytes) -> int:
    """``et_checksum`` of an extent block; ``owner_seed`` is the :func:`inode_seed` of the file."""
    return crc32c(owner_seed, block[: extent_slot(block).parts[0].offset])


def expected_xattr(seed: int, number: int, block: bytes) -> int:
    """``h_checksum`` of the attribute block with block number ``number``."""
    return crc32c(crc32c(seed, _LE64.pack(number)), XATTR.cleared(block))


def orphan_slot(block_size: int) -> Slot:
    """Where a block of the orphan file keeps its checksum."""
    return slot_of(OrphanTail, "ob_checksum", base=block_size - OrphanTail.SIZE)


def expected_orphan(owner_seed: int, number: int, block: bytes) -> int:
    """``ob_checksum`` of block ``number`` of the orphan file, whose :func:`inode_seed` is ``owner_seed``."""
    return crc32c(crc32c(owner_seed, _LE64.pack(number)), block[: len(block) - OrphanTail.SIZE])


def expected_mmp(seed: int, block: bytes) -> int:
    """``mmp_checksum`` of the multi-mount protection block."""
    return crc32c(seed, block[: MMP.parts[0].offset])


def _table16() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE16 = _table16()


def _crc16(value: int, data: bytes) -> int:
    """Linux ``lib/crc/crc16.c``: polynomial 0x8005 reflected, the seed passed in."""
    for byte in data:
        value = (value >> 8) ^ _TABLE16[(value ^ byte) & 0xFF]
    return value
