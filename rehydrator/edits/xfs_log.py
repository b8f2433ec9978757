"""``xfs.log`` and ``xfs.stamp``: records of the log, and the runs of empty headers that a mount stamps.

A record of a sibling differs from the base's in the transaction ids, which are random, and in the inode cores that
it carries, which are those of the inodes themselves. Cycle words, ``h_cycle_data`` and ``h_crc`` follow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from rehydrator.edits import xfs_records
from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.literal import LiteralRun, literal_runs, write_runs
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.edits.xfs_change import TIMES
from rehydrator.edits.xfs_inodes import inode_bytes
from rehydrator.edits.xfs_log_blocks import LogBlocks, at_block
from rehydrator.edits.xfs_records import XfsRecords
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs import XFS_SB_MAGIC, Diflag2, XfsDinode, XfsDsb
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XFS_TRANS_HEADER_MAGIC,
    IlogField,
    LogItem,
    XfsInodeLogFormat,
    XfsTransHeader,
    XlogOpHeader,
    XlogRecHeader,
)
from rehydrator.fs.xfs.checksums import Seal, expected, header_blocks
from rehydrator.fs.xfs.log import (
    LogOperation,
    LogRecord,
    StaleRun,
    XfsLog,
    pack,
    parse_operations,
    stamp,
    unpack,
)
from rehydrator.fs.xfs.reader import Reader

_DERIVED = ("h_crc", "h_cycle_data")
_TID = struct.Struct(">I")
_TID_HOST = struct.Struct("<I")
_MAX_RECORD = 1 << 20
_LSN_WORD = 1 << 32  # both halves of a log sequence number are below
_CANDIDATES = 24  # records of the same shape that are tried as a model


class TidChange(msgspec.Struct, array_like=True, frozen=True):
    """Operations ``first`` and following have transaction id ``tid``, until the next change."""

    first: int
    tid: int


class LoggedSuperblock(msgspec.Struct, array_like=True, frozen=True):
    """The superblock that a record carries: its ``sb_lsn``, and the one it had when its checksum was last made."""

    sb_lsn: int
    sealed: int


class RecordChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record at log block ``block`` (of 512 bytes), told from the base's record there, or at ``like``.

    ``tid`` is the transaction id of all its operations; where they have several, ``tids`` says which.
    """

    block: int
    like: int | None = None
    tid: int | None = None
    tids: list[TidChange] = []
    header: Fields = {}
    superblock: LoggedSuperblock | None = None
    runs: list[LiteralRun] = []


class XfsLogRecords(msgspec.Struct, tag="xfs.log", tag_field="op", frozen=True):
    """Changes of log records in one partition. After the inodes, whose times they carry."""

    partition: str
    records: list[RecordChange]

    def apply(self, replay: Replay) -> None:
        """Write each record."""
        log = replay.state(_Records, self.partition)
        for change in self.records:
            log.write(change.block, log.told(change))

    def describe(self) -> str:
        """Count the records."""
        return counted(len(self.records), "log record")

    def literal_bytes(self) -> int:
        """Sum of the payload bytes without a name."""
        return sum(len(run.data) for record in self.records for run in record.runs)


class StampRun(msgspec.Struct, array_like=True, frozen=True):
    """``count`` empty record headers from log block ``start`` on."""

    start: int
    count: int
    cycle: int
    tail_cycle: int
    tail_block: int


class XfsStamp(msgspec.Struct, tag="xfs.stamp", tag_field="op", frozen=True):
    """Stale log blocks that a mount stamped with empty headers (``xlog_clear_stale_blocks``)."""

    partition: str
    runs: list[StampRun]

    def apply(self, replay: Replay) -> None:
        """Write the headers."""
        log = replay.state(_Records, self.partition)
        for run in self.runs:
            if not 0 <= run.start <= run.start + run.count <= log.blocks:
                raise StoreDamagedError("a stamp leaves the log", actual=run.start)
            if not all(0 <= value < _LSN_WORD for value in (run.cycle, run.tail_cycle, run.tail_block)):
                raise StoreDamagedError("a stamp has an impossible cycle or block", actual=run.cycle)
            log.write(run.start, stamp(_stale(run), log.layout.user_uuid))

    def describe(self) -> str:
        """Count the blocks."""
        return f"{counted(sum(run.count for run in self.runs), 'log block')} stamped by a mount"

    def literal_bytes(self) -> int:
        """Return none: each header follows from its run."""
        return 0


def _stale(run: StampRun) -> StaleRun:
    return StaleRun(run.start, run.count, run.cycle, run.tail_cycle, run.tail_block)


class _Records(LogBlocks):
    """Records told from those of the base."""

    def told(self, change: RecordChange) -> bytes:
        """Return the record's blocks as they go to disk."""
        headers, payload = self.base(change.block if change.like is None else change.like)
        header = updated(at_block(XlogRecHeader.parse(headers), change.block), change.header)
        headers = header.pack() + headers[XlogRecHeader.SIZE :]
        data = self.predicted(payload, header.h_num_logops, change)
        write_runs(data, change.runs)
        blocks = len(headers) // BBSIZE
        until_end = self.blocks - change.block - blocks
        packed = pack(headers, bytes(data), until_end if until_end * BBSIZE < len(data) else None)
        return packed[0] + packed[1]

    def base(self, block: int) -> tuple[bytes, bytes]:
        """Return headers and unpacked payload (whole blocks) of the base's record."""
        header = XlogRecHeader.parse(self.before(block, 1))
        count = -(-header.h_len // BBSIZE)
        if header.h_len > _MAX_RECORD or header_blocks(header) + count > self.blocks:
            raise StoreDamagedError("the base has no such log record", actual=block)
        headers = self.before(block, header_blocks(header))
        start = (block + header_blocks(header)) % self.blocks
        return headers, unpack(headers, self.before(start, count))

    def predicted(self, payload: bytes, count: int, change: RecordChange) -> bytearray:
        """Return a base payload with other transaction ids and superblock, and the inodes' times as they are now."""
        data = bytearray(payload)
        changes = iter(sorted(_all_tids(change), key=lambda item: item.first))
        upcoming = next(changes, None)
        tid: int | None = None
        inode: XfsInodeLogFormat | None = None
        for index, operation in enumerate(parse_operations(payload, count)):
            if upcoming is not None and upcoming.first <= index:
                tid, upcoming = upcoming.tid, next(changes, None)
            if tid is not None:
                self._put_tid(data, operation.offset, operation.data_offset, operation.length, tid)
            core = inode is not None and operation.length >= XfsDinode.offset_of("di_ino")
            if core and inode is not None:
                self._put_times(data, operation.data_offset, inode.ilf_ino)
            if change.superblock is not None and _is_superblock(payload, operation):
                _put_superblock(data, operation, change.superblock)
            inode = _inode_format(payload, operation.data_offset, operation.length)
        return data

    @staticmethod
    def _put_tid(data: bytearray, header: int, start: int, length: int, tid: int) -> None:
        """Set an operation's id, and the one in a transaction header where it is the same."""
        at = header + XlogOpHeader.offset_of("oh_tid")
        old = _TID.unpack_from(data, at)[0]
        _TID.pack_into(data, at, tid)
        if length == XfsTransHeader.SIZE:
            transaction = XfsTransHeader.parse(data, start)
            if transaction.th_magic == XFS_TRANS_HEADER_MAGIC and transaction.th_tid == old:
                _TID_HOST.pack_into(data, start + XfsTransHeader.offset_of("th_tid"), tid)

    def _put_times(self, data: bytearray, start: int, number: int) -> None:
        """Give a logged inode core (host byte order) the times that the inode has now."""
        core = XfsDinode.parse(inode_bytes(self.replay, self.partition, self.layout, number))
        for name in TIMES[:3]:
            at = start + XfsDinode.offset_of(name)
            value: int = getattr(core, name)
            logged = (
                struct.pack("<Q", value)
                if core.di_flags2 & Diflag2.BIGTIME
                else struct.pack("<II", value >> 32, value % (1 << 32))
            )
            data[at : at + len(logged)] = logged


def _is_superblock(payload: bytes, operation: LogOperation) -> bool:
    magic = XFS_SB_MAGIC.to_bytes(4, "big")
    return operation.length >= XfsDsb.SIZE and payload.startswith(magic, operation.data_offset)


def _put_superblock(data: bytearray, operation: LogOperation, change: LoggedSuperblock) -> None:
    """Set the number and the checksum of a logged superblock; behind what is logged the sector is zero."""
    start, end = operation.data_offset, operation.data_offset + operation.length
    superblock = XfsDsb.parse(data, start)
    size = max(superblock.sb_sectsize, operation.length)
    rest = bytes(data[start + XfsDsb.SIZE : end]).ljust(size - XfsDsb.SIZE, b"\0")
    sealed = superblock.replaced(sb_lsn=change.sealed).pack() + rest
    crc = struct.pack("<I", expected(Seal.SUPERBLOCK, sealed))
    data[start : start + XfsDsb.SIZE] = superblock.replaced(sb_lsn=change.sb_lsn, sb_crc=crc).pack()


def _logged_superblock(old: bytes, payload: bytes, count: int, known: list[LogRecord]) -> LoggedSuperblock | None:
    """Tell the logged superblock where it is not the old payload's; its checksum is that of some record's number."""
    for operation in parse_operations(payload, count):
        data = slice(operation.data_offset, operation.data_offset + operation.length)
        if not _is_superblock(payload, operation) or old[data] == payload[data]:
            continue
        lsn = XfsDsb.parse(payload, operation.data_offset).sb_lsn
        for sealed in (lsn, *(record.header.h_lsn for record in known)):
            trial = bytearray(old)
            change = LoggedSuperblock(lsn, sealed)
            if _is_superblock(old, operation):
                _put_superblock(trial, operation, change)
            if trial[data] == payload[data]:
                return change
    return None


def _inode_format(payload: bytes, start: int, length: int) -> XfsInodeLogFormat | None:
    """Return an inode log format that announces an inode core, if this is one."""
    if length < XfsInodeLogFormat.SIZE:
        return None
    item = XfsInodeLogFormat.parse(payload, start)
    return item if item.ilf_type == LogItem.INODE and item.ilf_fields & IlogField.CORE else None


def recognise(replay: Replay, partition: str, target: Reader) -> Iterator[XfsStamp | XfsLogRecords | XfsRecords]:
    """Tell how the log differs: stamped runs first, then records, from the base's or else by what they log."""
    blocks = replay.state(_Records, partition)
    wanted = XfsLog(target, blocks.layout)
    stamps = [
        StampRun(run.start, run.count, run.cycle, run.tail_cycle, run.tail_block)
        for run in wanted.runs
        if stamp(run, wanted.uuid) != _now(replay, partition, blocks, run.start, run.count)
    ]
    if stamps:
        yield XfsStamp(partition, stamps)
    known = XfsLog(Reader(replay.before(partition)), blocks.layout).records
    known.sort(key=lambda record: record.header.h_lsn, reverse=True)
    latest = sorted(wanted.records, key=lambda record: record.header.h_lsn)
    changes = [_told(blocks, wanted, record, known, latest) for record in latest]
    told = XfsLogRecords(partition, [change for change in changes if change is not None])
    new = [record for record in latest if record.whole and _differs(blocks, wanted, record)]
    if len(told.records) < len(new) or told.literal_bytes():
        after = known[0].block if known else 0
        items = xfs_records.recognise(replay, partition, wanted, new, after)
        if items is not None:
            yield items
            return
    if told.records:
        yield told


def _differs(blocks: LogBlocks, wanted: XfsLog, record: LogRecord) -> bool:
    count = record.header_blocks + record.payload_blocks
    return wanted.read(record.block, count) != blocks.before(record.block, count)


def _now(replay: Replay, partition: str, blocks: _Records, start: int, count: int) -> bytes:
    source = replay.now(partition)
    return bytes(source.read(blocks.layout.log.offset + start * BBSIZE, count * BBSIZE))


def _told(
    blocks: _Records, wanted: XfsLog, record: LogRecord, known: list[LogRecord], all_records: list[LogRecord]
) -> RecordChange | None:
    """Tell a record that differs from the base's: from the one there, or the latest of the same shape.

    None for one that is the same, is not whole or is like no other.
    """
    count = record.header_blocks + record.payload_blocks
    disk = wanted.read(record.block, count)
    if not record.whole or disk == blocks.before(record.block, count):
        return None
    shape = _shape(record.header)
    alike = [item.block for item in known if item.whole and _shape(item.header) == shape]
    candidates = [block for block in alike if block == record.block] or alike[:_CANDIDATES]
    earlier = [item for item in reversed(all_records) if item.header.h_lsn < record.header.h_lsn][:_CANDIDATES]
    told = [_told_from(blocks, record, disk, None if block == record.block else block, earlier) for block in candidates]
    found = [change for change in told if blocks.told(change) == disk]
    return min(found, key=lambda change: len(msgspec.json.encode(change)), default=None)


def _shape(header: XlogRecHeader) -> tuple[int, int, int]:
    return header.h_len, header.h_size, header.h_num_logops


def _told_from(
    blocks: _Records, record: LogRecord, disk: bytes, like: int | None, earlier: list[LogRecord]
) -> RecordChange:
    """Tell a record from the base's record at block ``like`` (None: at the same place)."""
    headers, old = blocks.base(record.block if like is None else like)
    border = record.header_blocks * BBSIZE
    payload = unpack(disk[:border], disk[border:])
    tids = _tids(old, payload, record.header.h_num_logops)
    single = tids[0].tid if len(tids) == 1 else None
    fields = changed(at_block(XlogRecHeader.parse(headers), record.block), record.header, _DERIVED)
    superblock = _logged_superblock(old, payload, record.header.h_num_logops, earlier)
    change = RecordChange(record.block, like, single, [] if single is not None else tids, fields, superblock)
    predicted = blocks.predicted(old, record.header.h_num_logops, change)
    return msgspec.structs.replace(change, runs=list(literal_runs(bytes(predicted), payload)))


def _all_tids(change: RecordChange) -> list[TidChange]:
    return change.tids if change.tid is None else [TidChange(0, change.tid)]


def _tids(before: bytes, after: bytes, count: int) -> list[TidChange]:
    """Return where transaction ids change from one operation to the next, where any differs from the base's."""
    old, new = list(parse_operations(before, count)), list(parse_operations(after, count))
    if [(item.offset, item.length) for item in old] != [(item.offset, item.length) for item in new]:
        return []
    if all(a.tid == b.tid for a, b in zip(old, new, strict=True)):
        return []
    changes: list[TidChange] = []
    for index, operation in enumerate(new):
        if not changes or changes[-1].tid != operation.tid:
            changes.append(TidChange(index, operation.tid))
    return changes
