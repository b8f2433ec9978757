"""Names for the parts of a log record's payload: operation headers, item headers, inode cores, superblock fields."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
_ITEMS = {int(item): item for item in LogItem}
_BUFFERS = {int(kind): kind for kind in BlfType}
_INODE_PARTS = (
    (IlogField.DDATA | IlogField.DEXT | IlogField.DBROOT, "data fork"),
    (IlogField.ADATA | IlogField.AEXT | IlogField.ABROOT, "attribute fork"),
)


@dataclass(frozen=True)
class Region:
    """What the data of an operation are: a name and the fields within."""

    name: str
    fields: tuple[FieldSpan, ...] = ()


def payload_fields(payload: bytes, operations: Iterable[LogOperation]) -> tuple[FieldSpan, ...]:
    """Return the named spans of an unpacked payload, in order, as they lie on the disk.

    The first word of each block is the cycle number there, so fields are cut around it.
    """
    return tuple(_around_cycles(list(_spans(payload, operations)), len(payload)))


def _spans(payload: bytes, operations: Iterable[LogOperation]) -> Iterator[FieldSpan]:
    namer = _Namer()
    for index, operation in enumerate(operations):
        label = f"op[{index}]"
        for span in XlogOpHeader.FIELDS:
            yield FieldSpan(f"{label}.{span.name}", operation.offset + span.offset, span.size)
        if not operation.length:
            continue
        start = operation.data_offset
        region = namer.region(operation, payload[start : start + operation.length])
        at = 0
        for span in region.fields:
            if span.offset + span.size <= operation.length:
                yield FieldSpan(f"{label} {region.name}.{span.name}", start + span.offset, span.size)
                at = span.offset + span.size
        if at < operation.length:
            yield FieldSpan(f"{label} {region.name}", start + at, operation.length - at)


def _around_cycles(spans: list[FieldSpan], length: int) -> Iterator[FieldSpan]:
    block = 0
    for span in spans:
        at, end = span.offset, span.offset + span.size
        while at < end:
            border = -(-at // BBSIZE)
            while block <= border and block * BBSIZE <= at and block * BBSIZE < length:
                yield FieldSpan(f"cycle[{block}]", block * BBSIZE, _CYCLE_WORD)
                block += 1
            if at % BBSIZE < _CYCLE_WORD:
                at += min(_CYCLE_WORD - at % BBSIZE, end - at)
                continue
            stop = min(end, (at // BBSIZE + 1) * BBSIZE)
            yield FieldSpan(span.name, at, stop - at)
            at = stop
    for rest in range(block, -(-length // BBSIZE)):
        yield FieldSpan(f"cycle[{rest}]", rest * BBSIZE, _CYCLE_WORD)


class _Namer:
    """Follows the items of a transaction: an item header says how many regions follow it, and of what."""

    def __init__(self) -> None:
        self._upcoming: list[Region] = []

    def region(self, operation: LogOperation, data: bytes) -> Region:
        """Name the data of the next operation."""
        if operation.flags & XlogOpFlag.UNMOUNT_TRANS:
            return Region("unmount record", XfsUnmountLogFormat.FIELDS)
        if operation.flags & XlogOpFlag.WAS_CONT_TRANS:
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
