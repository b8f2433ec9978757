"""The partition table as places with fields, and whether its checksums hold."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.boot.zipl import layout as zipl
from rehydrator.disk.c_gpt import (
    GPT_PROTECTIVE,
    MAX_ENTRIES_BYTES,
    MBR_SIGNATURE,
    MIN_ENTRY_SIZE,
    SIGNATURE,
    GptEntry,
    GptHeader,
    Mbr,
    MbrRecord,
)
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.explain import causes
from rehydrator.fs.place import Health

_BOOT_CODE = Extent(Mbr.offset_of("BootCode"), Mbr.offset_of("UniqueMBRDiskSignature"))


def _mbr_fields() -> Iterator[FieldSpan]:
    for span in Mbr.FIELDS[1:]:  # boot code is a place of its own
        if span.name != "PartitionRecord":
            yield span
            continue
        for number in range(span.size // MbrRecord.SIZE):
            at = span.offset + number * MbrRecord.SIZE
            yield FieldSpan(f"{span.name}[{number}]", at, MbrRecord.SIZE)


class TablePlace(msgspec.Struct, frozen=True):
    """A structure of the partition table at ``extent`` of the disk."""

    extent: Extent
    structure: str
    name: str
    fields: tuple[FieldSpan, ...] = ()


class Gpt(msgspec.Struct, frozen=True):
    """The headers of a disk; ``backup`` is where the primary says that the other one lies, None without a table."""

    sector: int
    primary: GptHeader | None
    backup: int | None


def read_gpt(disk: Source, sector: int) -> Gpt:
    """Read the primary header, whatever its checksums say."""
    if disk.size < 2 * sector:
        return Gpt(sector, None, None)
    header = GptHeader.parse(disk.read(sector, GptHeader.SIZE))
    if header.Signature != SIGNATURE:
        return Gpt(sector, None, None)
    return Gpt(sector, header, header.AlternateLBA * sector)


def places(disk: Source, gpt: Gpt) -> list[TablePlace]:
    """Return the structures of both tables, in disk order; a disk without a table has none."""
    if gpt.primary is None:
        return []
    record = zipl.boot_record(bytes(disk.read(0, gpt.sector)))
    found = [
        *([] if record is None else [TablePlace(record.extent, record.structure, record.name, record.fields)]),
        TablePlace(_BOOT_CODE, causes.BOOT_CODE, "MBR boot code"),
        TablePlace(Extent(0, Mbr.SIZE), causes.MBR_TABLE, "MBR", tuple(_mbr_fields())),
        *_table(gpt.primary, gpt.sector, gpt.sector, causes.GPT_HEADER, causes.GPT_ENTRY),
    ]
    backup = read_backup(disk, gpt)
    if gpt.backup is not None and backup is not None:
        found += _table(backup, gpt.backup, gpt.sector, causes.BACKUP_GPT_HEADER, causes.BACKUP_GPT_ENTRY)
    found = [place for place in found if place.extent.end <= disk.size]
    return sorted(found, key=lambda place: place.extent)


def read_backup(disk: Source, gpt: Gpt) -> GptHeader | None:
    """Read the backup header where the primary says that it lies."""
    at = gpt.backup
    if at is None or at + GptHeader.SIZE > disk.size:
        return None
    header = GptHeader.parse(disk.read(at, GptHeader.SIZE))
    return header if header.Signature == SIGNATURE else None


def _entries_extent(header: GptHeader, sector: int) -> Extent | None:
    length = header.SizeOfPartitionEntry * header.NumberOfPartitionEntries
    if header.SizeOfPartitionEntry < MIN_ENTRY_SIZE or length > MAX_ENTRIES_BYTES:
        return None
    return Extent(header.PartitionEntryLBA * sector, length)


def _table(header: GptHeader, at: int, sector: int, head: str, entry: str) -> Iterator[TablePlace]:
    yield TablePlace(Extent(at, sector), head, head, GptHeader.FIELDS)
    extent = _entries_extent(header, sector)
    if extent is None:
        return
    step = header.SizeOfPartitionEntry
    for number in range(header.NumberOfPartitionEntries):
        place = Extent(extent.offset + number * step, step)
        yield TablePlace(place, entry, f"{entry} {number + 1}", GptEntry.FIELDS)


def health(disk: Source, gpt: Gpt, *, hybrid: bool = False) -> Iterator[Health]:
    """Check the protective MBR, both headers and both entry arrays; a ``hybrid`` MBR protects nothing."""
    if gpt.primary is None:
        return
    if not hybrid:
        yield from _check_mbr(Mbr.parse(disk.read(0, Mbr.SIZE)))
    yield from _check(disk, gpt.primary, gpt.sector, gpt.sector, causes.GPT_HEADER)
    backup = read_backup(disk, gpt)
    if gpt.backup is None:
        return
    if gpt.backup + gpt.sector > disk.size:
        text = f"should lie at {gpt.backup:#x}, beyond the end of the disk: the image is truncated"
        yield Health(causes.BACKUP_GPT_HEADER, gpt.backup, text)
    elif backup is None:
        yield Health(causes.BACKUP_GPT_HEADER, gpt.backup, "is missing")
    else:
        yield from _check(disk, backup, gpt.backup, gpt.sector, causes.BACKUP_GPT_HEADER)


def _check_mbr(mbr: Mbr) -> Iterator[Health]:
    """Expect what firmware and kernels look for before they believe in a GPT."""
    if mbr.Signature != MBR_SIGNATURE:
        yield Health(causes.MBR_TABLE, 0, f"Signature is {mbr.Signature:#06x}, should be {MBR_SIGNATURE:#06x}")
    elif not any(record.OSType == GPT_PROTECTIVE and record.StartingLBA == 1 for record in mbr.records):
        yield Health(causes.MBR_TABLE, 0, f"no partition record of type {GPT_PROTECTIVE:#04x} protects the disk")


def _check(disk: Source, header: GptHeader, at: int, sector: int, name: str) -> Iterator[Health]:
    if not GptHeader.SIZE <= header.HeaderSize <= sector:
        yield Health(name, at, f"HeaderSize is {header.HeaderSize}")
        return
    raw = bytearray(disk.read(at, header.HeaderSize))
    crc_at = GptHeader.offset_of("HeaderCRC32")
    raw[crc_at : crc_at + 4] = bytes(4)
    if zlib.crc32(raw) != header.HeaderCRC32:
        yield Health(name, at, f"wrong HeaderCRC32 {header.HeaderCRC32:#010x}, should be {zlib.crc32(raw):#010x}")
    extent = _entries_extent(header, sector)
    if extent is None or extent.end > disk.size:
        yield Health(name, at, "impossible partition entry array")
    elif zlib.crc32(disk.read(*extent)) != header.PartitionEntryArrayCRC32:
        yield Health(name, at, f"wrong PartitionEntryArrayCRC32 {header.PartitionEntryArrayCRC32:#010x}")
