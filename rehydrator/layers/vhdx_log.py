"""Reading the log that a VHDX file was written through: which block each of its entries was about."""

from __future__ import annotations

import array
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.c_vhdx import (
    BAT_STATE_MASK,
    LOG_ENTRY_SIGNATURE,
    LOG_SECTOR,
    BlockState,
    DataDescriptor,
    DataSector,
    LogEntryHeader,
)
from rehydrator.layers.vhdx_record import LOG_ENTRY_SIZE, LOG_HEAD, Geometry, LogRest
from rehydrator.layers.vhdx_tables import sealed


class LogEntry(msgspec.Struct, frozen=True):
    """An entry at byte ``offset`` of the file: its header, which sector it brings up to date, what is behind that."""

    offset: int
    header: LogEntryHeader
    descriptor: DataDescriptor
    rest: bytes


class Log(msgspec.Struct, frozen=True):
    """The fields of the record that tell the log; see ``VhdxRecord``."""

    log: list[str]
    log_order: list[int]
    log_ends: list[int]
    log_rest: list[LogRest]


def read_log(outer: Source, geometry: Geometry, numbers: Mapping[int, int], path: Path) -> Log:
    """Read the ring; ``numbers`` are the blocks of the file by their offset.

    Raises CorruptError for a wrong checksum and UnsupportedError for a log that was not written block by block.
    """
    entries = sorted(_entries(outer, geometry, path), key=lambda entry: entry.header.SequenceNumber)
    sequences = [entry.header.SequenceNumber for entry in entries]
    if sequences != list(range(len(numbers) - len(entries) + 1, len(numbers) + 1)):
        raise UnsupportedError(
            "VHDX log with other entries than one per block",
            path=path,
            offset=geometry.log_offset,
            expected=f"sequence numbers up to {len(numbers)}",
            actual=f"{len(sequences)} up to {sequences[-1] if sequences else 0}",
        )
    usual = range(len(numbers) - len(entries), len(numbers))
    order = list(_order(outer, entries, numbers, path))
    ends = [(entry.header.FlushedFileOffset - geometry.data_offset) // geometry.block_size for entry in entries]
    return Log(
        log=[str(uuid.UUID(bytes_le=entry.header.LogGuid)) for entry in entries],
        log_order=[] if order == list(usual) else order,
        log_ends=[] if ends == [number + 1 for number in order] else ends,
        log_rest=[LogRest(number, entry.rest) for number, entry in enumerate(entries) if entry.rest],
    )


def _entries(outer: Source, geometry: Geometry, path: Path) -> Iterator[LogEntry]:
    """Yield the entries in the order of the ring."""
    for at in range(geometry.log_offset, geometry.log_offset + geometry.log_length, LOG_ENTRY_SIZE):
        data = bytes(outer.read(at, LOG_ENTRY_SIZE))
        if not data.startswith(LOG_ENTRY_SIGNATURE):
            continue  # empty, or what will not be written back: the comparison of all bytes says so
        if sealed(data) != data:
            raise CorruptError(
                "VHDX log entry Checksum is wrong",
                path=path,
                offset=at + LogEntryHeader.offset_of("Checksum"),
                expected=sealed(data)[4:8].hex(),
                actual=data[4:8].hex(),
            )
        rest = data[LOG_HEAD:LOG_SECTOR].rstrip(b"\0")
        yield LogEntry(at, LogEntryHeader.parse(data), DataDescriptor.parse(data, LogEntryHeader.SIZE), rest)


def _order(outer: Source, entries: list[LogEntry], numbers: Mapping[int, int], path: Path) -> Iterator[int]:
    """Yield for each entry the block that its sector has and the sector before had not.

    The oldest entry about a sector may be about any of its blocks; it is taken to be about the usual one.
    """
    before: dict[int, set[int]] = {}
    for entry in entries:
        page = entry.descriptor.FileOffset
        present = {numbers[offset] for offset in _present(outer, entry) if offset in numbers}
        usual = entry.header.SequenceNumber - 1
        new = present - before.get(page, set())
        if page not in before and new:
            new = {usual if usual in new else max(new)}
        if len(new) != 1:
            raise UnsupportedError(
                "VHDX log entry that is not about one block",
                path=path,
                offset=entry.offset,
                expected="1 block",
                actual=f"{len(new)} blocks",
            )
        before[page] = present
        yield new.pop()


def _present(outer: Source, entry: LogEntry) -> Iterator[int]:
    """Yield the offsets of the blocks that are there in the part of the table that an entry holds."""
    sector = DataSector.parse(bytes(outer.read(entry.offset + LOG_SECTOR, LOG_SECTOR)))
    table = array.array("Q", entry.descriptor.LeadingBytes + sector.Data + entry.descriptor.TrailingBytes)
    if sys.byteorder == "big":
        table.byteswap()
    for value in table:
        if value & BAT_STATE_MASK == BlockState.FULLY_PRESENT:
            yield value & ~BAT_STATE_MASK
