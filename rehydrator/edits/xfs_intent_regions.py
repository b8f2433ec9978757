"""The regions of log items that name extents and make inodes: from an item of a manifest to its bytes, and back."""

from __future__ import annotations

import struct

from rehydrator.binary import Structure
from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.xfs_items import LoggedChunk, LoggedIntent
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs_log import (
    LogItem,
    XfsIcreateBody,
    XfsIcreateLog,
    XfsIntentLogFormat,
    XfsMapExtent,
    XfsPhysExtent,
)

_EXTENTS: dict[int, type[Structure]] = {
    LogItem.EFI: XfsPhysExtent,
    LogItem.EFD: XfsPhysExtent,
    LogItem.CUI: XfsPhysExtent,
    LogItem.RUI: XfsMapExtent,
    LogItem.BUI: XfsMapExtent,
}
INTENTS = frozenset({*_EXTENTS, LogItem.RUD, LogItem.CUD, LogItem.BUD})


def intent_regions(item: LoggedIntent) -> list[bytes]:
    """Return the only region of an intent."""
    kind = _EXTENTS.get(item.type)
    try:
        head = XfsIntentLogFormat(type=item.type, size=1, nextents=len(item.extents), id=item.id).pack()
        rows = [kind(**dict(zip(_names(kind), row, strict=True))).pack() for row in item.extents] if kind else []
    except (struct.error, ValueError) as error:
        raise StoreDamagedError("impossible values for an intent", actual=item.type) from error
    return [head + b"".join(rows)]


def _names(kind: type[Structure]) -> list[str]:
    return [span.name for span in kind.FIELDS]


def told_intent(region: bytes) -> LoggedIntent | None:
    """Tell an intent by its region; None where that has another shape."""
    if len(region) < XfsIntentLogFormat.SIZE:
        return None
    head = XfsIntentLogFormat.parse(region)
    kind = _EXTENTS.get(head.type)
    rows: list[list[int]] = []
    if kind is not None:
        for at in range(XfsIntentLogFormat.SIZE, len(region) - kind.SIZE + 1, kind.SIZE):
            row = kind.parse(region, at)
            rows.append([getattr(row, name) for name in _names(kind)])
    item = LoggedIntent(head.type, head.id, rows)
    return item if intent_regions(item) == [region] else None


def chunk_regions(item: LoggedChunk) -> list[bytes]:
    """Return the only region of an item that makes inodes."""
    empty = XfsIcreateBody.parse(bytes(XfsIcreateBody.SIZE))
    return [XfsIcreateLog(icl_type=LogItem.ICREATE, icl_size=1).pack() + updated(empty, item.set).pack()]


def told_chunk(region: bytes) -> LoggedChunk | None:
    """Tell an item that makes inodes."""
    if len(region) != XfsIcreateLog.SIZE + XfsIcreateBody.SIZE:
        return None
    empty = XfsIcreateBody.parse(bytes(XfsIcreateBody.SIZE))
    fields: Fields = changed(empty, XfsIcreateBody.parse(region, XfsIcreateLog.SIZE), ())
    item = LoggedChunk(fields)
    return item if chunk_regions(item) == [region] else None
