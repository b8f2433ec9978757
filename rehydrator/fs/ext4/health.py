"""Is the metadata of an ext4 file system what it should be? Checksums first, then what must hold between structures.

With a journal that needs recovery only structures that stand for themselves are checked: the others are in place only
after the replay.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4 import SUPER_MAGIC, SUPER_OFFSET, Incompat, RoCompat, State, SuperBlock
from rehydrator.fs.ext4.ext4 import Ext4, Group
from rehydrator.fs.ext4.free import bit_text
from rehydrator.fs.ext4.health_inodes import check_inodes
from rehydrator.fs.ext4.health_journal import check_journal
from rehydrator.fs.ext4.jbd2 import Journal
from rehydrator.fs.ext4.naming import Names
from rehydrator.fs.ext4.scan import Scan
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag
from rehydrator.fs.place import NEEDS_RECOVERY, Health

_MAX_REPORTS = 100


class View(msgspec.Struct, frozen=True):
    """All that the checks look at."""

    fs: Ext4
    scan: Scan
    segments: SegmentMap
    names: Names
    journal: Journal | None

    @property
    def pending(self) -> bool:
        """Whether the journal still has to be replayed."""
        flagged = Incompat.RECOVER in self.fs.geometry.incompat
        return flagged or (self.journal is not None and self.journal.needs_recovery)

    def offset(self, block: int) -> int:
        """Byte offset of a block."""
        return block * self.fs.geometry.block_size


def check(fs: Ext4, scan: Scan, segments: SegmentMap, names: Names, journal: Journal | None) -> Iterator[Health]:
    """Check everything; see the module text."""
    view = View(fs, scan, segments, names, journal)
    yield from _check_superblock(view)
    yield from _check_mmp(view)
    yield from _check_backups(view)
    yield from _check_groups(view)
    if not view.pending:
        yield from _check_ownership(view)
    yield from check_inodes(fs, scan, segments, names)
    yield from check_journal(fs, segments, names, journal)


def _check_superblock(view: View) -> Iterator[Health]:
    fs = view.fs
    if fs.geometry.metadata_csum:
        yield from _superblock_checksum(fs.superblock_raw, "superblock", SUPER_OFFSET)
    if State.ERROR_FS in State(fs.superblock.s_state):
        yield Health("superblock", SUPER_OFFSET, "the kernel noted errors (s_state)")
    if view.pending:
        yield Health("journal", SUPER_OFFSET, NEEDS_RECOVERY)
    end = fs.geometry.blocks_count * fs.geometry.block_size
    if end > fs.source.size:
        yield Health("file system", fs.source.size, f"truncated: {fs.source.size} of {end} bytes are there")


def _superblock_checksum(raw: bytes, name: str, offset: int) -> Iterator[Health]:
    stored, expected = checksums.SUPERBLOCK.get(raw), checksums.expected_superblock(raw)
    if stored != expected:
        yield Health(name, offset, checksums.mismatch(stored, expected, "s_checksum"))


def _check_mmp(view: View) -> Iterator[Health]:
    """Check the block of multi-mount protection, if there is one."""
    fs, block = view.fs, view.fs.superblock.s_mmp_block
    if Incompat.MMP not in fs.geometry.incompat or not fs.geometry.metadata_csum:
        return
    if not fs.valid_block(block):
        yield Health("superblock", SUPER_OFFSET, f"s_mmp_block {block} is outside the file system")
        return
    data = fs.read_block(block)
    stored, expected = checksums.MMP.get(data), checksums.expected_mmp(fs.seed, data)
    if stored != expected:
        problem = checksums.mismatch(stored, expected, "mmp_checksum")
        yield Health("multi-mount protection block", view.offset(block), problem)


def _check_backups(view: View) -> Iterator[Health]:
    fs, geometry = view.fs, view.fs.geometry
    for group in geometry.super_copies():
        offset = view.offset(geometry.group_start(group))
        if not group or offset + SuperBlock.SIZE > fs.source.size:
            continue
        raw = fs.read(offset, SuperBlock.SIZE)
        backup = SuperBlock.parse(raw)
        name = f"backup superblock in group {group}"
        if backup.s_magic != SUPER_MAGIC:
            yield Health(name, offset, f"s_magic is {backup.s_magic:#x}")
        elif geometry.metadata_csum and RoCompat.METADATA_CSUM in RoCompat(backup.s_feature_ro_compat):
            yield from _superblock_checksum(raw, name, offset)
        elif geometry.metadata_csum:
            yield Health(name, offset, "METADATA_CSUM is missing")
    for block, index in geometry.backup_desc_blocks():
        offset = view.offset(block)
        if offset >= fs.source.size:
            continue
        data = fs.read_block(block)
        holder = (block - geometry.first_data_block) // geometry.blocks_per_group
        first = index * geometry.descs_per_block
        for group in range(first, min(first + geometry.descs_per_block, geometry.group_count)):
            at = (group - first) * geometry.desc_size
            name = f"backup group descriptor {group} in group {holder}"
            yield from _descriptor_checksum(fs, group, data[at : at + geometry.desc_size], name, offset + at)


def _descriptor_checksum(fs: Ext4, group: int, raw: bytes, name: str, offset: int) -> Iterator[Health]:
    if not fs.geometry.group_csum:
        return
    stored = checksums.GROUP.get(raw)
    if fs.geometry.metadata_csum:
        expected = checksums.expected_group(fs.seed, group, raw)
    else:
        expected = checksums.expected_group_crc16(fs.superblock.s_uuid, group, raw)
    if stored != expected:
        yield Health(name, offset, checksums.mismatch(stored, expected, "bg_checksum"))


def _check_groups(view: View) -> Iterator[Health]:
    fs, geometry = view.fs, view.fs.geometry
    for group in fs.groups:
        offset = geometry.desc_offset(group.number)
        name = f"group descriptor {group.number}"
        yield from _descriptor_checksum(fs, group.number, group.raw, name, offset)
        places = (
            ("bg_block_bitmap", group.block_bitmap, 1),
            ("bg_inode_bitmap", group.inode_bitmap, 1),
            ("bg_inode_table", group.inode_table, geometry.itable_blocks),
        )
        for field, block, count in places:
            if not fs.valid_block(block, count):
                yield Health(name, offset, f"{field} {block} is outside the file system")
        if group.itable_unused > geometry.inodes_per_group:
            yield Health(name, offset, f"bg_itable_unused is {group.itable_unused}")
        if not view.pending:
            yield from _check_bitmaps(view, group, name, offset)


def _check_bitmaps(view: View, group: Group, descriptor: str, descriptor_offset: int) -> Iterator[Health]:
    fs, geometry = view.fs, view.fs.geometry
    wanted = (
        ("block", fs.block_bitmap(group), geometry.blocks_per_group, geometry.group_blocks(group.number)),
        ("inode", fs.inode_bitmap(group), geometry.inodes_per_group, geometry.inodes_per_group),
    )
    for kind, bitmap, bits, valid in wanted:
        if bitmap is None:
            continue
        slot = (
            checksums.block_bitmap_slot(geometry.desc_size)
            if kind == "block"
            else checksums.inode_bitmap_slot(geometry.desc_size)
        )
        offset = view.offset(group.block_bitmap if kind == "block" else group.inode_bitmap)
        name = f"{kind} bitmap of group {group.number}"
        if geometry.metadata_csum:
            stored = slot.get(group.raw)
            expected = checksums.expected_bitmap(fs.seed, bitmap, bits) & slot.mask
            if stored != expected:
                yield Health(name, offset, checksums.mismatch(stored, expected))
        free = bit_text(bitmap, valid).count("0")
        counted = group.free_blocks if kind == "block" else group.free_inodes
        if free != counted:
            problem = f"bg_free_{kind}s_count is {counted}, the bitmap has {free}"
            yield Health(descriptor, descriptor_offset, problem)


def _check_ownership(view: View) -> Iterator[Health]:
    """Compare the owners of all blocks with the block bitmaps, and find blocks with two owners."""
    for conflict in view.segments.conflicts[:_MAX_REPORTS]:
        other = view.names.block(conflict.start) if conflict.owner == conflict.other else _owner(view, conflict.other)
        problem = f"block {conflict.start} is also claimed by {other}"
        yield Health(_owner(view, conflict.owner), view.offset(conflict.start), problem)
    geometry = view.fs.geometry
    for group in view.fs.groups:
        start = geometry.group_start(group.number)
        end = start + geometry.group_blocks(group.number)
        bitmap = view.fs.block_bitmap(group)
        if bitmap is None:
            continue
        bits = bit_text(bitmap, end - start)
        position = start
        for segment in view.segments.from_block(start):
            if segment.start >= end:
                break
            first, last = max(segment.start, start), min(segment.end, end)
            yield from _unowned(view, group, bits, position - start, first - start)
            free = bits.find("0", first - start, last - start)
            if free >= 0:
                problem = f"block {start + free} of {_owner(view, segment)} is marked free"
                yield Health(f"block bitmap of group {group.number}", view.offset(group.block_bitmap), problem)
            position = last
        yield from _unowned(view, group, bits, position - start, end - start)


def _unowned(view: View, group: Group, bits: str, at: int, end: int) -> Iterator[Health]:
    used = bits.find("1", at, end)
    if used >= 0:
        block = view.fs.geometry.group_start(group.number) + used
        problem = f"block {block} is marked used but belongs to nothing"
        yield Health(f"block bitmap of group {group.number}", view.offset(group.block_bitmap), problem)


def _owner(view: View, segment: Segment) -> str:
    if segment.tag >= Tag.JOURNAL:
        return view.names.inode(segment.number)
    return f"{Tag(segment.tag).name.lower().replace('_', ' ')} of group {segment.number}"
