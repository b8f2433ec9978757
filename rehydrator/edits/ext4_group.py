"""Bitmaps and descriptors of ext4 groups: what follows from what."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4 import GroupDesc, GroupDesc64
from rehydrator.fs.ext4.ext4 import Ext4, Group

DERIVED = (
    "bg_checksum",
    "bg_block_bitmap_csum_lo",
    "bg_block_bitmap_csum_hi",
    "bg_inode_bitmap_csum_lo",
    "bg_inode_bitmap_csum_hi",
)


class Span(msgspec.Struct, array_like=True, frozen=True):
    """``count`` blocks or inodes from number ``first`` on."""

    first: int
    count: int


class GroupChange(msgspec.Struct, frozen=True):
    """Fields of a group descriptor that do not follow from its bitmaps."""

    group: int
    set: Fields


class Bitmap(msgspec.Struct, frozen=True):
    """Which of a group's two bitmaps, and what its first bit in the file system is called."""

    blocks: bool

    def position(self, ext4: Ext4, number: int) -> tuple[int, int]:
        """Return group and bit of a block or inode."""
        geometry = ext4.geometry
        if self.blocks:
            return divmod(number - geometry.first_data_block, geometry.blocks_per_group)
        return geometry.inode_position(number)

    def first(self, ext4: Ext4, group: int) -> int:
        """Return the number of the block or inode of bit 0."""
        geometry = ext4.geometry
        return geometry.group_start(group) if self.blocks else group * geometry.inodes_per_group + 1

    def bits(self, ext4: Ext4) -> int:
        """Return how many bits of a bitmap count."""
        return ext4.geometry.blocks_per_group if self.blocks else ext4.geometry.inodes_per_group

    def block(self, group: Group) -> int:
        """Return where the bitmap lies."""
        return group.block_bitmap if self.blocks else group.inode_bitmap


BLOCKS = Bitmap(blocks=True)
INODES = Bitmap(blocks=False)


def bit_spans(bits: int, first: int) -> list[Span]:
    """Return the runs of set bits, where bit 0 is number ``first``."""
    spans: list[Span] = []
    while bits:
        low = (bits & -bits).bit_length() - 1
        count = 1
        while bits >> (low + count) & 1:
            count += 1
        spans.append(Span(first + low, count))
        bits &= ~((1 << count) - 1 << low)
    return spans


def descriptor_fields(before: bytes, after: bytes) -> Fields:
    """Return the fields in which two descriptors differ, without checksums."""
    kind = GroupDesc64 if len(before) >= GroupDesc64.SIZE else GroupDesc
    return changed(kind.parse(before), kind.parse(after), DERIVED)


def sealed_descriptor(ext4: Ext4, number: int, raw: bytes, fields: Fields, read: Callable[[int], bytes]) -> bytes:
    """Return a descriptor with the counts of the group's bitmaps, ``fields`` set on top, and all checksums.

    ``read`` gives the bitmaps as they are to be counted, by block number.
    """
    geometry = ext4.geometry
    wide = geometry.desc_size >= GroupDesc64.SIZE
    disk = updated((GroupDesc64 if wide else GroupDesc).parse(raw), fields)
    group = Group.parse(number, disk.pack() + raw[disk.SIZE :])  # a bitmap counts from when UNINIT is gone
    blocks = None if ext4.block_bitmap(group) is None else read(group.block_bitmap)
    inodes = None if ext4.inode_bitmap(group) is None else read(group.inode_bitmap)
    counts: Fields = {}
    if blocks is not None:
        counts |= _count("bg_free_blocks_count", _free(blocks, geometry.group_blocks(number)))
    if inodes is not None:
        counts |= _count("bg_free_inodes_count", _free(inodes, geometry.inodes_per_group))
    known = {name: value for name, value in counts.items() if hasattr(disk, name)}
    data = bytearray(updated(disk, known | fields).pack() + raw[disk.SIZE :])
    if geometry.metadata_csum:
        for bitmap, slot, bits in (
            (blocks, checksums.block_bitmap_slot(geometry.desc_size), geometry.blocks_per_group),
            (inodes, checksums.inode_bitmap_slot(geometry.desc_size), geometry.inodes_per_group),
        ):
            if bitmap is not None:
                slot.put(data, checksums.expected_bitmap(ext4.seed, bitmap, bits))
        checksums.GROUP.put(data, checksums.expected_group(ext4.seed, number, bytes(data)))
    return bytes(data)


def _count(name: str, value: int) -> Fields:
    return {f"{name}_lo": value & 0xFFFF, f"{name}_hi": value >> 16}


def _free(bitmap: bytes, bits: int) -> int:
    used = int.from_bytes(bitmap[: -(-bits // 8)], "little") & (1 << bits) - 1
    return bits - used.bit_count()
