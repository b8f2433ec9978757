"""Names for the parts of a log record's payload: operation headers, item headers, inode cores, superblock fields."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.fs.xfs.c_xfs import XfsDinode, XfsDsb
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XFS_BLF_CHUNK,
    XFS_BLFT_SHIFT,
    XFS_TRANS_HEADER_MAGIC,
    BlfType,
    IlogField,
    LogItem,
    XfsBufLogFormat,
    XfsInodeLogFormat,
    XfsTransHeader,
    XfsUnmountLogFormat,
    XlogOpFlag,
    XlogOpHeader,
)
from rehydrator.fs.xfs.log import LogOperation

_ITEM = struct.Struct("<HH")  # type, size (number of regions)
_CYCLE_WORD = 4
_UNMOUNT, _CONTINUED = int(XlogOpFlag.UNMOUNT_TRANS), int(XlogOpFlag.WAS_CONT_TRANS)
_ITEMS = {int(item): item for item in LogItem}
_BUFFERS = {int(kind): kind for kind in BlfType}
_INODE_PARTS = (
    (IlogField.DDATA | IlogField.DEXT | IlogField.DBROOT, "data fork"),
    (IlogField.ADATA | IlogField.AEXT | IlogField.ABROOT, "attribute fork"),
)


class Region(msgspec.Struct, frozen=True):
    """What the data of an operation are: a name and the fields within."""

    name: str
    fields: tuple[FieldSpan, ...] = ()


def payload_fields(
    payload: bytes, operations: Iterable[LogOperation], begin: int = 0, end: int | None = None
) -> tuple[FieldSpan, ...]:
    """Return the named spans of the bytes ``[begin, end)`` of an unpacked payload, as they lie on the disk.

    The first word of each block is the cycle number there, so fields are cut around it.
    """
    stop = len(payload) if end is None else min(end, len(payload))
    spans: list[FieldSpan] = []
    for span in _spans(payload, operations, begin, stop):
        first, last = span.offset // BBSIZE, (span.offset + span.size - 1) // BBSIZE
        if first == last and span.offset % BBSIZE >= _CYCLE_WORD:
            spans.append(span)
        else:
            spans += _around_cycles(span, first, last)
    cycles = range(begin // BBSIZE, -(-stop // BBSIZE))
    spans += (FieldSpan(f"cycle[{block}]", block * BBSIZE, _CYCLE_WORD) for block in cycles)
    return tuple(sorted(spans, key=_offset))


def _offset(span: FieldSpan) -> int:
    return span.offset


def _spans(payload: bytes, operations: Iterable[LogOperation], begin: int, end: int) -> Iterator[FieldSpan]:
    namer = _Namer()
    for index, operation in enumerate(operations):
        start = operation.data_offset
        if operation.offset >= end:
            return
        region = namer.region(operation, payload[start : start + operation.length]) if operation.length else None
        if start + operation.length <= begin:
            continue
        label = f"op[{index}]"
        for span in XlogOpHeader.FIELDS:
            yield FieldSpan(f"{label}.{span.name}", operation.offset + span.offset, span.size)
        if region is None:
            continue
        label = f"{label} {region.name}"
        at = 0
        for span in region.fields:
            if span.offset + span.size <= operation.length:
                yield FieldSpan(f"{label}.{span.name}", start + span.offset, span.size)
                at = span.offset + span.size
        if at < operation.length:
            yield FieldSpan(label, start + at, operation.length - at)


def _around_cycles(span: FieldSpan, first: int, last: int) -> Iterator[FieldSpan]:
    """Cut the first words of blocks out of a span."""
    for block in range(first, last + 1):
        at = max(span.offset, block * BBSIZE + _CYCLE_WORD)
        end = min(span.offset + span.size, (block + 1) * BBSIZE)
        if at < end:
            yield FieldSpan(span.name, at, end - at)


class _Namer:
    """Follows the items of a transaction: an item header says how many regions follow it, and of what."""

    def __init__(self) -> None:
        self._upcoming: list[Region] = []

    def region(self, operation: LogOperation, data: bytes) -> Region:
        """Name the data of the next operation."""
        if operation.flags & _UNMOUNT:
            return Region("unmount record", XfsUnmountLogFormat.FIELDS)
        if operation.flags & _CONTINUED:
            return Region("continued region")
        if self._upcoming:
            return self._upcoming.pop(0)
        if len(data) >= XfsTransHeader.SIZE and XfsTransHeader.parse(data).th_magic == XFS_TRANS_HEADER_MAGIC:
            return Region("transaction", XfsTransHeader.FIELDS)
        return self._item(data) if len(data) >= _ITEM.size else Region("data")

    def _item(self, data: bytes) -> Region:
        kind, size = _ITEM.unpack_from(data)
        item = _ITEMS.get(kind)
        if item is None:
            return Region("data")
        if item is LogItem.INODE and len(data) >= XfsInodeLogFormat.SIZE:
            return self._inode(XfsInodeLogFormat.parse(data))
        if item is LogItem.BUF and len(data) >= XfsBufLogFormat.SIZE:
            return self._buffer(XfsBufLogFormat.parse(data), data)
        self._upcoming = [Region(f"{item.name} data")] * max(size - 1, 0)
        return Region(f"{item.name} item")

    def _inode(self, item: XfsInodeLogFormat) -> Region:
        label = f"inode {item.ilf_ino}"
        parts = [Region(label, XfsDinode.FIELDS)]
        parts += [Region(f"{label} {name}") for bits, name in _INODE_PARTS if item.ilf_fields & bits]
        self._upcoming = parts[: max(item.ilf_size - 1, 0)]
        return Region(f"{label} item", XfsInodeLogFormat.FIELDS)

    def _buffer(self, item: XfsBufLogFormat, data: bytes) -> Region:
        kind = _BUFFERS.get(item.blf_flags >> XFS_BLFT_SHIFT, BlfType.UNKNOWN)
        label = f"{kind.name} buffer at sector {item.blf_blkno}"
        self._upcoming = []
        for start, _ in _bit_runs(data[XfsBufLogFormat.SIZE :], item.blf_map_size):
            offset = start * XFS_BLF_CHUNK
            fields = _from_offset(XfsDsb.FIELDS, offset) if kind is BlfType.SB else ()
            self._upcoming.append(Region(f"{label}+{offset}", fields))
        self._upcoming = self._upcoming[: max(item.blf_size - 1, 0)]
        return Region(f"{label} item", XfsBufLogFormat.FIELDS)


def _from_offset(fields: tuple[FieldSpan, ...], offset: int) -> tuple[FieldSpan, ...]:
    """Return the fields from ``offset`` on, relative to it."""
    return tuple(FieldSpan(span.name, span.offset - offset, span.size) for span in fields if span.offset >= offset)


def _bit_runs(bitmap: bytes, words: int) -> Iterator[tuple[int, int]]:
    """Yield runs of set bits as first bit and count."""
    bits = int.from_bytes(bitmap[: 4 * words], "little")
    at = 0
    while bits >> at:
        skip = ((bits >> at) & -(bits >> at)).bit_length() - 1
        at += skip
        count = 0
        while bits >> at + count & 1:
            count += 1
        yield at, count
        at += count
