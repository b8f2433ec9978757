"""Checks of inodes and of the blocks that belong to them: extents, directories, attributes, the orphan file."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4 import EXTENT_MAGIC, ORPHAN_MAGIC, ExtentHeader, ExtentTail, InodeFlag, OrphanTail
from rehydrator.fs.ext4.c_ext4_xattr import XATTR_MAGIC, XattrHeader
from rehydrator.fs.ext4.checksums import Slot
from rehydrator.fs.ext4.directory import entries, entries_problem, has_tail, index_block, index_has_tail
from rehydrator.fs.ext4.ext4 import Ext4, Group
from rehydrator.fs.ext4.naming import Names
from rehydrator.fs.ext4.scan import InodeState, Scan
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag
from rehydrator.fs.place import Health

_U16 = struct.Struct("<H")
_IN_USE = (InodeState.USED, InodeState.ORPHAN, InodeState.UNMARKED)
_MAX_TABLE_READ = 4 << 20


def check_inodes(fs: Ext4, scan: Scan, segments: SegmentMap, names: Names) -> Iterator[Health]:
    """Check all inodes in use and the metadata blocks that they own."""
    checker = _Checker(fs, scan, names)
    yield from checker.scan_problems()
    for group in fs.groups:
        yield from checker.group(group)
    for index in range(len(segments)):
        yield from checker.segment(segments[index])


class _Checker:
    def __init__(self, fs: Ext4, scan: Scan, names: Names) -> None:
        self.fs = fs
        self.scan = scan
        self.names = names
        self.size = fs.geometry.block_size
        self._seeds: dict[int, int] = {}
        self._indexed: dict[int, bool] = {}

    def scan_problems(self) -> Iterator[Health]:
        for ino, problem in self.scan.problems:
            yield Health(self._label(ino), self.fs.inode_offset(ino), problem)

    def _label(self, ino: int) -> str:
        path = self.names.path(ino)
        return f"{self.names.inode(ino)} {path}".strip()

    def _seed(self, ino: int) -> int:
        """Seed of the blocks that inode ``ino`` owns."""
        if ino not in self._seeds:
            inode = self.fs.inode(ino)
            self._seeds[ino] = checksums.inode_seed(self.fs.seed, ino, inode.disk.i_generation)
            self._indexed[ino] = InodeFlag.INDEX in inode.flags
        return self._seeds[ino]

    def group(self, group: Group) -> Iterator[Health]:
        """Check the inodes in use of one group."""
        fs, geometry = self.fs, self.fs.geometry
        count = fs.inodes_initialised(group)
        if not count or not fs.valid_block(group.inode_table, geometry.itable_blocks):
            return
        base = group.inode_table * self.size
        size = geometry.inode_size
        per_read = _MAX_TABLE_READ // size
        first = group.number * geometry.inodes_per_group + 1
        for start in range(0, count, per_read):
            amount = min(per_read, count - start)
            table = fs.read(base + start * size, amount * size)
            for index in range(amount):
                ino = first + start + index
                if self.scan.states[ino] in _IN_USE:
                    raw = table[index * size : (index + 1) * size]
                    yield from self._inode(ino, raw, base + (start + index) * size)

    def _inode(self, ino: int, raw: bytes, offset: int) -> Iterator[Health]:
        if self.scan.states[ino] == InodeState.UNMARKED:
            yield Health(self._label(ino), offset, "in use but free in the inode bitmap")
        if not self.fs.geometry.metadata_csum or not any(raw):
            return
        stored, expected = checksums.inode_slot(raw).get(raw), checksums.expected_inode(self.fs.seed, ino, raw)
        if stored != expected:
            yield Health(self._label(ino), offset, checksums.mismatch(stored, expected, "i_checksum"))

    def segment(self, segment: Segment) -> Iterator[Health]:
        """Check the blocks of a segment that are metadata of an inode."""
        check = {
            Tag.DIRECTORY: self._directory,
            Tag.EXTENT_BLOCK: self._extent_block,
            Tag.XATTR: self._xattr_block,
            Tag.ORPHAN_FILE: self._orphan_block,
        }.get(Tag(segment.tag))
        if check is None:
            return
        for block in range(segment.start, segment.end):
            data = self.fs.read_block(block)
            for problem in check(segment, block, data):
                path = self.names.path(segment.number)
                name = f"{_NAMES[Tag(segment.tag)]} {block} of {path or self.names.inode(segment.number)}"
                yield Health(name, block * self.size, problem)

    def _compare(self, slot: Slot, data: bytes, expected: int, name: str) -> Iterator[str]:
        if self.fs.geometry.metadata_csum and slot.get(data) != expected:
            yield checksums.mismatch(slot.get(data), expected, name)

    def _directory(self, segment: Segment, block: int, data: bytes) -> Iterator[str]:
        ino = segment.number
        seed = self._seed(ino)
        logical = segment.logical + block - segment.start
        index = index_block(data) if self._indexed[ino] else None
        if self._indexed[ino] and not logical and index is None:
            yield "the index is damaged"
        elif index is not None and (not logical or not has_tail(data)):
            if index_has_tail(data, index):
                yield from self._compare(
                    checksums.dx_slot(index), data, checksums.expected_dx(seed, data, index), "dt_checksum"
                )
        elif has_tail(data):
            expected = checksums.expected_dir(seed, data)
            yield from self._compare(checksums.dir_slot(self.size), data, expected, "det_checksum")
        elif self.fs.geometry.metadata_csum:
            yield "the checksum tail is missing"
        problem = entries_problem(data)
        if problem:
            yield problem
        for entry in entries(data):
            if not self.fs.geometry.valid_ino(entry.inode) or self.scan.states[entry.inode] not in _IN_USE:
                name = entry.name.decode("utf-8", "backslashreplace")
                yield f"entry {name!r} points to inode {entry.inode}, which is not in use"

    def _extent_block(self, segment: Segment, _block: int, data: bytes) -> Iterator[str]:
        header = ExtentHeader.parse(data)
        if header.eh_magic != EXTENT_MAGIC:
            yield f"eh_magic is {header.eh_magic:#x}"
            return
        slot = checksums.extent_slot(data)
        if slot.parts[0].offset + ExtentTail.SIZE > len(data) or header.eh_entries > header.eh_max:
            yield f"eh_entries is {header.eh_entries}, eh_max {header.eh_max}"
            return
        yield from self._compare(slot, data, checksums.expected_extent(self._seed(segment.number), data), "et_checksum")

    def _xattr_block(self, _segment: Segment, block: int, data: bytes) -> Iterator[str]:
        header = XattrHeader.parse(data)
        if header.h_magic != XATTR_MAGIC:
            yield f"h_magic is {header.h_magic:#x}"
        yield from self._compare(
            checksums.XATTR, data, checksums.expected_xattr(self.fs.seed, block, data), "h_checksum"
        )

    def _orphan_block(self, segment: Segment, block: int, data: bytes) -> Iterator[str]:
        tail = OrphanTail.parse(data, len(data) - OrphanTail.SIZE)
        if tail.ob_magic != ORPHAN_MAGIC:
            yield f"ob_magic is {tail.ob_magic:#x}"
        expected = checksums.expected_orphan(self._seed(segment.number), block, data)
        yield from self._compare(checksums.orphan_slot(self.size), data, expected, "ob_checksum")


_NAMES = {
    Tag.DIRECTORY: "directory block",
    Tag.EXTENT_BLOCK: "extent block",
    Tag.XATTR: "xattr block",
    Tag.ORPHAN_FILE: "orphan file block",
}
