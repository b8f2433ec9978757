"""Dynamic VHD: header, block allocation table, and blocks of which each has a bitmap of its sectors before it."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.disk.composed import Joined, Mapped, Mapping, Slice, Zeros
from rehydrator.disk.extents import Extent, ExtentMap
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.layers.block_runs import BlockRun, fit, nonzero_runs, runs_of
from rehydrator.layers.c_vhd import (
    BAT_ABSENT,
    BAT_ENTRY_SIZE,
    DYNAMIC_COOKIE,
    DYNAMIC_DATA_OFFSET,
    DYNAMIC_HEADER_VERSION,
    SECTOR,
    DynamicHeader,
    Footer,
)
from rehydrator.layers.vhd_footer import checksum, footer_bytes, sealed, wrong_field
from rehydrator.layers.vhd_record import DynamicVhd, VhdRecord

TABLE_OFFSET = Footer.SIZE + DynamicHeader.SIZE  # where qemu puts the table
MIN_BLOCK_SIZE = 8 * SECTOR
MAX_BLOCK_SIZE = 1 << 28
_ALL_PRESENT = 0xFF  # in the bitmap of a block
MAX_ENTRIES = 1 << 22  # a table of 16 MiB; the largest disk, of 2040 GiB, has a quarter of these in blocks of 2 MiB


class Block(msgspec.Struct, frozen=True, order=True):
    """An allocated block: where its bitmap lies in the file, and which guest block it is."""

    offset: int
    guest: int


def read_dynamic(outer: Source, footer: Footer, path: Path) -> tuple[DynamicVhd, Source]:
    """Read header and table; return the block size with the blocks told one by one, and the disk."""
    header = _read_header(outer, footer, path)
    blocks = _read_table(outer, header, footer, path)
    size, bitmap = header.block_size, _bitmap_size(header.block_size)
    for block in blocks:
        held = bytes(outer.read(block.offset, bitmap))
        absent = next((at for at, byte in enumerate(held) if byte != _ALL_PRESENT), None)
        if absent is not None:
            raise UnsupportedError(
                "VHD block in which sectors are absent",
                offset=block.offset + absent,
                expected=f"{_ALL_PRESENT:#x}",
                actual=f"{held[absent]:#x}",
            )
    pieces = sorted(
        (
            Mapping(start := block.guest * size, min(size, footer.current_size - start), block.offset + bitmap)
            for block in blocks
        ),
        key=lambda piece: piece.offset,
    )
    record = DynamicVhd(size, list(runs_of(block.guest for block in blocks)))
    return record, Mapped(outer, pieces, footer.current_size)


def _read_header(outer: Source, footer: Footer, path: Path) -> DynamicHeader:
    at, end = footer.data_offset, outer.size - Footer.SIZE
    if not Footer.SIZE <= at <= end - DynamicHeader.SIZE:
        expected = f"{Footer.SIZE}..{end - DynamicHeader.SIZE}, where a header fits"
        raise wrong_field(Footer, "data_offset", end, path, expected, at)
    data = bytes(outer.read(at, DynamicHeader.SIZE))
    header = DynamicHeader.parse(data)

    def wrong(name: str, expected: object, actual: object) -> CorruptError:
        return wrong_field(DynamicHeader, name, at, path, expected, actual)

    if header.cookie != DYNAMIC_COOKIE:
        raise wrong("cookie", DYNAMIC_COOKIE.decode(), header.cookie.hex())
    if header.checksum != checksum(DynamicHeader, data):
        raise wrong("checksum", f"{checksum(DynamicHeader, data):#x}", f"{header.checksum:#x}")
    if header.header_version != DYNAMIC_HEADER_VERSION:
        raise UnsupportedError(
            "unknown version of a dynamic VHD",
            offset=at + DynamicHeader.offset_of("header_version"),
            expected=f"{DYNAMIC_HEADER_VERSION:#x}",
            actual=f"{header.header_version:#x}",
        )
    if not _is_block_size(header.block_size):
        raise wrong("block_size", f"a power of 2 in {MIN_BLOCK_SIZE}..{MAX_BLOCK_SIZE}", header.block_size)
    entries = -(-footer.current_size // header.block_size)
    if entries > MAX_ENTRIES:
        raise wrong_field(Footer, "current_size", end, path, f"at most {MAX_ENTRIES} blocks", footer.current_size)
    if header.max_table_entries < entries:
        raise wrong("max_table_entries", f"at least {entries}", header.max_table_entries)
    if not at + DynamicHeader.SIZE <= header.table_offset <= end - entries * BAT_ENTRY_SIZE:
        raise wrong("table_offset", f"a table of {entries} entries between header and footer", header.table_offset)
    return header


def _read_table(outer: Source, header: DynamicHeader, footer: Footer, path: Path) -> list[Block]:
    """Return the allocated blocks in the order of the file."""
    entries = -(-footer.current_size // header.block_size)
    table = array.array("I", bytes(outer.read(header.table_offset, entries * BAT_ENTRY_SIZE)))
    if sys.byteorder == "little":
        table.byteswap()
    blocks = sorted(Block(entry * SECTOR, guest) for guest, entry in enumerate(table) if entry != BAT_ABSENT)
    length = _bitmap_size(header.block_size) + header.block_size
    start, end = header.table_offset + entries * BAT_ENTRY_SIZE, outer.size - Footer.SIZE - length
    for block in blocks:
        if not start <= block.offset <= end:
            raise CorruptError(
                f"VHD entry of block {block.guest} in the allocation table is wrong",
                path=path,
                offset=header.table_offset + block.guest * BAT_ENTRY_SIZE,
                expected=f"a place from {start:#x} to {end:#x}" if start <= end else "no block: the file ends before",
                actual=f"{block.offset:#x}",
            )
        start = block.offset + length
    return blocks


def _is_block_size(size: int) -> bool:
    return MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE and not size & (size - 1)


def _bitmap_size(block_size: int) -> int:
    """Return the bytes of a block's bitmap: a bit per sector, in whole sectors."""
    return -(-block_size // SECTOR // 8 // SECTOR) * SECTOR


class DynamicImage(Joined):
    """A dynamic VHD computed from its disk and record."""

    def __init__(self, disk: Source, record: VhdRecord, dynamic: DynamicVhd) -> None:
        size = dynamic.block_size
        if not _is_block_size(size) or disk.size > MAX_ENTRIES * size:
            raise MismatchError("the VHD record holds impossible numbers")
        entries = -(-disk.size // size)
        nonzero = disk.nonzero()
        runs = dynamic.blocks if isinstance(dynamic.blocks, list) else list(nonzero_runs(nonzero, size))
        if not fit(runs, entries):
            raise MismatchError("the VHD record holds impossible numbers")
        footer = BytesSource(footer_bytes(record, disk.size))
        header, table = BytesSource(_header(entries, size)), BytesSource(_table(runs, entries, size))
        super().__init__([footer, header, table, *_blocks(disk, nonzero, runs, size), footer])

    def computed(self) -> Iterator[Extent]:
        """Yield the ranges of all that is not the disk."""
        yield from (place for part, place in self.places() if not isinstance(part, Slice))


def _header(entries: int, block_size: int) -> bytes:
    header = DynamicHeader(
        cookie=DYNAMIC_COOKIE,
        data_offset=DYNAMIC_DATA_OFFSET,
        table_offset=TABLE_OFFSET,
        header_version=DYNAMIC_HEADER_VERSION,
        max_table_entries=entries,
        block_size=block_size,
        checksum=0,
        parent_unique_id=b"",
        parent_time_stamp=0,
        reserved=b"",
        parent_unicode_name=b"",
        parent_locator_entries=b"",
        reserved_2=b"",
    )
    return sealed(DynamicHeader, header.pack())


def _table(runs: Sequence[BlockRun], entries: int, block_size: int) -> bytes:
    """Return the table, which fills whole sectors; raises MismatchError where a block comes twice or lies too far."""
    length = -(-entries * BAT_ENTRY_SIZE // SECTOR) * SECTOR
    table = array.array("I", b"\xff" * length)
    place, step = (TABLE_OFFSET + length) // SECTOR, (_bitmap_size(block_size) + block_size) // SECTOR
    for run in runs:
        for guest in range(run.start, run.start + run.count):
            if table[guest] != BAT_ABSENT or place >= BAT_ABSENT:
                raise MismatchError("the VHD record allocates a block twice, or more than fit")
            table[guest] = place
            place += step
    if sys.byteorder == "little":
        table.byteswap()
    return table.tobytes()


def _blocks(disk: Source, nonzero: ExtentMap, runs: Sequence[BlockRun], size: int) -> Iterator[Source]:
    """Yield bitmaps and blocks; the last of a disk may reach past its end."""
    bitmap = BytesSource(b"\xff" * _bitmap_size(size))
    for run in runs:
        for guest in range(run.start, run.start + run.count):
            held = min(size, disk.size - guest * size)
            yield bitmap
            yield Slice(disk, guest * size, held, nonzero)
            yield Zeros(size - held)
