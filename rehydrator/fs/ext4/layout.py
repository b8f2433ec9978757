"""The segments of a whole file system: those that the geometry fixes and those that inodes own."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.fs.ext4.c_ext4 import Incompat
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.scan import Scan
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag


def segment_map(fs: Ext4, scan: Scan) -> SegmentMap:
    """Return the owner of each block that has one."""
    return SegmentMap(_clipped(fs, [*fixed_segments(fs), *scan.segments]))


def _clipped(fs: Ext4, segments: list[Segment]) -> Iterator[Segment]:
    """Leave out what a damaged descriptor or superblock puts outside the file system."""
    end = fs.geometry.blocks_count
    for segment in segments:
        if segment.end <= end:
            yield segment
        elif segment.start < end:
            yield segment._replace(length=end - segment.start)


def fixed_segments(fs: Ext4) -> Iterator[Segment]:
    """Yield what does not belong to an inode."""
    geometry = fs.geometry
    if geometry.super_block:
        yield Segment(0, geometry.super_block, Tag.BOOT, 0, 0)
    yield Segment(geometry.super_block, 1, Tag.SUPER, 0, 0)
    for group in geometry.super_copies():
        if group:
            yield Segment(geometry.group_start(group), 1, Tag.BACKUP_SUPER, group, 0)
    for index in range(geometry.desc_blocks):
        yield Segment(geometry.desc_block(index), 1, Tag.GROUP_DESC, 0, index)
    for block, index in geometry.backup_desc_blocks():
        group = (block - geometry.first_data_block) // geometry.blocks_per_group
        yield Segment(block, 1, Tag.BACKUP_GROUP_DESC, group, index)
    for blocks in geometry.reserved_gdt():
        group = (blocks.start - geometry.first_data_block) // geometry.blocks_per_group
        yield Segment(blocks.start, blocks.count, Tag.RESERVED_GDT, group, 0)
    if Incompat.MMP in geometry.incompat and fs.valid_block(fs.superblock.s_mmp_block):
        yield Segment(fs.superblock.s_mmp_block, 1, Tag.MMP, 0, 0)
    yield from _group_segments(fs)


def _group_segments(fs: Ext4) -> Iterator[Segment]:
    for group in fs.groups:
        wanted = (
            Segment(group.block_bitmap, 1, Tag.BLOCK_BITMAP, group.number, 0),
            Segment(group.inode_bitmap, 1, Tag.INODE_BITMAP, group.number, 0),
            Segment(group.inode_table, fs.geometry.itable_blocks, Tag.INODE_TABLE, group.number, 0),
        )
        yield from (segment for segment in wanted if fs.valid_block(segment.start, segment.length))
