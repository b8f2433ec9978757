"""``xfs.records``: new records of the log, told by what they log.

A record is the operations of one or more checkpoints, cut where the record was full. Positions, lengths, cycle words
and checksums follow; so does what lies behind the last operation: it stood in the same buffer (``iclog``) before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.edits.fields import changed
from rehydrator.edits.literal import literal_runs
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.edits.xfs_buffer_regions import told_buffer
from rehydrator.edits.xfs_inode_regions import told_inode
from rehydrator.edits.xfs_intent_regions import INTENTS, told_chunk, told_intent
from rehydrator.edits.xfs_items import (
    LoggedBuffer,
    LoggedBytes,
    LoggedCommit,
    LoggedInode,
    LoggedItem,
    LoggedStart,
    LoggedTransaction,
    LoggedUnmount,
    NewRecord,
)
from rehydrator.edits.xfs_shadow import Shadow
from rehydrator.edits.xfs_writer import Writer, transaction, unmount
from rehydrator.errors import RehydratorError
from rehydrator.fs.xfs.c_xfs_log import (
    XFS_TRANS_HEADER_MAGIC,
    XLOG_CYCLE_DATA_SIZE,
    LogItem,
    XfsTransHeader,
    XfsUnmountLogFormat,
    XlogOpFlag,
    XlogRecHeader,
)
from rehydrator.fs.xfs.log import LogRecord, XfsLog, parse_operations, unpack

_TRANSACTION, _LOG = 0x69, 0xAA  # oh_clientid: XFS_TRANSACTION, XFS_LOG
_MAX_BUFFERS = 32  # records that are remembered; at most 8 buffers are used in turn (logbufs)
_MAX_PAYLOAD = 256 << 10
_TRANS_CHECKPOINT = 40
_MAX_LSNS = 32
_DERIVED = ("h_crc", "h_cycle_data", "h_num_logops")
_ITEM = struct.Struct("<HH")
_WORDS_SIZE = 4 * XLOG_CYCLE_DATA_SIZE
_CRC = XlogRecHeader.offset_of("h_crc")


class XfsRecords(msgspec.Struct, tag="xfs.records", tag_field="op", frozen=True):
    """New records of the log of one partition, in order; the first comes ``after`` the base's record at that block.

    After all edits of what the records speak of.
    """

    partition: str
    after: int
    records: list[NewRecord]

    def apply(self, replay: Replay) -> None:
        """Write each record."""
        writer = Writer(replay, self.partition, self.after)
        for record in self.records:
            draft = writer.draft(record, *writer.body(record))
            writer.log.write(record.block, writer.finished(record, draft))

    def describe(self) -> str:
        """Count the records and their items."""
        items = sum(isinstance(item, LoggedInode | LoggedBuffer) for record in self.records for item in record.items)
        return f"{counted(len(self.records), 'new log record')} of {counted(items, 'item')}"

    def literal_bytes(self) -> int:
        """Sum of the bytes without a name."""
        return sum(_literal(record) for record in self.records)


def _literal(record: NewRecord) -> int:
    runs = [*record.words, *record.runs]
    total = 0
    for item in record.items:
        if isinstance(item, LoggedBytes):
            total += len(item.data)
        if isinstance(item, LoggedInode | LoggedBuffer):
            runs += item.runs
            change = item.forks if isinstance(item, LoggedInode) else item.change
            runs += change.runs if change else []
    return total + sum(len(run.data) for run in runs)


# -- telling


class _Region(msgspec.Struct):
    """The data of an operation, put together where it was cut; ``record`` is the one where it begins."""

    record: int
    tid: int
    client: int
    flags: int
    length: int
    data: bytearray
    open: bool = False


def recognise(replay: Replay, partition: str, wanted: XfsLog, new: list[LogRecord], after: int) -> XfsRecords | None:
    """Tell whole records, in order, behind the base's at block ``after``; None where they can't be taken apart."""
    try:
        payloads = [unpack(wanted.headers(record), wanted.payload(record)) for record in new]
        regions, lengths = _regions(new, payloads)
        teller = Writer(replay, partition, after)
        teller.shadow.lsns = [record.header.h_lsn for record in new[:_MAX_LSNS]]
        items = _items(teller, regions, len(new))
        if items is None:
            return None
        return XfsRecords(partition, after, list(_told(Writer(replay, partition, after), wanted, new, items, lengths)))
    except RehydratorError:
        return None


def _regions(new: list[LogRecord], payloads: list[bytes]) -> tuple[list[_Region], list[int]]:
    """Put regions together, and tell for each record how many bytes its operations take."""
    regions: list[_Region] = []
    lengths: list[int] = []
    for index, (record, payload) in enumerate(zip(new, payloads, strict=True)):
        end = 0
        for operation in parse_operations(payload, record.header.h_num_logops):
            length = operation.length
            if operation.flags & XlogOpFlag.UNMOUNT_TRANS:
                length = XfsUnmountLogFormat.SIZE  # whatever its header says: kernels disagree
            data = payload[operation.data_offset : operation.data_offset + length]
            end = operation.data_offset + length
            goes_on = bool(operation.flags & XlogOpFlag.CONTINUE_TRANS)
            if operation.flags & XlogOpFlag.WAS_CONT_TRANS and regions and regions[-1].open:
                regions[-1].data += data
                regions[-1].open = goes_on
                continue
            flags = operation.flags & ~(XlogOpFlag.CONTINUE_TRANS)
            regions.append(
                _Region(index, operation.tid, operation.clientid, flags, operation.length, bytearray(data), goes_on)
            )
        lengths.append(end)
    return regions, lengths


def _items(writer: Writer, regions: list[_Region], count: int) -> list[list[LoggedItem]] | None:
    """Tell the items that begin in each record."""
    items: list[list[LoggedItem]] = [[] for _ in range(count)]
    at = 0
    while at < len(regions):
        region = regions[at]
        item, taken = _item(writer, regions, at)
        for operation in writer.operations(item):
            if operation.tid != region.tid or operation.client != region.client:
                return None
        items[region.record].append(item)
        at += taken
    return items


def _item(writer: Writer, regions: list[_Region], at: int) -> tuple[LoggedItem, int]:
    """Tell the item that begins with a region, and how many regions it has."""
    region = regions[at]
    data = bytes(region.data)
    if region.flags or len(data) < _ITEM.size:
        return _mark(region, data), 1
    if len(data) == XfsTransHeader.SIZE and XfsTransHeader.parse(data).th_magic == XFS_TRANS_HEADER_MAGIC:
        found = XfsTransHeader.parse(data)
        fields = changed(transaction(region.tid, found.th_num_items), found, ())
        return LoggedTransaction(found.th_num_items, fields), 1
    size = _ITEM.unpack_from(data)[1]
    parts = [bytes(item.data) for item in regions[at : at + size]]
    told = _several(writer.shadow, parts) if size == len(parts) else None
    return (told, size) if told is not None else (LoggedBytes(data), 1)


def _mark(region: _Region, data: bytes) -> LoggedItem:
    """Tell the beginning or end of a checkpoint, or an unmount."""
    if region.flags == XlogOpFlag.START_TRANS and not data:
        return LoggedStart(region.tid)
    if region.flags == XlogOpFlag.COMMIT_TRANS and not data:
        return LoggedCommit()
    if region.flags == XlogOpFlag.UNMOUNT_TRANS and len(data) == XfsUnmountLogFormat.SIZE:
        return LoggedUnmount(region.tid, region.length, changed(unmount(), XfsUnmountLogFormat.parse(data), ()))
    return LoggedBytes(data, region.flags)


def _several(shadow: Shadow, parts: list[bytes]) -> LoggedItem | None:
    """Tell an item by its regions, None where it is none that is known."""
    kind = _ITEM.unpack_from(parts[0])[0] if parts else 0
    if kind == LogItem.INODE:
        return told_inode(shadow, parts)
    if kind == LogItem.BUF:
        return told_buffer(shadow, parts)
    if len(parts) != 1:
        return None
    return told_chunk(parts[0]) if kind == LogItem.ICREATE else told_intent(parts[0]) if kind in INTENTS else None


def _told(
    writer: Writer, wanted: XfsLog, new: list[LogRecord], items: list[list[LoggedItem]], lengths: list[int]
) -> Iterator[NewRecord]:
    for record, begun, length in zip(new, items, lengths, strict=True):
        told = NewRecord(record.block, begun, length=length)
        body, count = writer.body(told)
        if writer.drained:
            told = replace(told, length=None)
        told = replace(told, header=changed(writer.draft(told, body, count).header, record.header, _DERIVED))
        trials = [replace(told, behind=behind) for behind in (None, *writer.buffers)]
        told = min((_with_runs(writer, wanted, record, trial, body, count) for trial in trials), key=_literal)
        writer.finished(told, writer.draft(told, body, count))
        yield told


def _with_runs(
    writer: Writer, wanted: XfsLog, record: LogRecord, told: NewRecord, body: bytes, count: int
) -> NewRecord:
    """Add what still differs."""
    draft = writer.draft(told, body, count)
    headers = wanted.headers(record)
    payload = unpack(headers, wanted.payload(record))
    if len(draft.payload) != len(payload) or len(draft.headers) != len(headers):
        return told
    words, _ = writer.packed(told, draft.headers, payload)
    return replace(
        told,
        words=list(literal_runs(_without_checksum(words), _without_checksum(headers))),
        runs=list(literal_runs(draft.payload, payload)),
    )


def _without_checksum(headers: bytes) -> bytes:
    return headers[:_CRC] + bytes(4) + headers[_CRC + 4 :]
