"""The log of XFS: records, their operations, and the runs of empty headers that a mount stamps.

Positions are in basic blocks of 512 bytes from the start of the log. The log is circular: each pass over it has a
cycle number, and on disk the first word of every block is the cycle in which it was written. The words that stood
there are kept in ``h_cycle_data`` of the record's header (``xlog_pack_data`` in Linux ``fs/xfs/xfs_log.c``).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from rehydrator.disk.extents import CHUNK, is_zero
from rehydrator.fs.place import NEEDS_RECOVERY, Health
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XLOG_CYCLE_DATA_SIZE,
    XLOG_FMT_LINUX_LE,
    XLOG_HEADER_MAGIC_NUM,
    XLOG_MAX_RECORD_BSIZE,
    XLOG_VERSION_2,
    XlogOpFlag,
    XlogOpHeader,
    XlogRecHeader,
)
from rehydrator.fs.xfs.checksums import expected_record, header_blocks, reseal_record, stored_record
from rehydrator.fs.xfs.geometry import Geometry
from rehydrator.fs.xfs.reader import Reader

_WORDS = struct.Struct(f">I{BBSIZE - 4}x")
_WORD = struct.Struct(">I")
_WORD_SIZE = _WORD.size
_OPERATION = struct.Struct(">IIBB2x")  # XlogOpHeader; there are hundreds of thousands of them
_BLOCK_BITS = 32
_BLOCK_MASK = (1 << _BLOCK_BITS) - 1
# A stamped header has size 0; mounts choose 16 to 256 KiB (logbsize).
_RECORD_SIZES = frozenset({0, *(1 << shift for shift in range(14, XLOG_MAX_RECORD_BSIZE.bit_length()))})
_MAX_HEADER_BLOCKS = XLOG_MAX_RECORD_BSIZE // (XLOG_CYCLE_DATA_SIZE * BBSIZE)


def make_lsn(cycle: int, block: int) -> int:
    """Return the log sequence number of a block in a cycle."""
    return cycle << _BLOCK_BITS | block


def split_lsn(lsn: int) -> tuple[int, int]:
    """Return cycle and block of a log sequence number."""
    return lsn >> _BLOCK_BITS, lsn & _BLOCK_MASK


class StaleRun(msgspec.Struct, frozen=True):
    """Empty record headers stamped over stale blocks ahead of the head (``xlog_clear_stale_blocks``).

    ``count`` blocks from ``start`` on, all with the same ``cycle`` and tail.
    """

    start: int
    count: int
    cycle: int
    tail_cycle: int
    tail_block: int


def stamp(run: StaleRun, uuid: bytes) -> bytes:
    """Regenerate the bytes of a run (``xlog_add_record``); ``uuid`` is ``sb_uuid``."""
    head, tail = _stamp_around(run.cycle, run.tail_cycle, run.tail_block, uuid)
    return b"".join(head + _WORD.pack(number) + tail for number in range(run.start, run.start + run.count))


@lru_cache(maxsize=64)
def _stamp_around(cycle: int, tail_cycle: int, tail_block: int, uuid: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the block number, all that differs from one stamped header to the next."""
    header = XlogRecHeader(
        h_magicno=XLOG_HEADER_MAGIC_NUM,
        h_cycle=cycle,
        h_version=XLOG_VERSION_2,
        h_len=0,
        h_lsn=make_lsn(cycle, 0),
        h_tail_lsn=make_lsn(tail_cycle, tail_block),
        h_crc=bytes(4),
        h_prev_block=0,
        h_num_logops=0,
        h_cycle_data=bytes(4 * XLOG_CYCLE_DATA_SIZE),
        h_fmt=XLOG_FMT_LINUX_LE,
        h_fs_uuid=uuid,
        h_size=0,
        h_pad0=0,
    )
    block = header.pack().ljust(BBSIZE, b"\0")
    at = XlogRecHeader.offset_of("h_lsn") + _WORD_SIZE
    return block[:at], block[at + _WORD_SIZE :]


class LogRecord(msgspec.Struct, frozen=True):
    """A log record. ``written`` is how many of its payload blocks are still there (not overwritten since)."""

    block: int
    header: XlogRecHeader
    header_blocks: int
    payload_blocks: int
    written: int

    @property
    def name(self) -> str:
        """Name as xfs_logprint has it: cycle and block."""
        return f"log record {self.header.h_cycle}/{self.block}"

    @property
    def whole(self) -> bool:
        """Whether all of the record is there."""
        return self.written == self.payload_blocks


class LogOperation(NamedTuple):
    """One operation of a record; ``offset`` is that of its header in the unpacked payload, ``length`` of its data.

    ``flags`` are bits of :class:`~rehydrator.fs.xfs.c_xfs_log.XlogOpFlag`.
    """

    offset: int
    tid: int
    length: int
    clientid: int
    flags: int

    @property
    def data_offset(self) -> int:
        """Where the data begin in the unpacked payload."""
        return self.offset + XlogOpHeader.SIZE


class LogPiece(msgspec.Struct, frozen=True):
    """``count`` blocks from ``start`` on: part of a record, of a run of stale headers, or neither (unused).

    ``first`` is the number of the piece's first block within the record (header blocks come first) or the run.
    """

    start: int
    count: int
    record: LogRecord | None = None
    run: StaleRun | None = None
    first: int = 0

    @property
    def end(self) -> int:
        """First block after the piece."""
        return self.start + self.count


class XfsLog:
    """The parsed log; parsing happens on construction and never raises."""

    def __init__(self, reader: Reader, geometry: Geometry) -> None:
        self._reader = reader
        self.extent = geometry.log
        self.uuid = geometry.user_uuid
        self.blocks = max(min(geometry.log.length, reader.size - geometry.log.offset), 0) // BBSIZE
        self.records: list[LogRecord] = []
        self.runs: list[StaleRun] = []
        self._headers: list[int] = []
        self._scan()
        self.pieces = self._cut()
        self._starts = [piece.start for piece in self.pieces]

    # -- bytes

    def read(self, block: int, count: int) -> bytes:
        """Read ``count`` blocks from ``block`` on, around the end of the log."""
        first = min(count, self.blocks - block)
        data = self._reader.read(self.extent.offset + block * BBSIZE, first * BBSIZE)
        if first < count:
            data += self._reader.read(self.extent.offset, (count - first) * BBSIZE)
        return data

    def headers(self, record: LogRecord) -> bytes:
        """Return the header blocks of a record as they are on disk."""
        return self.read(record.block, record.header_blocks)

    def payload(self, record: LogRecord) -> bytes:
        """Return the payload blocks of a record as they are on disk, as far as they are still its own."""
        start = (record.block + record.header_blocks) % self.blocks
        return self.read(start, record.written)[: record.header.h_len]

    def operations(self, record: LogRecord) -> Iterator[LogOperation]:
        """Yield the operations of a record."""
        return parse_operations(unpack(self.headers(record), self.payload(record)), record.header.h_num_logops)

    # -- state

    @property
    def last(self) -> LogRecord | None:
        """The record that was written last."""
        return max(self.records, key=lambda record: record.header.h_lsn, default=None)

    @property
    def needs_recovery(self) -> bool:
        """Whether anything but an unmount record is last (``xlog_check_unmount_rec``). An empty log needs nothing."""
        last = self.last
        if last is None:
            return False
        if last.header.h_num_logops != 1:
            return True
        first = next(self.operations(last), None)
        return first is None or not first.flags & XlogOpFlag.UNMOUNT_TRANS

    def health(self) -> Iterator[Health]:
        """Check the records that are whole, and whether recovery is due."""
        for record in self.records:
            offset = self.extent.offset + record.block * BBSIZE
            problem = _header_problem(record)
            if problem:
                yield Health(record.name, offset, problem)
                continue
            if not record.whole:  # overwritten since, which is the fate of all records
                continue
            headers = self.headers(record)
            found, wanted = stored_record(headers), expected_record(headers, self.payload(record))
            if found != wanted and not (found == 0 and record.header.h_num_logops == 1):  # mkfs.xfs stores none
                yield Health(record.name, offset, f"wrong checksum {found:#010x}, expected {wanted:#010x}")
        if self.needs_recovery and self.last is not None:
            yield Health("log", self.extent.offset + self.last.block * BBSIZE, NEEDS_RECOVERY)

    # -- pieces

    def piece_at(self, block: int) -> LogPiece:
        """Return the piece that ``block`` belongs to."""
        index = bisect_right(self._starts, block) - 1
        if index >= 0 and block < self.pieces[index].end:
            return self.pieces[index]
        start = self.pieces[index].end if index >= 0 else 0
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self.blocks
        return LogPiece(start, max(end - start, 1))

    def _scan(self) -> None:
        """Find all header blocks: no other block can begin with the magic number, which is no valid cycle."""
        for at in range(0, self.blocks * BBSIZE, CHUNK):
            data = self._reader.read(self.extent.offset + at, min(CHUNK, self.blocks * BBSIZE - at))
            if not data or is_zero(data):
                continue
            for index, (word,) in enumerate(_WORDS.iter_unpack(data)):
                if word == XLOG_HEADER_MAGIC_NUM:
                    block = at // BBSIZE + index
                    self._headers.append(block)
                    self._take_header(block, data[index * BBSIZE : (index + 1) * BBSIZE])
        self.records = [replace(record, written=self._count_written(record)) for record in self.records]

    def _take_header(self, block: int, data: bytes) -> None:
        header = XlogRecHeader.parse(data)
        if not header.h_len:
            run = StaleRun(block, 1, header.h_cycle, *split_lsn(header.h_tail_lsn))
            if stamp(run, self.uuid) == data:
                self._take_stamped(run)
                return
        blocks = min(-(-header.h_len // BBSIZE), self.blocks)
        headers = min(header_blocks(header), _MAX_HEADER_BLOCKS, self.blocks)
        self.records.append(LogRecord(block, header, headers, blocks, 0))

    def _take_stamped(self, run: StaleRun) -> None:
        """Add a block to the run that it continues, or begin a new one."""
        last = self.runs[-1] if self.runs else None
        if last is not None and replace(run, start=last.start, count=run.start - last.start) == last:
            self.runs[-1] = replace(last, count=last.count + 1)
        else:
            self.runs.append(run)

    def _count_written(self, record: LogRecord) -> int:
        """Count the payload blocks, from the first on, that carry the record's cycle."""
        start = record.block + record.header_blocks
        most = min(record.payload_blocks, XLOG_MAX_RECORD_BSIZE // BBSIZE, self.blocks - record.header_blocks)
        for index, (word,) in enumerate(_WORDS.iter_unpack(self.read(start % self.blocks, max(most, 0)))):
            if word != record.header.h_cycle + (start + index >= self.blocks):
                return index
        return max(most, 0)

    def _cut(self) -> list[LogPiece]:
        """Order headers, payloads and runs; what a later header overwrote is not the earlier record's any more."""
        pieces = [LogPiece(run.start, run.count, run=run) for run in self.runs]
        for record in self.records:
            extension = record.header_blocks - 1
            pieces.append(LogPiece(record.block, 1, record))
            start = record.block + 1
            total = extension + record.written
            fits = min(total, max(self.blocks - start, 0))
            pieces += [LogPiece(start, fits, record, first=1), LogPiece(0, total - fits, record, first=1 + fits)]
            if start >= self.blocks:
                pieces[-1] = LogPiece(start - self.blocks, total, record, first=1)
        pieces = sorted((piece for piece in pieces if piece.count), key=lambda piece: (piece.start, -piece.first))
        result: list[LogPiece] = []
        for piece in pieces:
            if result and result[-1].end > piece.start:
                # Only a damaged or overwritten record runs into the next header.
                keep = piece.start - result[-1].start
                result[-1] = replace(result[-1], count=keep)
                if not keep:
                    result.pop()
            result.append(piece)
        return [piece for piece in result if piece.end <= self.blocks]


def _header_problem(record: LogRecord) -> str:
    """Say what is impossible in a record's header, apart from its checksum (``xlog_valid_rec_header``)."""
    header = record.header
    if header.h_version != XLOG_VERSION_2 or header.h_size not in _RECORD_SIZES:
        return "impossible version or size in its header"
    if header.h_len % BBSIZE or header.h_len > header.h_size:
        return f"impossible length {header.h_len} in its header"
    if header.h_lsn != make_lsn(header.h_cycle, record.block):
        return "its header says another cycle or block"
    return ""


def unpack(headers: bytes, payload: bytes) -> bytes:
    """Put the words kept in the headers back over the cycle numbers of the payload (``xlog_unpack_data``)."""
    data = bytearray(payload)
    for block, word in enumerate(_saved_words(headers, -(-len(payload) // BBSIZE))):
        at = block * BBSIZE
        data[at : at + _WORD_SIZE] = word
    return bytes(data[: len(payload)])


def _saved_words(headers: bytes, count: int) -> Iterator[bytes]:
    for block in range(count):
        index, slot = divmod(block, XLOG_CYCLE_DATA_SIZE)
        base = XlogRecHeader.offset_of("h_cycle_data") if not index else index * BBSIZE + _WORD_SIZE
        at = base + slot * _WORD_SIZE
        if at + _WORD_SIZE > len(headers):
            return
        yield headers[at : at + _WORD_SIZE]


def pack(headers: bytes, payload: bytes, wrap: int | None = None) -> tuple[bytes, bytes]:
    """Return headers and payload as they go to disk: the inverse of :func:`unpack`, with ``h_crc`` made right.

    ``headers`` gives all fields besides the saved words. ``wrap`` is the number of the first payload block that
    lies behind the end of the log, where the next cycle begins.
    """
    cycle = XlogRecHeader.parse(headers).h_cycle
    data, head = bytearray(payload), bytearray(headers)
    for block in range(-(-len(payload) // BBSIZE)):
        index, slot = divmod(block, XLOG_CYCLE_DATA_SIZE)
        base = XlogRecHeader.offset_of("h_cycle_data") if not index else index * BBSIZE + _WORD_SIZE
        at, saved = block * BBSIZE, base + slot * _WORD_SIZE
        head[saved : saved + _WORD_SIZE] = data[at : at + _WORD_SIZE]
        data[at : at + _WORD_SIZE] = _WORD.pack(cycle + (wrap is not None and block >= wrap))
    return reseal_record(bytes(head), bytes(data)), bytes(data)


def parse_operations(payload: bytes, count: int) -> Iterator[LogOperation]:
    """Yield up to ``count`` operations of an unpacked payload, as long as they make sense."""
    at, size, end = 0, XlogOpHeader.SIZE, len(payload)
    for _ in range(count):
        if at + size > end:
            return
        tid, length, client, flags = _OPERATION.unpack_from(payload, at)
        if length > end - at - size:
            return
        yield LogOperation(at, tid, length, client, flags)
        at += size + length
