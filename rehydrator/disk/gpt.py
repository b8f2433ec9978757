"""The partition table of a disk: which bytes belong to which partition."""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Iterator
from uuid import UUID

import msgspec

from rehydrator.disk.c_gpt import MAX_ENTRIES_BYTES, MIN_ENTRY_SIZE, SECTOR_SIZES, SIGNATURE, GptEntry, GptHeader
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError

WHOLE_DISK = "disk"  # the name of the only region of a disk without partitions


class Region(msgspec.Struct, frozen=True):
    """A named part of a disk: a partition (``p3 boot``), part of the table (``gpt``) or a gap between them.

    ``number`` is that of the partition in the table, 0 for what is none.
    """

    name: str
    extent: Extent
    number: int = 0

    @property
    def partition(self) -> bool:
        """Whether this is a partition."""
        return self.number > 0

    @property
    def label(self) -> str:
        """The partition's name in the table, without its number; empty for what is none."""
        return self.name.partition(" ")[2] if self.partition else ""


class PartitionTable(msgspec.Struct, frozen=True):
    """All regions of a disk in order, without overlap and without gaps."""

    sector_size: int
    regions: tuple[Region, ...]

    def split(self, extent: Extent) -> Iterator[tuple[Region, Extent]]:
        """Yield the parts of ``extent`` region by region."""
        starts = [region.extent.offset for region in self.regions]
        at = extent.offset
        index = max(bisect.bisect_right(starts, at) - 1, 0)
        while at < extent.end:
            region = self.regions[index]
            last = index == len(self.regions) - 1
            stop = extent.end if last else min(extent.end, region.extent.end)
            yield region, Extent(at, stop - at)
            at, index = stop, index + 1


def read_table(disk: Source) -> PartitionTable:
    """Read the primary GPT of ``disk``; a disk without one is a single region, :data:`WHOLE_DISK`.

    Raises CorruptError for a table whose checksum or partitions are wrong.
    """
    for sector in SECTOR_SIZES:
        if disk.size >= 2 * sector:
            header = GptHeader.parse(disk.read(sector, GptHeader.SIZE))
            if header.Signature == SIGNATURE:
                _check_header(disk, header, sector)
                return PartitionTable(sector, tuple(_regions(disk, header, sector)))
    return whole_disk(disk)


def whole_disk(disk: Source) -> PartitionTable:
    """Return the table of a disk without partitions: one region."""
    return PartitionTable(SECTOR_SIZES[0], (Region(WHOLE_DISK, Extent(0, disk.size)),))


def partition_types(disk: Source, table: PartitionTable) -> dict[str, UUID]:
    """Return the type GUID of each partition of ``table``, which was read from ``disk``, by the region's name."""
    if not any(region.partition for region in table.regions):
        return {}
    header = GptHeader.parse(disk.read(table.sector_size, GptHeader.SIZE))
    return {
        _name(number, entry): UUID(bytes_le=entry.PartitionTypeGUID)
        for number, entry in _entries(disk, header, table.sector_size)
    }


def _name(number: int, entry: GptEntry) -> str:
    return f"p{number} {entry.PartitionName.decode('utf-16-le', 'replace').rstrip(chr(0))}".rstrip()


def _check_header(disk: Source, header: GptHeader, sector: int) -> None:
    if not GptHeader.SIZE <= header.HeaderSize <= min(sector, disk.size - sector):
        raise CorruptError(
            "impossible GPT header size",
            offset=sector + GptHeader.offset_of("HeaderSize"),
            expected=f"{GptHeader.SIZE}..{sector}",
            actual=header.HeaderSize,
        )
    data = bytearray(disk.read(sector, header.HeaderSize))
    at = GptHeader.offset_of("HeaderCRC32")
    data[at : at + 4] = bytes(4)  # the checksum was made with zeros in its own place
    crc = zlib.crc32(data)
    if crc != header.HeaderCRC32:
        raise CorruptError(
            "wrong GPT header checksum", offset=sector, expected=f"{header.HeaderCRC32:#010x}", actual=f"{crc:#010x}"
        )


def _entries(disk: Source, header: GptHeader, sector: int) -> Iterator[tuple[int, GptEntry]]:
    at = header.PartitionEntryLBA * sector
    step = header.SizeOfPartitionEntry
    length = step * header.NumberOfPartitionEntries
    if step < MIN_ENTRY_SIZE or length > MAX_ENTRIES_BYTES or at + length > disk.size:
        raise CorruptError("impossible GPT entry array", offset=sector, actual=f"{length} bytes at {at:#x}")
    data = bytes(disk.read(at, length))
    crc = zlib.crc32(data)
    if crc != header.PartitionEntryArrayCRC32:
        raise CorruptError(
            "wrong GPT entry array checksum",
            offset=at,
            expected=f"{header.PartitionEntryArrayCRC32:#010x}",
            actual=f"{crc:#010x}",
        )
    for number in range(header.NumberOfPartitionEntries):
        entry = GptEntry.parse(data, number * step)
        if entry.PartitionTypeGUID != bytes(16):
            yield number + 1, entry


def _regions(disk: Source, header: GptHeader, sector: int) -> Iterator[Region]:
    yield Region("mbr", Extent(0, sector))
    at = sector
    end_of_table = header.FirstUsableLBA * sector
    if sector < end_of_table <= disk.size:
        yield Region("gpt", Extent(at, end_of_table - at))
        at = end_of_table
    for number, entry in sorted(_entries(disk, header, sector), key=lambda item: item[1].StartingLBA):
        start, end = entry.StartingLBA * sector, (entry.EndingLBA + 1) * sector
        if start < at or end < start or end > disk.size:
            raise CorruptError(f"partition {number} overlaps or leaves the disk", offset=start)
        if start > at:
            yield Region("gap", Extent(at, start - at))
        yield Region(_name(number, entry), Extent(start, end - start), number)
        at = end
    backup = header.AlternateLBA * sector
    if at < backup <= disk.size - sector:
        yield Region("backup gpt", Extent(at, backup + sector - at))
        at = backup + sector
    if at < disk.size:
        yield Region("tail", Extent(at, disk.size - at))
