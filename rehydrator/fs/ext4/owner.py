"""Naming every byte of an ext4 file system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.fs.ext4.c_ext4 import SUPER_OFFSET, GroupDesc, GroupDesc64, MmpBlock, SuperBlock
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.free import free_runs
from rehydrator.fs.ext4.health import check
from rehydrator.fs.ext4.inode import extra_isize, inode_fields
from rehydrator.fs.ext4.jbd2 import Journal
from rehydrator.fs.ext4.journal_places import journal_place
from rehydrator.fs.ext4.layout import segment_map
from rehydrator.fs.ext4.naming import Names
from rehydrator.fs.ext4.scan import Scan, scan_inodes
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag
from rehydrator.fs.place import Filesystem, Health, Kind, Place

_TABLE_CHUNK = 1 << 20
Cutter = Callable[["Ext4Filesystem", Segment, int, int], Iterator[Place]]


class Ext4Filesystem(Filesystem):
    """An ext4 file system that begins at byte 0 of ``source``.

    Raises CorruptError for a source that holds none and UnsupportedError for features that can't be read. Everything
    else is found lazily: the first call of ``places`` maps all inodes, the first look at the journal parses it.
    """

    type = "ext4"

    def __init__(self, source: Source) -> None:
        self.fs = Ext4(source)
        self.size = source.size

    @cached_property
    def scan(self) -> Scan:
        """All inodes in use, their blocks and names."""
        return scan_inodes(self.fs)

    @cached_property
    def segments(self) -> SegmentMap:
        """The owner of each block that has one."""
        return segment_map(self.fs, self.scan)

    @cached_property
    def names(self) -> Names:
        """Paths of inodes and descriptions of blocks."""
        return Names(self.fs, self.scan, self.segments)

    @cached_property
    def journal(self) -> Journal | None:
        """The internal journal; None without one."""
        inum = self.fs.superblock.s_journal_inum
        if not self.fs.geometry.valid_ino(inum):
            return None
        runs = self.fs.block_map(self.fs.inode(inum)).runs
        if not runs:
            return None
        count = max(run.logical + run.count for run in runs)
        return Journal(
            self.fs.block_reader(runs), min(count, self.fs.geometry.blocks_count), self.fs.geometry.block_size
        )

    def path(self, ino: int) -> str:
        """Path of an inode, "" for one without a name."""
        return self.names.path(ino)

    def health(self) -> Iterator[Health]:
        """Check the checksums and invariants of all metadata."""
        return check(self.fs, self.scan, self.segments, self.names, self.journal)

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along structures; together the places cover exactly the ranges, in order."""
        for extent in ranges:
            yield from self._range(extent.offset, extent.end)

    def _range(self, at: int, end: int) -> Iterator[Place]:
        size = self.fs.geometry.block_size
        if at >= end:
            return
        for segment in self.segments.from_block(at // size):
            start = segment.start * size
            if start >= end:
                break
            if at < start:
                yield from self._gap(at, start)
                at = start
            stop = min(segment.end * size, end)
            yield from _CUTTERS[Tag(segment.tag)](self, segment, at, stop)
            at = stop
            if at >= end:
                return
        yield from self._gap(at, end)

    def _gap(self, at: int, end: int) -> Iterator[Place]:
        """Name blocks without owner, and what lies behind the last block."""
        size = self.fs.geometry.block_size
        last = self.fs.geometry.blocks_count * size
        if at < min(end, last):
            stop = min(end, last)
            for run in free_runs(self.fs, at // size, -(-stop // size)):
                begin, finish = max(run.start * size, at), min(run.end * size, stop)
                kind = Kind.FREE if run.free else Kind.UNKNOWN
                name = "free space" if run.free else "allocated block without owner"
                yield Place(_extent(begin, finish), run.whole_start * size, kind, name, number=run.group)
        if end > last:
            yield Place(_extent(max(at, last), end), last, Kind.SLACK, "slack behind the file system")

    # -- one cutter per kind of segment; each covers exactly [at, stop), which lies within the segment

    def _boot(self, _segment: Segment, at: int, stop: int) -> Iterator[Place]:
        yield Place(_extent(at, stop), 0, Kind.BOOT_SECTOR, "boot block")

    def _super(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        base = segment.start * self.fs.geometry.block_size
        start = max(base, SUPER_OFFSET)
        yield from _pieces(at, stop, base, start, Kind.BOOT_SECTOR, "boot block")
        end = start + SuperBlock.SIZE
        yield from _pieces(at, stop, start, end, Kind.SUPERBLOCK, "superblock", fields=SuperBlock.FIELDS)
        yield from _pieces(at, stop, end, stop, Kind.SLACK, "slack behind the superblock")

    def _backup_super(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        start = segment.start * self.fs.geometry.block_size
        end, number = start + SuperBlock.SIZE, segment.number
        name = f"backup superblock in group {number}"
        yield from _pieces(at, stop, start, end, Kind.BACKUP_SUPERBLOCK, name, number, SuperBlock.FIELDS)
        yield from _pieces(at, stop, end, stop, Kind.SLACK, f"slack behind the {name}", number)

    def _descriptors(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        geometry = self.fs.geometry
        base, size = segment.start * geometry.block_size, geometry.desc_size
        first = segment.logical * geometry.descs_per_block
        kind, where = Kind.GROUP_DESCRIPTOR, ""
        if segment.tag == Tag.BACKUP_GROUP_DESC:
            kind, where = Kind.BACKUP_GROUP_DESCRIPTOR, f" in group {segment.number}"
        fields = _desc_fields(size)
        count = min(geometry.descs_per_block, geometry.group_count - first)
        for index in range((at - base) // size, min(-(-(stop - base) // size), count)):
            start = base + index * size
            name = f"{kind.value} {first + index}{where}"
            yield from _pieces(at, stop, start, start + size, kind, name, first + index, fields)
        yield from _pieces(at, stop, base + count * size, stop, Kind.SLACK, "slack behind the group descriptors")

    def _single_blocks(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        """One place for each block of what belongs to a group."""
        kind = _GROUP_KINDS[Tag(segment.tag)]
        size = self.fs.geometry.block_size
        for start in range(at // size * size, stop, size):
            yield from _pieces(
                at, stop, start, start + size, kind, f"{kind.value} of group {segment.number}", segment.number
            )

    def _mmp(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        start = segment.start * self.fs.geometry.block_size
        end = start + MmpBlock.SIZE
        name = "multi-mount protection block"
        yield from _pieces(at, stop, start, end, Kind.SUPERBLOCK, name, fields=MmpBlock.FIELDS)
        yield from _pieces(at, stop, end, stop, Kind.SLACK, f"slack behind the {name}")

    def _inodes(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        geometry, names = self.fs.geometry, self.names
        size = geometry.inode_size
        base = (segment.start - segment.logical) * geometry.block_size
        first = segment.number * geometry.inodes_per_group + 1
        end = base + geometry.inodes_per_group * size
        for chunk in range(at // size * size, min(stop, end), _TABLE_CHUNK):
            chunk_end = min(chunk + _TABLE_CHUNK, stop, end)
            raw = memoryview(self.fs.read(chunk, -(-(chunk_end - chunk) // size) * size))
            for start in range(chunk, chunk_end, size):
                ino = first + (start - base) // size
                within = raw[start - chunk : start - chunk + size]
                yield Place(
                    _extent(max(at, start), min(stop, start + size)),
                    start,
                    Kind.INODE,
                    names.inode(ino),
                    ino,
                    names.path(ino) if self.scan.states[ino] else "",
                    fields=inode_fields(size, extra_isize(within)),
                )
        yield from _pieces(at, stop, end, stop, Kind.SLACK, "slack behind the inode table", segment.number)

    def _owned_blocks(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        """One place for each block of an inode that is not plain content."""
        size = self.fs.geometry.block_size
        ino, tag = segment.number, Tag(segment.tag)
        kind, name = _OWNED_KINDS[tag]
        path = self.path(ino)
        level = f" (level {segment.logical})" if tag in (Tag.EXTENT_BLOCK, Tag.INDIRECT_BLOCK) else ""
        text = f"{name} of {self.names.inode(ino)}{level}"
        for start in range(at // size * size, stop, size):
            begin = max(at, start)
            offset = self._file_offset(segment, begin) if tag in _WITH_OFFSET else 0
            yield Place(_extent(begin, min(stop, start + size)), start, kind, text, ino, path, offset)

    def _content(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        size = self.fs.geometry.block_size
        start, ino = segment.start * size, segment.number
        path = self.path(ino)
        inode = self.names.inode(ino)
        end = start + min(max(self.scan.sizes.get(ino, stop) - segment.logical * size, 0), segment.length * size)
        if ino < self.fs.geometry.first_ino:
            end = stop
        if at < min(stop, end):
            extent = _extent(at, min(stop, end))
            yield Place(extent, start, Kind.FILE_DATA, f"data of {inode}", ino, path, self._file_offset(segment, at))
        if end < stop:
            at = max(at, end)
            offset = self._file_offset(segment, at)
            yield Place(_extent(at, stop), end, Kind.SLACK, f"slack behind the end of {inode}", ino, path, offset)

    def _file_offset(self, segment: Segment, at: int) -> int:
        """Byte offset within the file of byte ``at`` of the file system."""
        return at + (segment.logical - segment.start) * self.fs.geometry.block_size

    def _journal(self, segment: Segment, at: int, stop: int) -> Iterator[Place]:
        size = self.fs.geometry.block_size
        for start in range(at // size * size, stop, size):
            number = segment.logical + start // size - segment.start
            for place in journal_place(self.journal, self.names, start, number, size):
                begin, end = max(at, place.extent.offset), min(stop, place.extent.end)
                if begin < end:
                    yield place if place.extent == (begin, end - begin) else _clipped(place, begin, end)


def _extent(start: int, stop: int) -> Extent:
    return Extent(start, stop - start)


def _clipped(place: Place, start: int, stop: int) -> Place:
    return Place(
        _extent(start, stop),
        place.start,
        place.kind,
        place.name,
        place.number,
        place.path,
        place.file_offset,
        place.fields,
    )


def _pieces(
    at: int,
    stop: int,
    start: int,
    end: int,
    kind: Kind,
    name: str,
    number: int = 0,
    fields: tuple[FieldSpan, ...] = (),
) -> Iterator[Place]:
    """Yield the part of the structure ``[start, end)`` that lies in ``[at, stop)``, if any."""
    begin, finish = max(at, start), min(stop, end)
    if begin < finish:
        yield Place(_extent(begin, finish), start, kind, name, number, fields=fields)


def _desc_fields(size: int) -> tuple[FieldSpan, ...]:
    if size < GroupDesc64.SIZE:
        return GroupDesc.FIELDS
    if size == GroupDesc64.SIZE:
        return GroupDesc64.FIELDS
    return (*GroupDesc64.FIELDS, FieldSpan("bg_spare", GroupDesc64.SIZE, size - GroupDesc64.SIZE))


_GROUP_KINDS = {
    Tag.RESERVED_GDT: Kind.RESERVED_GDT,
    Tag.BLOCK_BITMAP: Kind.BLOCK_BITMAP,
    Tag.INODE_BITMAP: Kind.INODE_BITMAP,
}
_OWNED_KINDS = {
    Tag.ORPHAN_FILE: (Kind.FILE_DATA, "orphan file block"),
    Tag.EXTENT_BLOCK: (Kind.EXTENT_BLOCK, "extent block"),
    Tag.INDIRECT_BLOCK: (Kind.EXTENT_BLOCK, "indirect block"),
    Tag.XATTR: (Kind.XATTR_BLOCK, "xattr block"),
    Tag.DIRECTORY: (Kind.DIRECTORY, "directory block"),
    Tag.SYMLINK: (Kind.SYMLINK, "symlink target"),
    Tag.UNWRITTEN: (Kind.SLACK, "unwritten extent"),
    Tag.BAD: (Kind.UNKNOWN, "bad block"),
}
_WITH_OFFSET = (Tag.ORPHAN_FILE, Tag.DIRECTORY, Tag.SYMLINK, Tag.UNWRITTEN, Tag.BAD)
_CUTTERS: dict[Tag, Cutter] = {
    Tag.BOOT: Ext4Filesystem._boot,
    Tag.SUPER: Ext4Filesystem._super,
    Tag.BACKUP_SUPER: Ext4Filesystem._backup_super,
    Tag.GROUP_DESC: Ext4Filesystem._descriptors,
    Tag.BACKUP_GROUP_DESC: Ext4Filesystem._descriptors,
    Tag.RESERVED_GDT: Ext4Filesystem._single_blocks,
    Tag.BLOCK_BITMAP: Ext4Filesystem._single_blocks,
    Tag.INODE_BITMAP: Ext4Filesystem._single_blocks,
    Tag.INODE_TABLE: Ext4Filesystem._inodes,
    Tag.MMP: Ext4Filesystem._mmp,
    Tag.JOURNAL: Ext4Filesystem._journal,
    Tag.ORPHAN_FILE: Ext4Filesystem._owned_blocks,
    Tag.EXTENT_BLOCK: Ext4Filesystem._owned_blocks,
    Tag.INDIRECT_BLOCK: Ext4Filesystem._owned_blocks,
    Tag.XATTR: Ext4Filesystem._owned_blocks,
    Tag.DIRECTORY: Ext4Filesystem._owned_blocks,
    Tag.SYMLINK: Ext4Filesystem._owned_blocks,
    Tag.DATA: Ext4Filesystem._content,
    Tag.UNWRITTEN: Ext4Filesystem._owned_blocks,
    Tag.BAD: Ext4Filesystem._owned_blocks,
}
