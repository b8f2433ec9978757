"""The owner map of FAT: the name of every byte."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.fs.fat.c_fat import (
    BOOT_SIGNATURE_OFFSET,
    FIRST_CLUSTER,
    FSI_LEAD_SIG,
    FSI_STRUC_SIG,
    FSI_TRAIL_SIG,
    Bpb,
    Bpb16,
    Bpb32,
    DirectoryEntry,
    FsInfo,
    LongEntry,
)
from rehydrator.fs.fat.fat import Fat, Node, Run
from rehydrator.fs.fat.geometry import FatType
from rehydrator.fs.place import Filesystem, Health, Kind, Place

_SIZE = DirectoryEntry.SIZE


class _Segment(NamedTuple):
    """Bytes ``[start, end)``; ``offset`` is the first byte's place in the file."""

    start: int
    end: int
    kind: Kind
    name: str
    number: int = 0
    path: str = ""
    offset: int = 0
    fields: tuple[FieldSpan, ...] = ()


def _boot_fields(wide: bool) -> tuple[FieldSpan, ...]:
    rest: type[Bpb16 | Bpb32] = Bpb32 if wide else Bpb16
    shifted = tuple(FieldSpan(span.name, span.offset + Bpb.SIZE, span.size) for span in rest.FIELDS)
    code = Bpb.SIZE + rest.SIZE
    return (
        *Bpb.FIELDS,
        *shifted,
        FieldSpan("boot code", code, BOOT_SIGNATURE_OFFSET - code),
        FieldSpan("Signature_word", BOOT_SIGNATURE_OFFSET, 2),
    )


class FatFilesystem(Filesystem):
    """FAT12, FAT16 or FAT32. Raises CorruptError on opening what is none; after that damage is only reported."""

    def __init__(self, source: Source) -> None:
        self.reader = Fat(source)
        self.type = self.reader.geometry.type.name.lower()
        self.size = source.size
        self._segments: list[_Segment] = []
        self._starts: list[int] = []

    # -- the map

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along structures. Maps the file system at the first call."""
        if not self._segments:
            self._segments = sorted(_clip(self._map(), self.size))
            self._starts = [segment.start for segment in self._segments]
        for wanted in ranges:
            at, end = max(wanted.offset, 0), min(wanted.end, self.size)
            index = max(bisect_right(self._starts, at) - 1, 0)
            while at < end:
                segment = self._segments[index]
                stop = min(segment.end, end)
                yield self._place(segment, at, stop)
                at, index = stop, index + 1

    def _place(self, segment: _Segment, start: int, end: int) -> Place:
        offset = segment.offset + start - segment.start if segment.path else 0
        fields = segment.fields
        origin = segment.start
        if segment.kind is Kind.FAT:
            origin = segment.offset
            fields = tuple(self._fat_fields(start - origin, end - origin))
            offset = 0
        extent = Extent(start, end - start)
        return Place(extent, origin, segment.kind, segment.name, segment.number, segment.path, offset, fields)

    def _fat_fields(self, start: int, end: int) -> Iterator[FieldSpan]:
        """Entries of a FAT in bytes ``[start, end)`` of it; two of FAT12 share three bytes."""
        bits = int(self.reader.geometry.type)
        count = len(self.reader.table)
        if bits == FatType.FAT12:
            for pair in range(start // 3, min(-(-end // 3), -(-count // 2))):
                yield FieldSpan(f"FAT[{2 * pair}], FAT[{2 * pair + 1}]", 3 * pair, 3)
            return
        size = bits // 8
        for entry in range(start // size, min(-(-end // size), count)):
            yield FieldSpan(f"FAT[{entry}]", entry * size, size)

    def _map(self) -> Iterator[_Segment]:
        geometry = self.reader.geometry
        yield from self._map_reserved()
        for index in range(geometry.fats):
            start = geometry.reserved + index * geometry.fat_size
            for at in range(start, start + geometry.fat_size, geometry.sector_size):
                yield _Segment(at, at + geometry.sector_size, Kind.FAT, f"FAT {index + 1}", index + 1, "", start)
        for node in self.reader.nodes.values():
            if node.directory:
                yield from self._map_directory(node)
            else:
                yield from self._map_file(node)
        yield from self._map_unowned()
        end = geometry.cluster_byte(FIRST_CLUSTER + geometry.clusters)
        if end < geometry.size:
            yield _Segment(end, geometry.size, Kind.SLACK, "slack behind the last cluster")
        if geometry.size < self.size:
            yield _Segment(geometry.size, self.size, Kind.SLACK, "behind the file system")

    def _map_reserved(self) -> Iterator[_Segment]:
        geometry = self.reader.geometry
        size = geometry.sector_size
        fields = _boot_fields(geometry.type is FatType.FAT32)
        backup = geometry.backup_sector
        named = {0: (Kind.BOOT_SECTOR, "boot sector", fields)}
        if geometry.fsinfo_sector:
            named[geometry.fsinfo_sector] = (Kind.SUPERBLOCK, "FSInfo", FsInfo.FIELDS)
        if backup:
            named[backup] = (Kind.BACKUP_SUPERBLOCK, "backup boot sector", fields)
            named[backup + geometry.fsinfo_sector] = (Kind.BACKUP_SUPERBLOCK, "backup FSInfo", FsInfo.FIELDS)
        for sector in range(geometry.reserved // size):
            kind, name, layout = named.get(sector, (Kind.SLACK, f"reserved sector {sector}", ()))
            yield _Segment(sector * size, (sector + 1) * size, kind, name, sector, "", 0, layout)

    def _map_file(self, node: Node) -> Iterator[_Segment]:
        for run in node.runs:
            held = max(min(node.size - run.offset, run.length), 0)
            border = run.start + held
            if held:
                yield _Segment(run.start, border, Kind.FILE_DATA, f"data of {node.path}", 0, node.path, run.offset)
            if held < run.length:
                name = f"slack behind the end of {node.path}"
                yield _Segment(border, run.start + run.length, Kind.SLACK, name, 0, node.path, run.offset + held)

    def _map_directory(self, node: Node) -> Iterator[_Segment]:
        for slot in node.slots:
            start = _position(node.runs, slot.offset)
            fields = LongEntry.FIELDS if slot.long else DirectoryEntry.FIELDS
            name = f"{slot.what} in {node.path}"
            yield _Segment(start, start + _SIZE, Kind.DIRECTORY, name, 0, slot.path, slot.offset, fields)
        used = {slot.offset for slot in node.slots}
        for run in node.runs:
            free = [at for at in range(run.offset, run.offset + run.length, _SIZE) if at not in used]
            for first, last in _groups(free):
                start, end = _position(node.runs, first), _position(node.runs, last) + _SIZE
                yield _Segment(start, end, Kind.DIRECTORY, f"unused entries of {node.path}", 0, node.path, first)

    def _map_unowned(self) -> Iterator[_Segment]:
        geometry, owned, table = self.reader.geometry, self.reader.owned, self.reader.table
        kinds = {0: (Kind.FREE, "free clusters"), geometry.type.bad: (Kind.FREE, "bad clusters")}
        lost = (Kind.UNKNOWN, "lost clusters")
        first = FIRST_CLUSTER
        while first < len(table):
            if owned[first]:
                first += 1
                continue
            what = kinds.get(table[first], lost)
            last = first + 1
            while last < len(table) and not owned[last] and kinds.get(table[last], lost) == what:
                last += 1
            yield _Segment(geometry.cluster_byte(first), geometry.cluster_byte(last), *what, first)
            first = last

    # -- health

    def health(self) -> Iterator[Health]:
        """Check what can be checked: FAT has no checksums but those of long names."""
        reader, geometry = self.reader, self.reader.geometry
        if geometry.size > self.size:
            yield Health("image", self.size, f"truncated: {geometry.size - self.size} bytes are missing")
        yield from reader.problems
        first = reader.read_upto(geometry.reserved, geometry.fat_size)
        for index in range(1, geometry.fats):
            offset = geometry.reserved + index * geometry.fat_size
            other = reader.read_upto(offset, geometry.fat_size)
            if other != first:
                at = next((at for at, pair in enumerate(zip(first, other, strict=False)) if pair[0] != pair[1]), 0)
                yield Health(f"FAT {index + 1}", offset + at, "differs from FAT 1")
        if reader.table[0] & 0xFF != geometry.media:
            yield Health("FAT 1", geometry.reserved, f"FAT[0] is {reader.table[0]:#x}, media {geometry.media:#x}")
        lost = sum(1 for _ in reader.lost())
        if lost:
            yield Health("FAT 1", geometry.reserved, f"{lost} clusters are in use by nobody")
        if geometry.type is FatType.FAT32:
            yield from self._check_sectors()

    def _check_sectors(self) -> Iterator[Health]:
        reader, geometry = self.reader, self.reader.geometry
        size = geometry.sector_size
        for sector in filter(None, (geometry.fsinfo_sector,)):
            data = reader.read_upto(sector * size, size)
            if len(data) < size:
                return
            info = FsInfo.parse(data)
            if (info.FSI_LeadSig, info.FSI_StrucSig, info.FSI_TrailSig) != (
                FSI_LEAD_SIG,
                FSI_STRUC_SIG,
                FSI_TRAIL_SIG,
            ):
                yield Health("FSInfo", sector * size, "wrong signature")
            free = sum(1 for value in reader.table[FIRST_CLUSTER:] if not value)
            if info.FSI_Free_Count not in {free, 0xFFFFFFFF}:
                yield Health("FSInfo", sector * size, f"FSI_Free_Count is {info.FSI_Free_Count}, the FAT has {free}")
        if geometry.backup_sector:
            offset = geometry.backup_sector * size
            if reader.read_upto(offset, size) != reader.read_upto(0, size):
                yield Health("backup boot sector", offset, "differs from the boot sector")


def _clip(segments: Iterable[_Segment], size: int) -> Iterator[_Segment]:
    """Leave out what lies behind the end of a truncated image."""
    for segment in segments:
        if segment.start < size:
            yield segment._replace(end=min(segment.end, size))


def _position(runs: tuple[Run, ...], offset: int) -> int:
    """Byte offset in the file system of byte ``offset`` of a file."""
    run = next(run for run in runs if run.offset <= offset < run.offset + run.length)
    return run.start + offset - run.offset


def _groups(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each unbroken sequence of slots."""
    first = last = -_SIZE
    for at in offsets:
        if at != last + _SIZE or first < 0:
            if first >= 0:
                yield first, last
            first = at
        last = at
    if first >= 0:
        yield first, last
