"""What the bitmaps of a group hold when it is first used.

Source: Linux ``fs/ext4/balloc.c`` (``ext4_init_block_bitmap``), ``ialloc.c``. Until then BLOCK_UNINIT and INODE_UNINIT
stand for them, and what lies in their blocks has no meaning.
"""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.fs.ext4.ext4 import Ext4


def initial_block_bitmap(ext4: Ext4, number: int) -> bytes:
    """Return the block bitmap of group ``number`` with nothing in it but the group's own metadata."""
    geometry = ext4.geometry
    start, count = geometry.group_start(number), geometry.group_blocks(number)
    bits = (1 << geometry.block_size * 8) - (1 << count)  # what is behind the group's end counts as taken
    for block in _metadata(ext4, number):
        if start <= block < start + count:
            bits |= 1 << block - start
    return bits.to_bytes(geometry.block_size, "little")


def initial_inode_bitmap(ext4: Ext4) -> bytes:
    """Return the bitmap of a group without inodes in use."""
    bits = (1 << ext4.geometry.block_size * 8) - (1 << ext4.geometry.inodes_per_group)
    return bits.to_bytes(ext4.geometry.block_size, "little")


def _metadata(ext4: Ext4, number: int) -> Iterator[int]:
    """Yield the blocks of superblock copies, descriptors, bitmaps and inode tables; some may be in other groups."""
    geometry = ext4.geometry
    if geometry.has_super(number):
        yield geometry.group_start(number) if number else geometry.super_block
    yield from (geometry.desc_block(index) for index in range(geometry.desc_blocks))
    yield from (block for block, _ in geometry.backup_desc_blocks())
    for reserved in geometry.reserved_gdt():
        yield from range(reserved.start, reserved.start + reserved.count)
    for group in ext4.groups:
        yield group.block_bitmap
        yield group.inode_bitmap
        yield from range(group.inode_table, group.inode_table + geometry.itable_blocks)
