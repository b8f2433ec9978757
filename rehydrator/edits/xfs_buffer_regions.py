"""The regions of a buffer's log item: from the item of a manifest to the bytes that are logged, and back."""

from __future__ import annotations

from msgspec.structs import replace

from rehydrator.binary import FieldSpan
from rehydrator.edits.fields import changed, updated
from rehydrator.edits.literal import literal_runs
from rehydrator.edits.xfs_change import Setting, StructureChange, changed_structure, told_structure
from rehydrator.edits.xfs_items import LoggedBuffer
from rehydrator.edits.xfs_shadow import CRC_SIZE, MAX_BUFFER, Shadow, Trial, cost, with_runs
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs_log import BBSIZE, XFS_BLF_CHUNK, LogItem, XfsBufLogFormat
from rehydrator.fs.xfs.forms import form_of

_MAP_BITS = 32
_LSN = "lsn"


def buffer_regions(shadow: Shadow, item: LoggedBuffer) -> list[bytes]:
    """Return the regions of a buffer item, and remember what was logged of the buffer."""
    size, at = item.len * BBSIZE, item.block * BBSIZE
    data = shadow.read(at, size, now=item.now)
    if item.written is not None:
        data = _written(data, item.written, shadow.setting(at))
    if item.change is not None:
        data = changed_structure(data, item.change, shadow.setting(at), sealed=False)
    regions = [_map_bytes(updated(_buffer_format(item), item.item), item)]
    for first, count in _map(item):
        start, end = first * XFS_BLF_CHUNK, min((first + count) * XFS_BLF_CHUNK, size)
        regions.append(data[start:end])
    regions = with_runs(regions, item.runs)
    for (first, _), region in zip(_map(item), regions[1:], strict=True):
        shadow.write(at + first * XFS_BLF_CHUNK, region)
    return regions


def told_buffer(shadow: Shadow, regions: list[bytes]) -> LoggedBuffer | None:
    """Tell a buffer item by its regions."""
    head = XfsBufLogFormat.parse(regions[0])
    bits = int.from_bytes(regions[0][XfsBufLogFormat.SIZE :], "little")
    runs: list[list[int]] = []
    at = 0
    for region in regions[1:]:
        rest = bits >> at
        if not rest or len(region) % XFS_BLF_CHUNK:
            return None
        at += (rest & -rest).bit_length() - 1
        runs.append([at, len(region) // XFS_BLF_CHUNK])
        at += len(region) // XFS_BLF_CHUNK
    item = LoggedBuffer(head.blf_blkno, head.blf_len, head.blf_flags, runs)
    if head.blf_blkno < 0 or not 0 < head.blf_len * BBSIZE <= MAX_BUFFER:
        return None
    item = replace(item, item=changed(_buffer_format(item), head, ()))
    trials = [trial for now in (False, True) for trial in _buffer_trials(shadow, item, regions, now=now)]
    return min(trials, key=cost, default=None)


def _buffer_trials(shadow: Shadow, item: LoggedBuffer, regions: list[bytes], *, now: bool) -> list[LoggedBuffer]:
    at = item.block * BBSIZE
    held = shadow.read(at, item.len * BBSIZE, now=now)
    wanted = bytearray(held)
    for (first, count), region in zip(item.map, regions[1:], strict=True):
        wanted[first * XFS_BLF_CHUNK : (first + count) * XFS_BLF_CHUNK] = region
    if len(wanted) != len(held):
        return []
    found = [replace(item, now=now)]
    lsn = _lsn(bytes(wanted))
    same = _checksum(held) == _checksum(bytes(wanted))
    for written in (None,) if lsn is None else (None, lsn, *(() if same else shadow.lsns)):
        before = held if written is None else _written(held, written, shadow.setting(at))
        change = told_structure(before, bytes(wanted), shadow.setting(at), sealed=False)
        if change is not None:
            found.append(replace(item, now=now, written=written, change=change))
    return [
        replace(trial, runs=list(literal_runs(b"".join(buffer_regions(Trial(shadow), trial)), b"".join(regions))))
        for trial in found
    ]


def _lsn_field(data: bytes) -> FieldSpan | None:
    form = form_of(data)
    return next((span for span in form.header if span.name.endswith(_LSN)), None) if form else None


def _lsn(data: bytes) -> int | None:
    span = _lsn_field(data)
    return None if span is None else int.from_bytes(data[span.offset : span.offset + span.size], "big")


def _checksum(data: bytes) -> bytes:
    """Return the checksum that a structure has."""
    form = form_of(data)
    return data[form.seal.offset : form.seal.offset + CRC_SIZE] if form else b""


def _written(data: bytes, lsn: int, place: Setting) -> bytes:
    """Return a buffer as writing it to its place left it: with the number of its last log record, and its checksum.

    One that was never written has neither.
    """
    form, span = form_of(data), _lsn_field(data)
    if form is None or span is None:
        return data
    changed = changed_structure(data, StructureChange(set={span.name: lsn}), place)
    at = form.seal.offset
    return changed if lsn else changed[:at] + bytes(CRC_SIZE) + changed[at + CRC_SIZE :]


def _map(item: LoggedBuffer) -> list[tuple[int, int]]:
    """Return the runs of chunks. Raises StoreDamagedError where they leave the buffer."""
    runs: list[tuple[int, int]] = []
    chunks = item.len * BBSIZE // XFS_BLF_CHUNK
    if not 0 < chunks <= MAX_BUFFER // XFS_BLF_CHUNK:
        raise StoreDamagedError("a log item has an impossible buffer", actual=item.len)
    for run in item.map:
        if len(run) != 2 or not 0 <= run[0] < run[0] + run[1] <= chunks:
            raise StoreDamagedError("a log item maps chunks that its buffer does not have", actual=repr(run))
        runs.append((run[0], run[1]))
    return runs


def _buffer_format(item: LoggedBuffer) -> XfsBufLogFormat:
    return XfsBufLogFormat(
        blf_type=LogItem.BUF,
        blf_size=1 + len(item.map),
        blf_flags=item.flags,
        blf_len=item.len,
        blf_blkno=item.block,
        blf_map_size=-(-(item.len * BBSIZE // XFS_BLF_CHUNK) // _MAP_BITS),
    )


def _map_bytes(head: XfsBufLogFormat, item: LoggedBuffer) -> bytes:
    bits = 0
    for first, count in _map(item):
        bits |= (1 << count) - 1 << first
    words = min(head.blf_map_size, MAX_BUFFER // BBSIZE)
    return head.pack() + bits.to_bytes(max(words * 4, -(-bits.bit_length() // 8)), "little")
