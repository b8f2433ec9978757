"""Writing records of the XFS log: operations, cut into records, with their headers.

Positions, lengths, cycle words and checksums follow from what is logged.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from rehydrator.edits.fields import updated
from rehydrator.edits.literal import write_runs
from rehydrator.edits.replay import Replay
from rehydrator.edits.xfs_buffer_regions import buffer_regions
from rehydrator.edits.xfs_inode_regions import inode_regions
from rehydrator.edits.xfs_intent_regions import chunk_regions, intent_regions
from rehydrator.edits.xfs_items import (
    LoggedBuffer,
    LoggedBytes,
    LoggedChunk,
    LoggedCommit,
    LoggedInode,
    LoggedIntent,
    LoggedItem,
    LoggedStart,
    LoggedTransaction,
    LoggedUnmount,
    NewRecord,
)
from rehydrator.edits.xfs_log_blocks import LogBlocks, at_block
from rehydrator.edits.xfs_shadow import Shadow
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XFS_TRANS_HEADER_MAGIC,
    XLOG_CYCLE_DATA_SIZE,
    XLOG_UNMOUNT_TYPE,
    XfsTransHeader,
    XfsUnmountLogFormat,
    XlogOpFlag,
    XlogOpHeader,
    XlogRecExtHeader,
    XlogRecHeader,
)
from rehydrator.fs.xfs.checksums import header_blocks
from rehydrator.fs.xfs.log import pack, split_lsn

_TRANSACTION, _LOG = 0x69, 0xAA  # oh_clientid: XFS_TRANSACTION, XFS_LOG
_MAX_BUFFERS = 32  # records that are remembered; at most 8 buffers are used in turn (logbufs)
_MAX_PAYLOAD = 256 << 10
_TRANS_CHECKPOINT = 40
_WORD, _BYTE = 1 << 32, 1 << 8
_WORDS_SIZE = 4 * XLOG_CYCLE_DATA_SIZE


class _Operation(NamedTuple):
    data: bytes
    flags: int
    client: int
    tid: int
    length: int | None = None  # what the header says, where that is not the length of the data


class Draft(NamedTuple):
    """A record before its literal runs, with its payload as the operations have it."""

    header: XlogRecHeader
    headers: bytes
    payload: bytes


class Writer:
    """Makes records one after the other."""

    def __init__(self, replay: Replay, partition: str, after: int) -> None:
        self.log = replay.state(LogBlocks, partition)
        self.shadow = Shadow(replay, partition)
        self._queue: deque[_Operation] = deque()
        self._resumed = False  # whether the first of the queue is the rest of a region
        self._tid = 0
        self._buffers: dict[int, bytes] = {}  # payloads of the latest records by their block
        self._previous = XlogRecHeader.parse(self.log.before(after, 1))

    def operations(self, item: LoggedItem) -> Iterator[_Operation]:
        """Yield the operations of an item, each whole."""
        flags, client, regions = 0, _TRANSACTION, [b""]
        length: int | None = None
        match item:
            case LoggedStart():
                self._tid, flags = item.tid, XlogOpFlag.START_TRANS
            case LoggedCommit():
                flags = XlogOpFlag.COMMIT_TRANS
            case LoggedUnmount():
                self._tid, flags, client, length = item.tid, XlogOpFlag.UNMOUNT_TRANS, _LOG, item.length
                regions = [updated(unmount(), item.set).pack()]
            case LoggedTransaction():
                regions = [updated(transaction(self._tid, item.items), item.set).pack()]
            case LoggedInode():
                regions = inode_regions(self.shadow, item)
            case LoggedBuffer():
                regions = buffer_regions(self.shadow, item)
            case LoggedIntent():
                regions = intent_regions(item)
            case LoggedChunk():
                regions = chunk_regions(item)
            case LoggedBytes():
                flags, regions = item.flags, [item.data]
        if not 0 <= self._tid < _WORD or not 0 <= (length or 0) < _WORD or not 0 <= flags < _BYTE:
            raise StoreDamagedError("an impossible operation of the log", actual=self._tid)
        return iter([_Operation(region, flags, client, self._tid, length) for region in regions])

    def body(self, record: NewRecord) -> tuple[bytes, int]:
        """Return the operations of the next record and their number."""
        try:
            for item in record.items:
                self._queue.extend(self.operations(item))
        except struct.error as error:
            raise StoreDamagedError("impossible values in a log item", actual=record.block) from error
        return self._cut(_MAX_PAYLOAD if record.length is None else record.length)

    @property
    def buffers(self) -> list[int]:
        """The blocks of the latest records, whose buffers the next one may have been written from."""
        return list(self._buffers)

    @property
    def drained(self) -> bool:
        """Whether all operations were taken."""
        return not self._queue

    def draft(self, record: NewRecord, body: bytes, count: int) -> Draft:
        """Return header blocks and unpacked payload of the next record, without its literal runs."""
        header = self._previous.replaced(
            h_prev_block=split_lsn(self._previous.h_lsn)[1],
            h_len=-(-len(body) // BBSIZE) * BBSIZE,
            h_num_logops=count,
            h_cycle_data=bytes(_WORDS_SIZE),
        )
        header = at_block(updated(header, record.header), record.block)
        if not len(body) <= header.h_len <= _MAX_PAYLOAD or header.h_size > _MAX_PAYLOAD:
            raise StoreDamagedError("a log record is longer than its header says", actual=record.block)
        stale = self._buffers.get(record.behind, b"") if record.behind is not None else b""
        extended = XlogRecExtHeader(xh_cycle=header.h_cycle, xh_cycle_data=bytes(_WORDS_SIZE)).pack()
        headers = header.pack().ljust(BBSIZE, b"\0")
        headers += extended.ljust(BBSIZE, b"\0") * (header_blocks(header) - 1)
        data = body + stale[len(body) : header.h_len]
        return Draft(header, headers, data.ljust(header.h_len, b"\0"))

    def finished(self, record: NewRecord, draft: Draft) -> bytes:
        """Return the blocks of a record with its literal runs, and go on behind it."""
        headers, payload = bytearray(draft.headers), bytearray(draft.payload)
        write_runs(headers, record.words)
        write_runs(payload, record.runs)
        made, data = self.packed(record, bytes(headers), bytes(payload))
        self._previous = draft.header
        if len(self._buffers) >= _MAX_BUFFERS:
            del self._buffers[next(iter(self._buffers))]
        self._buffers[record.block] = data
        return made + data

    def packed(self, record: NewRecord, headers: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Return headers and payload as they go to disk; behind the end of the log the next cycle begins."""
        until_end = self.log.blocks - record.block - len(headers) // BBSIZE
        return pack(headers, payload, until_end if until_end * BBSIZE < len(payload) else None)

    def _cut(self, limit: int) -> tuple[bytes, int]:
        """Take operations from the queue until ``limit`` bytes are full; the rest of a region goes on next time."""
        payload = bytearray()
        count = 0
        while self._queue and limit - len(payload) >= XlogOpHeader.SIZE:
            operation = self._queue.popleft()
            room = limit - len(payload) - XlogOpHeader.SIZE
            part = operation.data[:room]
            flags = operation.flags | (XlogOpFlag.WAS_CONT_TRANS if self._resumed else 0)
            if len(part) < len(operation.data):
                flags |= XlogOpFlag.CONTINUE_TRANS
            elif self._resumed:
                flags |= XlogOpFlag.END_TRANS
            length = len(part) if operation.length is None else operation.length
            head = XlogOpHeader(
                oh_tid=operation.tid, oh_len=length, oh_clientid=operation.client, oh_flags=flags, oh_res2=0
            )
            payload += head.pack() + part
            count += 1
            self._resumed = len(part) < len(operation.data)
            if self._resumed:
                self._queue.appendleft(operation._replace(data=operation.data[room:]))
                break
        return bytes(payload), count


def unmount() -> XfsUnmountLogFormat:
    """Return what an unmount logs."""
    return XfsUnmountLogFormat(magic=XLOG_UNMOUNT_TYPE, pad1=0, pad2=0)


def transaction(tid: int, items: int) -> XfsTransHeader:
    """Return the header of a checkpoint."""
    return XfsTransHeader(th_magic=XFS_TRANS_HEADER_MAGIC, th_type=_TRANS_CHECKPOINT, th_tid=tid, th_num_items=items)
