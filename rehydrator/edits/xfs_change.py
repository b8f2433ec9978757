"""How one XFS structure becomes another one, field by field: a pure function of bytes, and its inverse.

What the kernel leaves behind in a structure (rows beyond the count, entries in unused room) comes from the structure
as it was, or is told by the same fields. Checksums are never told.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.edits import xfs_entries
from rehydrator.edits.fields import Fields, Value, decode_bytes, encode
from rehydrator.edits.literal import LiteralRun, literal_runs, write_runs
from rehydrator.edits.times import Time, TimeTable
from rehydrator.edits.xfs_entries import XfsAttribute, XfsEntry, XfsUnused
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.fs.xfs.c_xfs import BMBT_BLOCKCOUNT_MASK, BMBT_STARTOFF_MASK, Diflag2, XfsDinode
from rehydrator.fs.xfs.checksums import reseal
from rehydrator.fs.xfs.forms import Array, Form, form_named, form_of

TIMES = ("di_atime", "di_mtime", "di_ctime", "di_crtime")
_CRC_SIZE = 4
_BASIC_BLOCK = 512
_LAYOUT_FIELD = "di_flags2"  # says which other fields an inode has
_JOIN_ROWS = 1  # equal rows between two changed ones that are cheaper to repeat than to skip
_NSEC = 1_000_000_000
_BIGTIME_EPOCH = 1 << 31  # seconds before 1970 (XFS_BIGTIME_EPOCH_OFFSET)
_WORD = 1 << 32
_SIGN = 1 << 31


class RowRun(msgspec.Struct, array_like=True, frozen=True):
    """Rows of an array of the structure, from row ``first`` on; extents are offset, block, count, unwritten."""

    array: str
    first: int
    rows: list[list[int]]


class StructureChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes in a structure. ``new`` is its kind where it was none before; then it begins with zeros."""

    new: str = ""
    set: Fields = {}
    rows: list[RowRun] = []
    parent: int | None = None
    entries: list[XfsEntry] = []
    unused: list[XfsUnused] = []
    attributes: list[XfsAttribute] | None = None
    text: str | None = None
    runs: list[LiteralRun] = []


class Setting(msgspec.Struct, frozen=True):
    """What a structure's bytes depend on besides the change: the file system's UUID, its own offset, the moments."""

    uuid: bytes
    offset: int
    times: TimeTable


def changed_structure(before: bytes, change: StructureChange, setting: Setting, *, sealed: bool = True) -> bytes:
    """Make a change. Raises StoreDamagedError for what does not fit."""
    form = form_named(change.new) if change.new else form_of(before)
    if form is None:
        raise StoreDamagedError("an edit changes no structure of XFS", offset=setting.offset, actual=change.new)
    data = bytearray(_blank(form, len(before), setting) if change.new else before)
    try:
        first = {name: value for name, value in change.set.items() if name == _LAYOUT_FIELD}
        _put_fields(data, form, first, setting.times)
        form = form_of(bytes(data)) or form
        _put_fields(data, form, change.set, setting.times)
        _put_rows(data, form.arrays(bytes(data)), change.rows)
        xfs_entries.put(data, form, change.parent, change.entries, change.unused)
        xfs_entries.put_attributes(data, form, change.attributes)
        xfs_entries.put_text(data, form, change.text)
    except (struct.error, ValueError, OverflowError, IndexError, CorruptError) as error:
        raise StoreDamagedError("impossible values for a structure of XFS", offset=setting.offset) from error
    write_runs(data, change.runs)
    return reseal(form.seal, data) if sealed else bytes(data)


def told_structure(before: bytes, after: bytes, setting: Setting, *, sealed: bool = True) -> StructureChange | None:
    """Tell the shortest change that gives ``after``, with times as numbers; None for no structure of a known kind."""
    form = form_of(after)
    if form is None or len(before) != len(after):
        return None
    known = form_of(before)
    starts = [form.name] if known is None or known.name != form.name else ["", form.name]
    found = [_told_from(new, form, before, after, setting, sealed=sealed) for new in starts]
    return min(found, key=_cost)


def _cost(change: StructureChange) -> tuple[int, int]:
    return sum(len(run.data) for run in change.runs) * 4 + len(msgspec.json.encode(change)), len(change.new)


def _told_from(new: str, form: Form, before: bytes, after: bytes, setting: Setting, *, sealed: bool) -> StructureChange:
    data = bytearray(_blank(form, len(before), setting) if new else before)
    fields = _changed_fields(data, after, form)
    _put_fields(data, form, fields, setting.times)
    rows = list(_changed_rows(data, after, form.arrays(after)))
    _put_rows(data, form.arrays(bytes(data)), rows)
    parent, entries, unused = xfs_entries.told(data, after, form)
    attributes = xfs_entries.told_attributes(data, after, form)
    text = xfs_entries.told_text(data, after, form)
    change = StructureChange(new, fields, rows, parent, entries, unused, attributes, text)
    try:
        made = changed_structure(before, change, setting, sealed=sealed)
    except StoreDamagedError:  # damaged entries: bytes are bytes
        change = StructureChange(new, fields, rows)
        made = changed_structure(before, change, setting, sealed=sealed)
    return msgspec.structs.replace(change, runs=list(literal_runs(made, after)))


def _blank(form: Form, size: int, setting: Setting) -> bytes:
    """Return a new structure: zeros, and what every one of its kind has."""
    data = bytearray(size)
    name, magic = form.magic
    values: dict[str, int | bytes] = {
        name: magic,
        form.uuid: setting.uuid,
        form.place: setting.offset // _BASIC_BLOCK,
    }
    for span in form.header:
        if span.name in values:
            _codec(span).pack_into(data, _at(span, size), values[span.name])
    return bytes(data)


# -- header


def _codec(span: FieldSpan) -> struct.Struct:
    return struct.Struct(f">{span.code}")


def _at(span: FieldSpan, size: int) -> int:
    return span.offset if span.offset >= 0 else size + span.offset


def _is_checksum(span: FieldSpan, form: Form) -> bool:
    return span.offset == form.seal.offset and span.size == _CRC_SIZE


def _put_fields(data: bytearray, form: Form, fields: Fields, times: TimeTable) -> None:
    spans = {span.name: span for span in form.header if not _is_checksum(span, form)}
    for name, value in fields.items():
        if name not in spans:
            raise StoreDamagedError(f"{form.name} has no field {name}")
        span = spans[name]
        _codec(span).pack_into(data, _at(span, len(data)), _field(span, value, data, fields, times))


def _field(span: FieldSpan, value: Value, data: bytearray, fields: Fields, times: TimeTable) -> int | bytes:
    if span.code.endswith("s"):
        return decode_bytes(span.name, value, span.size)
    if span.name in TIMES and isinstance(value, str):
        flags = fields.get("di_flags2")
        if not isinstance(flags, int):
            flags = XfsDinode.parse(data).di_flags2
        return encode_time(times.at(value), flags)
    if isinstance(value, int):
        return value
    raise StoreDamagedError(f"impossible value for {span.name}", actual=repr(value))


def _changed_fields(before: bytearray, after: bytes, form: Form) -> Fields:
    fields: Fields = {}
    for span in form.header:
        at = _at(span, len(after))
        if _is_checksum(span, form) or before[at : at + span.size] == after[at : at + span.size]:
            continue
        value: int | bytes = _codec(span).unpack_from(after, at)[0]
        fields[span.name] = encode(value)
    return fields


def with_named_times(fields: Fields, flags2: int, times: TimeTable) -> Fields:
    """Return the fields of an inode with the names of its moments, where the numbers are proper times.

    Done last: what was only tried must not leave moments behind.
    """
    named = dict(fields)
    for name in TIMES:
        value = fields.get(name)
        if isinstance(value, int):
            time = decode_time(value, flags2)
            if encode_time(time, flags2) == value:
                named[name] = times.intern(time)
    return named


def decode_time(value: int, flags2: int) -> Time:
    """Read a timestamp: nanoseconds since the bigtime epoch, or two 32-bit halves."""
    if flags2 & Diflag2.BIGTIME:
        sec, nsec = divmod(value, _NSEC)
        return Time(sec - _BIGTIME_EPOCH, nsec)
    sec, nsec = value >> 32, value % _WORD
    return Time(sec - _WORD if sec >= _SIGN else sec, nsec)


def encode_time(time: Time, flags2: int) -> int:
    """Write a timestamp; the inverse of :func:`decode_time`."""
    if flags2 & Diflag2.BIGTIME:
        return (time.sec + _BIGTIME_EPOCH) * _NSEC + time.nsec
    return (time.sec % _WORD) << 32 | time.nsec


# -- rows


def _put_rows(data: bytearray, arrays: Iterable[Array], runs: Iterable[RowRun]) -> None:
    known = {array.name: array for array in arrays}
    for run in runs:
        array = known.get(run.array)
        if array is None or not 0 <= run.first <= run.first + len(run.rows) <= array.length:
            raise StoreDamagedError("an edit names rows that a structure does not have", actual=run.array)
        for index, row in enumerate(run.rows, run.first):
            values = _packed_extent(row) if array.mapping else row
            array.codec.pack_into(data, array.offset + index * array.codec.size, *values)


def _changed_rows(before: bytearray, after: bytes, arrays: Iterable[Array]) -> Iterator[RowRun]:
    for array in arrays:
        size = array.codec.size
        run: RowRun | None = None
        for index in range(array.length):
            at = array.offset + index * size
            if before[at : at + size] == after[at : at + size]:
                continue
            if run is not None and index - (run.first + len(run.rows)) > _JOIN_ROWS:
                yield run
                run = None
            run = run or RowRun(array.name, index, [])
            for missing in range(run.first + len(run.rows), index + 1):
                row = list(array.codec.unpack_from(after, array.offset + missing * size))
                run.rows.append(_unpacked_extent(row) if array.mapping else row)
        if run is not None:
            yield run


def _unpacked_extent(row: list[int]) -> list[int]:
    """Return file offset, start block and length (in blocks) and whether it is unwritten (``xfs_bmbt_rec``)."""
    l0, l1 = row
    return [l0 >> 9 & BMBT_STARTOFF_MASK, (l0 & 0x1FF) << 43 | l1 >> 21, l1 & BMBT_BLOCKCOUNT_MASK, l0 >> 63]


def _packed_extent(row: list[int]) -> tuple[int, int]:
    offset, block, count, unwritten = row
    fits = 0 <= offset <= BMBT_STARTOFF_MASK and 0 <= block < 1 << 52 and 0 <= count <= BMBT_BLOCKCOUNT_MASK
    if not fits or unwritten not in (0, 1):
        raise ValueError
    return unwritten << 63 | offset << 9 | block >> 43, (block & (1 << 43) - 1) << 21 | count
