"""Reading a VHDX file: its structure with every field checked, and the disk inside it."""

from __future__ import annotations

import array
import sys
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from rehydrator.disk.composed import Mapped, Mapping
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers import c_vhdx as c
from rehydrator.layers.block_runs import runs_of
from rehydrator.layers.exactness import REWRITE, reading
from rehydrator.layers.vhdx_log import read_log
from rehydrator.layers.vhdx_record import (
    MAX_BAT_SIZE,
    MAX_LOG_LENGTH,
    Geometry,
    VhdxHeader,
    VhdxRecord,
)
from rehydrator.layers.vhdx_tables import sealed

_MAX_ITEMS = 2047
_BAT_STEP = 1 << 16


class VhdxStructure(msgspec.Struct, frozen=True):
    """What a file says about itself, with its blocks told one by one, and the disk in it."""

    record: VhdxRecord
    disk: Source


class Block(msgspec.Struct, frozen=True, order=True):
    """An allocated block: where it lies in the file, which guest block it is, and where the table says so."""

    offset: int
    guest: int
    entry: int


def read_image(outer: Source, path: Path) -> VhdxStructure:
    """Read and check headers, regions, metadata, block allocation table and log."""
    with reading(path, REWRITE):
        return _Reader(outer, path).read()


class _Reader:
    def __init__(self, outer: Source, path: Path) -> None:
        self._outer = outer
        self._path = path

    def read(self) -> VhdxStructure:
        if self._outer.size < 2 * c.HEADER_SECTION:
            raise CorruptError(
                "too short for a VHDX",
                path=self._path,
                offset=0,
                expected=f"at least {2 * c.HEADER_SECTION} bytes",
                actual=self._outer.size,
            )
        identifier = c.FileIdentifier.parse(self._bytes(0, c.FileIdentifier.SIZE))
        if identifier.Signature != c.SIGNATURE:
            raise self._corrupt("Signature", 0, c.SIGNATURE.decode(), identifier.Signature.hex())
        headers = [self._header(number) for number in (0, 1)]
        regions = self._regions()
        bat, metadata = (self._region(regions, guid) for guid in (c.BAT_REGION, c.METADATA_REGION))
        self._check_apart(bat, metadata, Extent(headers[0].LogOffset, headers[0].LogLength))
        items = self._items(metadata)
        record, disk_size = self._record(identifier, headers, metadata, items)
        geometry = Geometry(record, disk_size)
        blocks, absent = self._blocks(bat, geometry)
        log = read_log(self._outer, geometry, {block.offset: n for n, block in enumerate(blocks)}, self._path)
        record = msgspec.structs.replace(
            record,
            blocks=list(runs_of(block.guest for block in blocks)),
            absent_state=absent,
            log=log.log,
            log_order=log.log_order,
            log_ends=log.log_ends,
            log_rest=log.log_rest,
        )
        pieces = sorted(_pieces(blocks, geometry.block_size, disk_size), key=lambda piece: piece.offset)
        return VhdxStructure(record, Mapped(self._outer, pieces, disk_size))

    # -- helpers

    def _bytes(self, offset: int, length: int) -> bytes:
        return bytes(self._outer.read(offset, length))

    def _corrupt(self, name: str, offset: int, expected: object, actual: object) -> CorruptError:
        return CorruptError(f"VHDX {name} is wrong", path=self._path, offset=offset, expected=expected, actual=actual)

    def _sealed(self, what: str, offset: int, length: int, signature: bytes) -> bytes:
        """Return a structure whose signature and checksum are right."""
        data = self._bytes(offset, length)
        if not data.startswith(signature):
            raise self._corrupt(f"{what} Signature", offset, signature.decode(), data[:4].hex())
        right = sealed(data)
        if right != data:
            at = c.Header.offset_of("Checksum")
            expected, actual = (int.from_bytes(item[at : at + 4], "little") for item in (right, data))
            raise self._corrupt(f"{what} Checksum", offset + at, f"{expected:#x}", f"{actual:#x}")
        return data

    # -- header section

    def _header(self, number: int) -> c.Header:
        offset = c.HEADER_OFFSETS[number]
        what = f"header {number + 1}"
        header = c.Header.parse(self._sealed(what, offset, c.HEADER_SIZE, c.HEADER_SIGNATURE))
        if header.Version != c.VERSION:
            raise UnsupportedError(
                "unknown VHDX version",
                path=self._path,
                offset=offset + c.Header.offset_of("Version"),
                expected=c.VERSION,
                actual=header.Version,
            )
        if any(header.LogGuid):
            raise UnsupportedError(
                "VHDX with a log that must be replayed",
                offset=offset + c.Header.offset_of("LogGuid"),
                expected=uuid.UUID(int=0),
                actual=uuid.UUID(bytes_le=header.LogGuid),
                hint="Let 'qemu-img check -r all' replay it",
            )
        log = Extent(header.LogOffset, header.LogLength)
        if log.offset % c.MIB or log.length % c.MIB or not log.length or log.end > self._outer.size:
            expected = f"MiB within {self._outer.size} bytes"
            raise self._corrupt(
                f"{what} LogOffset", offset + c.Header.offset_of("LogOffset"), expected, f"{log.length} at {log.offset}"
            )
        if log.length > MAX_LOG_LENGTH:
            raise UnsupportedError(
                "VHDX with a huge log",
                offset=offset + c.Header.offset_of("LogLength"),
                expected=f"at most {MAX_LOG_LENGTH}",
                actual=log.length,
            )
        return header

    def _regions(self) -> dict[uuid.UUID, tuple[int, c.RegionTableEntry]]:
        """Return the regions by GUID, each with the place of its entry."""
        at = c.REGION_TABLE_OFFSETS[0]
        copies = [
            self._sealed("region table", place, c.REGION_TABLE_SIZE, c.REGION_SIGNATURE)
            for place in c.REGION_TABLE_OFFSETS
        ]
        data = copies[0]
        head = c.RegionTableHeader.parse(data)
        if head.EntryCount > _MAX_ITEMS:
            place = at + c.RegionTableHeader.offset_of("EntryCount")
            raise self._corrupt("region table EntryCount", place, f"at most {_MAX_ITEMS}", head.EntryCount)
        found: dict[uuid.UUID, tuple[int, c.RegionTableEntry]] = {}
        for number in range(head.EntryCount):
            inside = c.RegionTableHeader.SIZE + number * c.RegionTableEntry.SIZE
            entry = c.RegionTableEntry.parse(data, inside)
            guid = uuid.UUID(bytes_le=entry.Guid)
            if guid not in (c.BAT_REGION, c.METADATA_REGION):
                raise UnsupportedError(
                    "VHDX with an unknown region",
                    offset=at + inside,
                    expected=f"{c.BAT_REGION} or {c.METADATA_REGION}",
                    actual=guid,
                )
            found[guid] = (at + inside, entry)
        return found

    def _region(self, regions: dict[uuid.UUID, tuple[int, c.RegionTableEntry]], guid: uuid.UUID) -> Extent:
        if guid not in regions:
            raise self._corrupt("region table", c.REGION_TABLE_OFFSETS[0], f"a region {guid}", "none")
        at, entry = regions[guid]
        region = Extent(entry.FileOffset, entry.Length)
        if region.offset % c.MIB or region.length % c.MIB or region.end > self._outer.size:
            expected = f"MiB within {self._outer.size} bytes"
            raise self._corrupt(
                "region FileOffset",
                at + c.RegionTableEntry.offset_of("FileOffset"),
                expected,
                f"{region.length} at {region.offset}",
            )
        return region

    def _check_apart(self, *regions: Extent) -> None:
        for before, after in pairwise(sorted([Extent(0, c.HEADER_SECTION), *regions])):
            if after.offset < before.end:
                raise CorruptError(
                    "VHDX regions overlap",
                    path=self._path,
                    offset=after.offset,
                    expected=f"{before.end:#x} or more",
                    actual=f"{after.offset:#x}",
                )

    # -- metadata

    def _items(self, region: Extent) -> dict[uuid.UUID, Extent]:
        """Return where in the file each metadata item lies."""
        table = self._bytes(region.offset, min(c.METADATA_TABLE_SIZE, region.length))
        head = c.MetadataTableHeader.parse(table)
        if head.Signature != c.METADATA_SIGNATURE:
            raise self._corrupt(
                "metadata Signature", region.offset, c.METADATA_SIGNATURE.decode(), head.Signature.hex()
            )
        if head.EntryCount > _MAX_ITEMS:
            place = region.offset + c.MetadataTableHeader.offset_of("EntryCount")
            raise self._corrupt("metadata EntryCount", place, f"at most {_MAX_ITEMS}", head.EntryCount)
        items: dict[uuid.UUID, Extent] = {}
        for number in range(head.EntryCount):
            inside = c.MetadataTableHeader.SIZE + number * c.MetadataTableEntry.SIZE
            entry = c.MetadataTableEntry.parse(table, inside)
            guid = uuid.UUID(bytes_le=entry.ItemId)
            if guid == c.PARENT_LOCATOR:
                raise UnsupportedError(
                    "VHDX with a parent",
                    offset=region.offset + inside,
                    expected="no parent locator",
                    actual=guid,
                )
            if entry.Offset + entry.Length > region.length:
                place = region.offset + inside + c.MetadataTableEntry.offset_of("Offset")
                raise self._corrupt("metadata item Offset", place, f"within {region.length} bytes", entry.Offset)
            items[guid] = Extent(region.offset + entry.Offset, entry.Length)
        return items

    def _item(self, items: dict[uuid.UUID, Extent], region: Extent, guid: uuid.UUID, size: int) -> bytes:
        extent = items.get(guid)
        if extent is None or extent.length != size:
            actual = "none" if extent is None else f"{extent.length} bytes"
            raise self._corrupt(f"metadata item {guid}", region.offset, f"{size} bytes", actual)
        return self._bytes(*extent)

    def _number(
        self, items: dict[uuid.UUID, Extent], region: Extent, guid: uuid.UUID, size: int, most: int, name: str
    ) -> int:
        value = int.from_bytes(self._item(items, region, guid, size), "little")
        sector = guid != c.VIRTUAL_DISK_SIZE
        if value > most or (sector and value not in c.SECTOR_SIZES):
            expected = "512 or 4096" if sector else f"at most {most}"
            raise self._corrupt(name, items[guid].offset, expected, value)
        return value

    def _record(
        self,
        identifier: c.FileIdentifier,
        headers: list[c.Header],
        region: Extent,
        items: dict[uuid.UUID, Extent],
    ) -> tuple[VhdxRecord, int]:
        """Return the record without blocks and log, and the size of the disk."""
        parameters = c.FileParameters.parse(self._item(items, region, c.FILE_PARAMETERS, c.FileParameters.SIZE))
        size, at = parameters.BlockSize, items[c.FILE_PARAMETERS].offset
        if not c.MIN_BLOCK_SIZE <= size <= c.MAX_BLOCK_SIZE or size & (size - 1):
            raise self._corrupt("BlockSize", at, "a power of two from 1 MiB to 256 MiB", size)
        for flag, what in (
            (c.FileFlag.HAS_PARENT, "VHDX with a parent"),
            (c.FileFlag.LEAVE_BLOCK_ALLOCATED, "fixed VHDX"),
        ):
            if parameters.Flags & flag:
                raise UnsupportedError(
                    what,
                    offset=at + c.FileParameters.offset_of("Flags"),
                    expected="flags 0",
                    actual=parameters.Flags,
                )
        disk_size = self._number(items, region, c.VIRTUAL_DISK_SIZE, 8, c.MAX_DISK_SIZE, "VirtualDiskSize")
        sectors = {
            name: self._number(items, region, guid, 4, 4096, name)
            for name, guid in (
                ("LogicalSectorSize", c.LOGICAL_SECTOR_SIZE),
                ("PhysicalSectorSize", c.PHYSICAL_SECTOR_SIZE),
            )
        }
        try:
            creator = identifier.Creator.decode("utf-16-le").rstrip("\0")
        except UnicodeDecodeError as error:
            offset = c.FileIdentifier.offset_of("Creator")
            found = identifier.Creator[error.start : error.end].hex()
            raise UnsupportedError(
                "VHDX with a creator that is no text", offset=offset + error.start, expected="UTF-16", actual=found
            ) from error
        record = VhdxRecord(
            creator=creator,
            headers=(_header_fields(headers[0]), _header_fields(headers[1])),
            virtual_disk_id=str(uuid.UUID(bytes_le=self._item(items, region, c.VIRTUAL_DISK_ID, 16))),
            log_length=headers[0].LogLength,
            block_size=size,
            logical_sector_size=sectors["LogicalSectorSize"],
            physical_sector_size=sectors["PhysicalSectorSize"],
        )
        return record, disk_size

    # -- blocks

    def _blocks(self, bat: Extent, geometry: Geometry) -> tuple[list[Block], int]:
        """Return the allocated blocks in the order of the file, and the state of all others."""
        needed = geometry.bat_length
        if needed > MAX_BAT_SIZE:
            raise UnsupportedError(
                "VHDX with a huge block allocation table",
                offset=bat.offset,
                expected=f"at most {MAX_BAT_SIZE}",
                actual=needed,
            )
        if bat.length < needed:
            raise self._corrupt("BAT region Length", bat.offset, f"at least {needed}", bat.length)
        blocks: list[Block] = []
        states: set[int] = set()
        for block, place, value in self._bat_entries(bat, geometry):
            state = value & c.BAT_STATE_MASK
            if block is None:
                if value:
                    raise _unread("VHDX with sector bitmaps", place, 0, value)
            elif state == c.BlockState.PARTIALLY_PRESENT:
                raise _unread("VHDX with partially present blocks", place, int(c.BlockState.FULLY_PRESENT), state)
            elif state == c.BlockState.FULLY_PRESENT:
                blocks.append(Block(value >> c.BAT_OFFSET_SHIFT << c.BAT_OFFSET_SHIFT, block, place))
            else:
                states.add(state)
            if len(states) > 1:
                others = ", ".join(map(str, sorted(states - {state})))
                raise _unread("VHDX with several kinds of absent blocks", place, others, state)
        blocks.sort()
        self._check_blocks(blocks, geometry, max(bat.end, geometry.log_offset + geometry.log_length))
        return blocks, states.pop() if states else int(c.BlockState.ZERO)

    def _bat_entries(self, bat: Extent, geometry: Geometry) -> Iterator[tuple[int | None, int, int]]:
        """Yield guest block (None for a sector bitmap), place and value of each entry."""
        entries = geometry.bat_index(geometry.payload_blocks - 1) + 1 if geometry.payload_blocks else 0
        per_chunk = geometry.chunk_ratio + 1
        for first in range(0, entries, _BAT_STEP):
            count = min(_BAT_STEP, entries - first)
            start = bat.offset + first * c.BAT_ENTRY_SIZE
            values = array.array("Q", self._bytes(start, count * c.BAT_ENTRY_SIZE))
            if sys.byteorder == "big":
                values.byteswap()
            for index, value in enumerate(values, first):
                chunk, inside = divmod(index, per_chunk)
                block = None if inside == geometry.chunk_ratio else chunk * geometry.chunk_ratio + inside
                yield block, bat.offset + index * c.BAT_ENTRY_SIZE, value

    def _check_blocks(self, blocks: list[Block], geometry: Geometry, end: int) -> None:
        for block in blocks:
            if block.offset < end:
                raise self._corrupt("BAT entry", block.entry, f"a block at {end:#x} or more", f"{block.offset:#x}")
            end = block.offset + geometry.block_size
        if end > self._outer.size and blocks:
            expected = f"a block within {self._outer.size} bytes"
            raise self._corrupt("BAT entry", blocks[-1].entry, expected, f"{blocks[-1].offset:#x}")


def _unread(what: str, place: int, expected: object, actual: object) -> UnsupportedError:
    """Return the error about a table entry at byte ``place`` of a kind that is not read."""
    return UnsupportedError(what, offset=place, expected=f"state {expected}", actual=f"{actual}")


def _header_fields(header: c.Header) -> VhdxHeader:
    return VhdxHeader(
        header.SequenceNumber,
        str(uuid.UUID(bytes_le=header.FileWriteGuid)),
        str(uuid.UUID(bytes_le=header.DataWriteGuid)),
    )


def _pieces(blocks: list[Block], size: int, disk_size: int) -> Iterator[Mapping]:
    for block in blocks:
        yield Mapping(block.guest * size, min(size, disk_size - block.guest * size), block.offset)
