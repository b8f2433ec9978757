"""Reading a squashfs file system: its superblock, its tables and the content of its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.squashfs.c_squashfs import (
    ID_SIZE,
    INVALID_BLK,
    MAGIC,
    MAJOR,
    MAX_BLOCK,
    METADATA_HEADER,
    METADATA_SIZE,
    METADATA_UNCOMPRESSED,
    MIN_BLOCK,
    MINOR,
    POINTER,
    Compression,
    Flag,
    FragmentEntry,
    GzipOptions,
    SuperBlock,
    XattrId,
    XattrIdTable,
    XzOptions,
    ZstdOptions,
)
from rehydrator.fs.squashfs.inflate import inflate
from rehydrator.fs.squashfs.plan import Plan, inodes, make_plan

MAX_METADATA = 128 << 20  # bytes of all tables: those of some million files


OPTIONS: dict[Compression, type[GzipOptions] | type[XzOptions] | type[ZstdOptions]] = {
    Compression.GZIP: GzipOptions,
    Compression.XZ: XzOptions,
    Compression.ZSTD: ZstdOptions,
}
TableName: TypeAlias = Literal[
    "inodes",
    "directories",
    "fragments",
    "fragment index",
    "exports",
    "export index",
    "ids",
    "id index",
    "xattrs",
    "xattr ids",
    "xattr index",
]


class SquashfsTable(msgspec.Struct, array_like=True, frozen=True):
    """A table of the file system: ``size`` bytes before compression, ``packed`` in metadata blocks or as it is."""

    name: TableName
    size: int
    packed: bool


class SquashfsOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The compressor's options that the file system holds; which of them there are depends on the compressor."""

    compression_level: int = 0
    window_size: int = 0
    strategy: int = 0
    dictionary_size: int = 0
    flags: int = 0


class Mark(msgspec.Struct, frozen=True, order=True):
    """Where a table begins; ``plain`` is the size of one that does not consist of metadata blocks."""

    start: int
    name: TableName
    plain: int = 0


class StoredBlock(msgspec.Struct, frozen=True):
    """A metadata block of a table as the file has it, with its header."""

    table: TableName
    data: bytes


class Opened(msgspec.Struct, frozen=True):
    """A file system whose tables were read.

    ``stored`` are the metadata blocks, ``starts`` says where each table begins, ``data_start`` where blocks may.
    """

    outer: Source
    superblock: SuperBlock
    compression: Compression
    options: SquashfsOptions | None
    tables: list[SquashfsTable]
    metadata: bytes
    stored: list[StoredBlock]
    plan: Plan
    data_start: int
    starts: list[tuple[int, TableName]]


def open_file_system(outer: Source) -> Opened:
    """Read superblock and tables; raises CorruptError for damaged ones and UnsupportedError for other versions."""
    superblock, compression = _superblock(outer)
    options, data_start = _options(outer, superblock, compression)
    tables: list[SquashfsTable] = []
    contents: list[bytes] = []
    stored: list[StoredBlock] = []
    marks = sorted(_marks(outer, superblock))
    ends = [mark.start for mark in marks[1:]] + [superblock.bytes_used]
    for mark, end in zip(marks, ends, strict=True):
        if mark.plain:
            if mark.start + mark.plain != end:
                raise UnsupportedError(
                    f"something lies behind the {mark.name}, or it overlaps",
                    offset=mark.start,
                    expected=f"{mark.start + mark.plain:#x}",
                    actual=f"{end:#x}",
                )
            content = bytes(outer.read(mark.start, mark.plain))
        else:
            blocks = list(_metadata_blocks(outer, mark.start, end))
            room = MAX_METADATA - sum(map(len, contents))
            content = _table_content(blocks, compression, mark, room)
            stored += [StoredBlock(mark.name, block) for block in blocks]
        tables.append(SquashfsTable(mark.name, len(content), not mark.plain))
        contents.append(content)
    metadata = b"".join(contents)
    plan = plan_of(superblock, metadata, tables, data_start)
    starts = [(mark.start, mark.name) for mark in marks]
    return Opened(outer, superblock, compression, options, tables, metadata, stored, plan, data_start, starts)


def plan_of(superblock: SuperBlock, metadata: bytes, tables: list[SquashfsTable], data_start: int) -> Plan:
    """Plan the content from the tables; raises CorruptError for impossible ones."""
    data = Extent(data_start, superblock.inode_table_start - data_start)
    found = inodes(table_named("inodes", metadata, tables), superblock.inodes, superblock.block_size)
    files = (item.file for item in found if item.file is not None)
    return make_plan(files, table_named("fragments", metadata, tables), data, superblock.block_size)


def table_named(name: TableName, metadata: bytes, tables: list[SquashfsTable]) -> bytes:
    """Return a table's content, empty for one that is not there."""
    at = 0
    for table in tables:
        if table.name == name:
            return metadata[at : at + table.size]
        at += table.size
    return b""


def parse_options(compression: Compression, data: bytes) -> SquashfsOptions:
    """Read the options behind the superblock; raises UnsupportedError for those of another size."""
    structure = OPTIONS[compression]
    if len(data) != structure.SIZE:
        raise UnsupportedError("compressor options of another size", expected=structure.SIZE, actual=len(data))
    found = structure.parse(data)
    return SquashfsOptions(**{span.name: getattr(found, span.name) for span in structure.FIELDS})


def _superblock(outer: Source) -> tuple[SuperBlock, Compression]:
    found = SuperBlock.parse(outer.read(0, min(SuperBlock.SIZE, outer.size)))
    if found.s_magic != MAGIC or (found.s_major, found.s_minor) != (MAJOR, MINOR):
        raise UnsupportedError("another version of squashfs", expected="4.0", actual=f"{found.s_major}.{found.s_minor}")
    if found.compression not in OPTIONS:
        raise UnsupportedError(
            "a squashfs whose compressor is not known here",
            expected=", ".join(item.name.lower() for item in OPTIONS),
            actual=_name(found.compression),
        )
    if not MIN_BLOCK <= found.block_size <= MAX_BLOCK or found.block_size != 1 << found.block_log:
        raise CorruptError(
            "impossible block size", expected=f"a power of two from {MIN_BLOCK} to {MAX_BLOCK}", actual=found.block_size
        )
    if found.bytes_used > outer.size:
        raise CorruptError("squashfs is cut short", expected=f"{found.bytes_used} bytes", actual=f"{outer.size} bytes")
    if not SuperBlock.SIZE <= found.inode_table_start < found.bytes_used:
        raise CorruptError(
            "the inode table lies outside", expected="within the file system", actual=f"{found.inode_table_start:#x}"
        )
    return found, Compression(found.compression)


def _name(compression: int) -> str:
    known = {int(item): item.name.lower() for item in Compression}
    return known.get(compression, f"number {compression}")


def _options(outer: Source, superblock: SuperBlock, compression: Compression) -> tuple[SquashfsOptions | None, int]:
    """Return the compressor's options and the first byte behind them."""
    if not superblock.flags & Flag.COMP_OPT:
        return None, SuperBlock.SIZE
    (block,) = _metadata_blocks(outer, SuperBlock.SIZE, None)
    return parse_options(compression, block[METADATA_HEADER.size :]), SuperBlock.SIZE + len(block)


def _marks(outer: Source, superblock: SuperBlock) -> Iterator[Mark]:
    """Yield where each table begins: what is indexed where the first pointer of its index leads."""
    yield Mark(superblock.inode_table_start, "inodes")
    yield Mark(superblock.directory_table_start, "directories")
    indexed: tuple[tuple[TableName, TableName, int, int], ...] = (
        ("fragments", "fragment index", superblock.fragment_table_start, superblock.fragments * FragmentEntry.SIZE),
        ("exports", "export index", superblock.lookup_table_start, superblock.inodes * POINTER.size),
        ("ids", "id index", superblock.id_table_start, superblock.no_ids * ID_SIZE),
    )
    for name, index, start, size in indexed:
        if start != INVALID_BLK and size:
            yield Mark(_pointer(outer, start), name)
            yield Mark(start, index, _index_size(size))
    start = superblock.xattr_id_table_start
    if start != INVALID_BLK:
        header = XattrIdTable.parse(_read(outer, start, XattrIdTable.SIZE))
        size = _index_size(header.xattr_ids * XattrId.SIZE)
        if size:
            yield Mark(header.xattr_table_start, "xattrs")
            yield Mark(_pointer(outer, start + XattrIdTable.SIZE), "xattr ids")
        yield Mark(start, "xattr index", XattrIdTable.SIZE + size)


def _index_size(size: int) -> int:
    return -(-size // METADATA_SIZE) * POINTER.size


def _pointer(outer: Source, at: int) -> int:
    (found,) = POINTER.unpack(_read(outer, at, POINTER.size))
    return int(found)


def _read(outer: Source, at: int, length: int) -> bytes:
    if at + length > outer.size:
        raise CorruptError(
            "squashfs is cut short", offset=at, expected=f"{at + length} bytes", actual=f"{outer.size} bytes"
        )
    return bytes(outer.read(at, length))


def _metadata_blocks(outer: Source, at: int, end: int | None) -> Iterator[bytes]:
    """Yield the metadata blocks with their headers up to ``end``, or one; raises CorruptError where they miss it."""
    while end is None or at < end:
        (header,) = METADATA_HEADER.unpack(_read(outer, at, METADATA_HEADER.size))
        length = METADATA_HEADER.size + (header & ~METADATA_UNCOMPRESSED)
        if header & ~METADATA_UNCOMPRESSED > METADATA_SIZE or (end is not None and at + length > end):
            raise CorruptError(
                "impossible size of a metadata block",
                offset=at,
                expected=f"up to {METADATA_SIZE} bytes before {end or outer.size:#x}",
                actual=f"{header:#x}",
            )
        yield _read(outer, at, length)
        if end is None:
            return
        at += length
    if at > end:
        raise CorruptError("tables overlap", offset=end, expected=f"{at:#x} or more", actual=f"{end:#x}")


def _table_content(blocks: list[bytes], compression: Compression, mark: Mark, room: int) -> bytes:
    """Decompress the blocks of a table: all but its last one are full."""
    contents: list[bytes] = []
    made = 0
    for number, block in enumerate(blocks):
        content = unpack_metadata(block, compression)
        made += len(content)
        if len(content) != METADATA_SIZE and number + 1 < len(blocks):
            raise UnsupportedError(
                f"a metadata block within the {mark.name} is not full",
                offset=mark.start,
                expected=f"{METADATA_SIZE} bytes",
                actual=f"{len(content)} bytes",
            )
        if made > room:
            raise UnsupportedError("too much metadata", expected=f"up to {MAX_METADATA} bytes", actual="more")
        contents.append(content)
    return b"".join(contents)


def unpack_metadata(block: bytes, compression: Compression) -> bytes:
    """Return the content of a metadata block, given with its header."""
    (header,) = METADATA_HEADER.unpack_from(block)
    content = block[METADATA_HEADER.size :]
    return content if header & METADATA_UNCOMPRESSED else inflate(compression, content, METADATA_SIZE)
