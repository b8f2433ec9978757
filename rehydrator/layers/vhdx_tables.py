"""The computed parts of a VHDX file: headers, block allocation table, metadata and log."""

from __future__ import annotations

import array
import sys
import uuid
from collections.abc import Iterator, Sequence

import google_crc32c
import msgspec

from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.c_vhdx import (
    BAT_ENTRY_SIZE,
    BAT_OFFSET_SHIFT,
    BAT_REGION,
    DATA_DESCRIPTOR_SIGNATURE,
    DATA_SECTOR_SIGNATURE,
    FILE_PARAMETERS,
    HEADER_OFFSETS,
    HEADER_SECTION,
    HEADER_SIGNATURE,
    HEADER_SIZE,
    LOG_ENTRY_SIGNATURE,
    LOG_SECTOR,
    LOG_VERSION,
    LOGICAL_SECTOR_SIZE,
    METADATA_REGION,
    METADATA_SIGNATURE,
    METADATA_TABLE_SIZE,
    PHYSICAL_SECTOR_SIZE,
    REGION_SIGNATURE,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    SIGNATURE,
    VERSION,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    BlockState,
    DataDescriptor,
    DataSector,
    FileIdentifier,
    FileParameters,
    Header,
    ItemFlag,
    LogEntryHeader,
    MetadataTableEntry,
    MetadataTableHeader,
    RegionTableEntry,
    RegionTableHeader,
)
from rehydrator.layers.vhdx_record import LOG_ENTRY_SIZE, METADATA_LENGTH, Geometry, VhdxRecord

_ENTRIES_PER_PAGE = LOG_SECTOR // BAT_ENTRY_SIZE
_LEADING, _TRAILING = 8, 4  # bytes of a sector that its descriptor holds


def sealed(data: bytes) -> bytes:
    """Return a structure with its checksum, CRC-32C over all of it with the checksum taken as zero."""
    at = Header.offset_of("Checksum")  # the same place in all of them
    blank = data[:at] + bytes(4) + data[at + 4 :]
    return data[:at] + int(google_crc32c.value(blank)).to_bytes(4, "little") + data[at + 4 :]


def header_section(record: VhdxRecord, geometry: Geometry) -> bytes:
    """Return the first MiB: identifier, both headers, both region tables.

    Raises ValueError, OverflowError or struct.error for values that do not fit.
    """
    creator = record.creator.encode("utf-16-le")
    if len(creator) > FileIdentifier.SIZE - FileIdentifier.offset_of("Creator"):
        raise ValueError("the creator is too long")
    section = bytearray(HEADER_SECTION)
    section[: FileIdentifier.SIZE] = FileIdentifier(Signature=SIGNATURE, Creator=creator).pack()
    for at, item in zip(HEADER_OFFSETS, record.headers, strict=True):
        header = Header(
            Signature=HEADER_SIGNATURE,
            Checksum=0,
            SequenceNumber=item.sequence_number,
            FileWriteGuid=uuid.UUID(item.file_write_guid).bytes_le,
            DataWriteGuid=uuid.UUID(item.data_write_guid).bytes_le,
            LogGuid=b"",
            LogVersion=LOG_VERSION,
            Version=VERSION,
            LogLength=record.log_length,
            LogOffset=geometry.log_offset,
        )
        section[at : at + HEADER_SIZE] = sealed(header.pack().ljust(HEADER_SIZE, b"\0"))
    table = _region_table(geometry)
    for at in REGION_TABLE_OFFSETS:
        section[at : at + REGION_TABLE_SIZE] = table
    return bytes(section)


def _region_table(geometry: Geometry) -> bytes:
    regions = (
        (BAT_REGION, geometry.bat_offset, geometry.bat_length),
        (METADATA_REGION, geometry.metadata_offset, METADATA_LENGTH),
    )
    head = RegionTableHeader(Signature=REGION_SIGNATURE, Checksum=0, EntryCount=len(regions), Reserved=0).pack()
    entries = b"".join(
        RegionTableEntry(Guid=guid.bytes_le, FileOffset=offset, Length=length, Required=0).pack()
        for guid, offset, length in regions
    )
    return sealed((head + entries).ljust(REGION_TABLE_SIZE, b"\0"))


def metadata_region(record: VhdxRecord, disk_size: int) -> bytes:
    """Return the table of the metadata items, and the items in its order."""
    disk = ItemFlag.IS_VIRTUAL_DISK | ItemFlag.IS_REQUIRED
    items = (
        (
            FILE_PARAMETERS,
            ItemFlag.IS_REQUIRED,
            FileParameters(BlockSize=record.block_size, Flags=0).pack(),
        ),
        (VIRTUAL_DISK_SIZE, disk, disk_size.to_bytes(8, "little")),
        (VIRTUAL_DISK_ID, disk, uuid.UUID(record.virtual_disk_id).bytes_le),
        (LOGICAL_SECTOR_SIZE, disk, record.logical_sector_size.to_bytes(4, "little")),
        (PHYSICAL_SECTOR_SIZE, disk, record.physical_sector_size.to_bytes(4, "little")),
    )
    table = MetadataTableHeader(Signature=METADATA_SIGNATURE, Reserved=0, EntryCount=len(items), Reserved2=b"").pack()
    held = b""
    for guid, flags, data in items:
        table += MetadataTableEntry(
            ItemId=guid.bytes_le, Offset=METADATA_TABLE_SIZE + len(held), Length=len(data), Flags=flags, Reserved=0
        ).pack()
        held += data
    return (table.ljust(METADATA_TABLE_SIZE, b"\0") + held).ljust(METADATA_LENGTH, b"\0")


class Allocation(msgspec.Struct):
    """Which block of the file holds which guest block, and which log entry told about it."""

    geometry: Geometry
    absent_state: int
    guests: Sequence[int]  # by number in the file
    numbers: dict[int, int]  # number in the file by guest block
    told: dict[int, int]  # sequence number of the log entry by number in the file; all others came before

    @property
    def first_told(self) -> int:
        """Sequence number of the oldest entry that the log still holds; there was one per allocated block."""
        return len(self.guests) - len(self.told) + 1

    def entry(self, guest: int, moment: int) -> int:
        """Return a block's entry as it was when the log entry ``moment`` was written."""
        number = self.numbers.get(guest)
        if number is None or self.told.get(number, 0) > moment:
            return self.absent_state
        offset = self.geometry.block_offset(number)
        return offset >> BAT_OFFSET_SHIFT << BAT_OFFSET_SHIFT | BlockState.FULLY_PRESENT

    def page(self, number: int, moment: int = sys.maxsize) -> bytes:
        """Return a page of the block allocation table as it was at a moment; bitmap blocks are never there."""
        entries = array.array("Q", bytes(LOG_SECTOR))
        first = number * _ENTRIES_PER_PAGE
        end = self.geometry.bat_index(self.geometry.payload_blocks - 1) + 1 if self.geometry.payload_blocks else 0
        for place in range(min(_ENTRIES_PER_PAGE, end - first)):
            chunk, inside = divmod(first + place, self.geometry.chunk_ratio + 1)
            if inside < self.geometry.chunk_ratio:
                entries[place] = self.entry(chunk * self.geometry.chunk_ratio + inside, moment)
        if sys.byteorder == "big":
            entries.byteswap()
        return entries.tobytes()


def allocate(record: VhdxRecord, runs: Sequence[BlockRun], geometry: Geometry) -> Allocation:
    """Lay the blocks of ``runs`` out; raises MismatchError for a record that contradicts itself."""
    guests = [run.start + step for run in runs for step in range(run.count)]
    numbers = {guest: number for number, guest in enumerate(guests)}
    if len(numbers) != len(guests):
        raise MismatchError("the VHDX record allocates a block twice")
    first = len(guests) - len(record.log) + 1
    told = {number: first + index for index, number in enumerate(logged(record, len(guests)))}
    if len(told) != len(record.log) or not all(0 <= number < len(guests) for number in told):
        raise MismatchError("the log of the VHDX record does not fit its blocks")
    return Allocation(geometry, record.absent_state, guests, numbers, told)


def logged(record: VhdxRecord, blocks: int) -> Sequence[int]:
    """Return which block of the file each entry of the log is about."""
    return record.log_order or range(blocks - len(record.log), blocks)


class Pages(Source):
    """Sectors of 4 KiB that are computed when they are read."""

    def __init__(self, size: int) -> None:
        self.size = size

    def page(self, number: int) -> bytes:
        """Return a sector."""
        raise NotImplementedError

    def extents(self) -> Iterator[Extent]:
        """Yield everything."""
        if self.size:
            yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Join the sectors that the range touches."""
        first, last = offset // LOG_SECTOR, -(-(offset + length) // LOG_SECTOR)
        data = b"".join(self.page(number) for number in range(first, last))
        return data[offset - first * LOG_SECTOR :][:length]


class BatRegion(Pages):
    """The block allocation table."""

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation.geometry.bat_length)
        self._allocation = allocation

    def page(self, number: int) -> bytes:
        """Return a page as it is at the end."""
        return self._allocation.page(number)


class LogRegion(Pages):
    """The log: a ring of entries, each with one descriptor and one data sector."""

    def __init__(self, record: VhdxRecord, allocation: Allocation) -> None:
        super().__init__(record.log_length)
        self._record = record
        self._allocation = allocation
        self._slots = record.log_length // LOG_ENTRY_SIZE
        self._guids = [uuid.UUID(guid).bytes_le for guid in record.log]
        self._last = len(allocation.guests)
        self._first = allocation.first_told
        self._order = logged(record, self._last)
        self._rests = {rest.entry: rest.data for rest in record.log_rest}

    def page(self, number: int) -> bytes:
        """Return a sector: head or data of the entry that holds this place of the ring, zeros where none does."""
        slot, second = divmod(number, 2)
        sequence = self._first + (slot - (self._first - 1)) % self._slots
        if sequence > self._last:
            return bytes(LOG_SECTOR)
        entry = self._entry(sequence, slot)
        return entry[LOG_SECTOR:] if second else entry[:LOG_SECTOR]

    def _entry(self, sequence: int, slot: int) -> bytes:
        index = sequence - self._first
        number = self._order[index]
        geometry = self._allocation.geometry
        page = geometry.bat_index(self._allocation.guests[number]) // _ENTRIES_PER_PAGE
        data = self._allocation.page(page, sequence)
        ends = self._record.log_ends[index] if self._record.log_ends else number + 1
        file_offset = geometry.block_offset(ends)
        head = LogEntryHeader(
            Signature=LOG_ENTRY_SIGNATURE,
            Checksum=0,
            EntryLength=LOG_ENTRY_SIZE,
            Tail=slot * LOG_ENTRY_SIZE,
            SequenceNumber=sequence,
            DescriptorCount=1,
            Reserved=0,
            LogGuid=self._guids[index],
            FlushedFileOffset=file_offset,
            LastFileOffset=file_offset,
        ).pack()
        descriptor = DataDescriptor(
            Signature=DATA_DESCRIPTOR_SIGNATURE,
            TrailingBytes=data[LOG_SECTOR - _TRAILING :],
            LeadingBytes=data[:_LEADING],
            FileOffset=geometry.bat_offset + page * LOG_SECTOR,
            SequenceNumber=sequence,
        ).pack()
        sector = DataSector(
            Signature=DATA_SECTOR_SIGNATURE,
            SequenceHigh=sequence >> 32,
            Data=data[_LEADING : LOG_SECTOR - _TRAILING],
            SequenceLow=sequence & 0xFFFFFFFF,
        ).pack()
        rest = self._rests.get(index, b"")
        return sealed((head + descriptor + rest).ljust(LOG_SECTOR, b"\0") + sector)
