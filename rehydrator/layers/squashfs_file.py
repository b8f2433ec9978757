"""Writing a squashfs file system: its blocks compressed again while it is read."""

from __future__ import annotations

import bisect
import struct
import threading
from collections.abc import Iterator

import msgspec

from rehydrator.codecs.batches import Batches, Prepared
from rehydrator.codecs.deflate_pool import Work, in_order
from rehydrator.codecs.patches import Patches
from rehydrator.disk.composed import Joined
from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.fs.squashfs.c_squashfs import (
    INVALID_BLK,
    MAGIC,
    MAJOR,
    MAX_BLOCK,
    METADATA_HEADER,
    METADATA_SIZE,
    METADATA_UNCOMPRESSED,
    MIN_BLOCK,
    MINOR,
    Compression,
    Flag,
    SuperBlock,
)
from rehydrator.fs.squashfs.plan import Block, Plan, align, total
from rehydrator.fs.squashfs.tables import MAX_METADATA, OPTIONS, SquashfsTable, TableName, plan_of
from rehydrator.layers.packed import ahead_for
from rehydrator.layers.squashfs_codec import BlockEncoder, encoder
from rehydrator.layers.squashfs_record import SquashfsRecord

# Bytes of compressed blocks that are made in advance, and twice that are held: the larger, the less often a canonical
# is decoded for a file system that has its files in another order.
_BATCH = 128 << 20
_UNCOMPRESSED: dict[TableName, Flag] = {
    "inodes": Flag.UNCOMPRESSED_INODES,
    "directories": Flag.UNCOMPRESSED_INODES,
    "exports": Flag.UNCOMPRESSED_INODES,
    "fragments": Flag.UNCOMPRESSED_FRAGMENTS,
    "ids": Flag.UNCOMPRESSED_IDS,
    "xattrs": Flag.UNCOMPRESSED_XATTRS,
    "xattr ids": Flag.UNCOMPRESSED_XATTRS,
}


class Places(msgspec.Struct, frozen=True):
    """Where the parts of a layer's disk begin, in bytes: first come the tables, then the gaps."""

    gaps: int
    files: int
    rest: int


def places(tables: list[SquashfsTable], plan: Plan) -> Places:
    """Return the places of the parts of a layer's disk."""
    gaps = sum(table.size for table in tables)
    files = align(gaps + total(plan.gaps))
    return Places(gaps, files, files + plan.size)


def superblock_of(record: SquashfsRecord) -> SuperBlock:
    """Return the superblock; raises MismatchError for a record with impossible values."""
    compression = compression_of(record)
    try:
        found = SuperBlock(
            s_magic=MAGIC,
            inodes=record.inodes,
            mkfs_time=record.mkfs_time,
            block_size=record.block_size,
            fragments=record.fragments,
            compression=compression,
            block_log=record.block_size.bit_length() - 1,
            flags=record.flags,
            no_ids=record.no_ids,
            s_major=MAJOR,
            s_minor=MINOR,
            root_inode=record.root_inode,
            bytes_used=record.bytes_used,
            id_table_start=record.id_table_start,
            xattr_id_table_start=_start(record.xattr_id_table_start),
            inode_table_start=record.inode_table_start,
            directory_table_start=record.directory_table_start,
            fragment_table_start=_start(record.fragment_table_start),
            lookup_table_start=_start(record.lookup_table_start),
        )
        found.pack()
    except struct.error as error:
        raise MismatchError(f"the squashfs record holds impossible values: {error}") from error
    sizes = [table.size for table in record.metadata]
    possible = (
        MIN_BLOCK <= record.block_size <= MAX_BLOCK
        and record.inode_table_start < record.bytes_used <= record.file_size
        and min(sizes, default=0) >= 0
        and sum(sizes) <= MAX_METADATA
    )
    if not possible or bool(record.flags & Flag.COMP_OPT) != (record.options is not None):
        raise MismatchError("the squashfs record holds impossible values")
    return found


def compression_of(record: SquashfsRecord) -> Compression:
    """Return the compression that a record names."""
    found = next((item for item in OPTIONS if item.name.lower() == record.compression), None)
    if found is None:
        raise MismatchError("the squashfs record names an unknown compression", actual=record.compression[:40])
    return found


def _start(place: int | None) -> int:
    return INVALID_BLK if place is None else place


def _packed_options(record: SquashfsRecord) -> bytes:
    if record.options is None:
        return b""
    structure = OPTIONS[compression_of(record)]
    values = {span.name: getattr(record.options, span.name) for span in structure.FIELDS}
    try:
        data = structure(**values).pack()
    except struct.error as error:
        raise MismatchError(f"the squashfs record holds impossible options: {error}") from error
    return METADATA_HEADER.pack(METADATA_UNCOMPRESSED | len(data)) + data


class Writing(msgspec.Struct, frozen=True):
    """What the parts of a file system are made from; ``files`` is where the files begin in ``inner``."""

    inner: Source
    encoder: BlockEncoder
    patches: Patches
    plan: Plan
    files: int


def file_system(inner: Source, record: SquashfsRecord, patches: Patches) -> Source:
    """Return the file system around ``inner``; raises MismatchError where the two do not fit."""
    superblock = superblock_of(record)
    options = _packed_options(record)
    sizes = sum(table.size for table in record.metadata)
    if sizes > inner.size:
        raise MismatchError("the content ends within the tables", expected=sizes, actual=inner.size)
    metadata = bytes(inner.read(0, sizes))
    data_start = SuperBlock.SIZE + len(options)
    try:
        plan = plan_of(superblock, metadata, record.metadata, data_start)
        made = encoder(record.encoder, compression_of(record), record.options, record.block_size)
    except (CorruptError, UnsupportedError) as error:
        if isinstance(error, UnsupportedError) and error.hint:
            raise
        raise MismatchError(f"the squashfs record is impossible: {error}") from error
    where = places(record.metadata, plan)
    rest = record.file_size - record.bytes_used
    if where.rest + rest != inner.size:
        raise MismatchError("the content has another size", expected=where.rest + rest, actual=inner.size)
    writing = Writing(inner, made, patches, plan, where.files)
    return Joined(
        [
            BytesSource(superblock.pack()),
            BytesSource(options),
            DataArea(writing, Extent(data_start, record.inode_table_start - data_start), where.gaps),
            Metadata(writing, metadata, record),
            Window(inner, where.rest, rest),
        ]
    )


def assembled(writing: Writing, block: Block) -> bytes:
    """Return the content of a block."""
    inner, at = writing.inner, writing.files
    if len(block.pieces) == 1 and not block.pieces[0].offset:
        return bytes(inner.read(at + block.pieces[0].place, block.pieces[0].length))
    made = bytearray(block.length)
    for piece in block.pieces:
        made[piece.offset : piece.offset + piece.length] = inner.read(at + piece.place, piece.length)
    return bytes(made)


class _Part(msgspec.Struct, frozen=True):
    """A block by its number, or a gap at ``place`` of the content; it begins at byte ``start`` of the data."""

    start: int
    size: int
    block: int = -1
    place: int = 0


class DataArea(Source):
    """All blocks of data and fragments, and what lies between them; blocks are made ahead on all cores."""

    def __init__(self, writing: Writing, area: Extent, gaps: int) -> None:
        self.size = area.length
        self._writing = writing
        plan = writing.plan
        parts = [_Part(block.start - area.offset, block.size, number) for number, block in enumerate(plan.blocks)]
        for gap in plan.gaps:
            parts.append(_Part(gap.offset - area.offset, gap.length, place=gaps))
            gaps += gap.length
        self._parts = sorted(parts, key=lambda part: part.start)
        longest = max((block.length for block in plan.blocks), default=1)
        costs = [block.size + (block.length if len(block.pieces) > 1 else 0) for block in plan.blocks]
        ahead = ahead_for(longest)
        self._made = Batches(costs, self._batch, self._prepare, ahead=ahead, most=_BATCH)

    def extents(self) -> Iterator[Extent]:
        """Yield all of it."""
        if self.size:
            yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Read from the parts that the range touches."""
        found: list[Data] = []
        index = bisect.bisect_right(self._parts, offset, key=lambda part: part.start) - 1
        while length > 0:
            part = self._parts[index]
            inside = offset - part.start
            step = min(length, part.size - inside)
            if part.block >= 0:
                found.append(self._made[part.block][inside : inside + step])
            else:
                found.append(self._writing.inner.read(part.place + inside, step))
            offset, length, index = offset + step, length - step, index + 1
        return b"".join(found)

    def _batch(self, numbers: range) -> Iterator[Prepared[bytes]]:
        """Read the content of blocks in the order of where it lies."""
        inner, files, blocks = self._writing.inner, self._writing.files, self._writing.plan.blocks
        found = ((piece, number) for number in numbers for piece in blocks[number].pieces)
        missing = {number: len(blocks[number].pieces) for number in numbers}
        partial: dict[int, bytearray] = {}
        for piece, number in sorted(found, key=lambda item: inner.near(files + item[0].place)):
            content = partial.get(number)
            if content is None:
                content = partial[number] = bytearray(blocks[number].length)
            content[piece.offset : piece.offset + piece.length] = inner.read(files + piece.place, piece.length)
            missing[number] -= 1
            if not missing[number]:
                yield Prepared(number, self._work(number, bytes(partial.pop(number))))

    def _prepare(self, number: int) -> Work[bytes]:
        return self._work(number, assembled(self._writing, self._writing.plan.blocks[number]))

    def _work(self, number: int, content: bytes) -> Work[bytes]:
        writing = self._writing
        block = writing.plan.blocks[number]

        def work() -> bytes:
            made = writing.encoder.compress(content) if block.packed else content
            made = writing.patches.apply(number, made)
            if made is None or len(made) != block.size:
                raise MismatchError(
                    "a block of squashfs compresses to another size",
                    offset=block.start,
                    expected=block.size,
                    actual=None if made is None else len(made),
                )
            return bytes(memoryview(made))  # what the encoder made lies in a buffer for a whole block

        return work


class Metadata(Source):
    """All tables, compressed when the first byte of them is read: their blocks' sizes are known no sooner."""

    def __init__(self, writing: Writing, content: bytes, record: SquashfsRecord) -> None:
        self.size = record.bytes_used - record.inode_table_start
        self._writing = writing
        self._content = content
        self._tables = record.metadata
        self._flags = record.flags
        self._lock = threading.Lock()
        self._made: bytes | None = None

    def extents(self) -> Iterator[Extent]:
        """Yield all of it."""
        yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Compress the tables at first; raises MismatchError where they become too long or too short."""
        with self._lock:
            if self._made is None:
                self._made = b"".join(in_order(self._works(), ahead_for(METADATA_SIZE)))
        if len(self._made) != self.size:
            raise MismatchError("the tables of squashfs have another size", expected=self.size, actual=len(self._made))
        return self._made[offset : offset + length]

    def _works(self) -> Iterator[Work[bytes]]:
        at = 0
        number = len(self._writing.plan.blocks)
        for table in self._tables:
            step = METADATA_SIZE if table.packed else max(table.size, 1)
            for start in range(at, at + table.size, step):
                content = self._content[start : min(start + step, at + table.size)]
                yield self._block(content, number, table.name) if table.packed else _as_it_is(content)
                number += table.packed
            at += table.size

    def _block(self, content: bytes, number: int, table: TableName) -> Work[bytes]:
        writing = self._writing

        def work() -> bytes:
            made = metadata_block(writing.encoder, content, table, self._flags)
            return writing.patches.apply(number, made) or b""

        return work


def _as_it_is(content: bytes) -> Work[bytes]:
    return lambda: content


def metadata_block(made: BlockEncoder, content: bytes, table: TableName, flags: int) -> bytes:
    """Return a metadata block with its header; what does not become smaller stays as it is, and what shall."""
    packed = None if flags & _UNCOMPRESSED.get(table, 0) else made.compress(content, metadata=True)
    if packed is None:
        return METADATA_HEADER.pack(METADATA_UNCOMPRESSED | len(content)) + content
    return METADATA_HEADER.pack(len(packed)) + packed
