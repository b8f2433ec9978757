"""The regions of log items: from an item of a manifest to the bytes that are logged, and back.

What an item carries comes from the structure that it is about: as the disk has it by then, or as it was logged last
before (on top of the base), which :class:`Shadow` follows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from rehydrator.binary import FieldSpan, Structure
from rehydrator.disk.overlay import Overlay
from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.literal import LiteralRun, literal_runs, write_runs
from rehydrator.edits.replay import Replay
from rehydrator.edits.xfs_change import Setting, StructureChange, changed_structure, told_structure, with_named_times
from rehydrator.edits.xfs_inodes import inode_bytes, setting, xfs_layout
from rehydrator.edits.xfs_items import LoggedBuffer, LoggedChunk, LoggedInode, LoggedIntent
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.btree import fork_max_records
from rehydrator.fs.xfs.c_xfs import (
    XFS_BMAP_CRC_MAGIC,
    Diflag2,
    XfsBmdrBlock,
    XfsBtreeLong,
    XfsDinode,
    XfsDinodeNrext64,
)
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XFS_BLF_CHUNK,
    IlogField,
    LogItem,
    XfsBufLogFormat,
    XfsIcreateBody,
    XfsIcreateLog,
    XfsInodeLogFormat,
    XfsIntentLogFormat,
    XfsMapExtent,
    XfsPhysExtent,
)
from rehydrator.fs.xfs.forms import form_of
from rehydrator.fs.xfs.inode import CORE_SIZE, parse_inode

_CLUSTER = 8192  # bytes of an inode cluster for inodes of 256 bytes; it grows with them
_PLAIN_INODE = 256
_CHUNK_INODES = 64
_MAP_BITS = 32
_LSN = "lsn"
_MAX_BUFFER = 1 << 16
_POINTER = 8  # bytes of a key, and of a pointer, of a block map
_NOWHERE = (1 << 64) - 1
_ROOTS = IlogField.DBROOT | IlogField.ABROOT
_DATA_FORK = IlogField.DDATA | IlogField.DEXT | IlogField.DBROOT
_ATTRIBUTE_FORK = IlogField.ADATA | IlogField.AEXT | IlogField.ABROOT
_TIMES = ("di_atime", "di_mtime", "di_ctime", "di_crtime")
_CRC = XfsDinode.offset_of("di_crc")
_CRC_SIZE = _WORD = 4
_LITERAL_COST = 1000  # a byte without a name is worse than any amount of names
_EXTENTS: dict[int, type[Structure]] = {
    LogItem.EFI: XfsPhysExtent,
    LogItem.EFD: XfsPhysExtent,
    LogItem.CUI: XfsPhysExtent,
    LogItem.RUI: XfsMapExtent,
    LogItem.BUI: XfsMapExtent,
}
INTENTS = frozenset({*_EXTENTS, LogItem.RUD, LogItem.CUD, LogItem.BUD})


class Shadow:
    """The file system as the log has told it so far, on top of the base; and as the edits have left it."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self._replay = replay
        self._partition = partition
        self.layout = replay.state(xfs_layout, partition)
        self._logged = Overlay(replay.before(partition))
        self._size = replay.partition(partition).size
        self.lsns: list[int] = []  # of the records that are told, with which buffers may have been written

    def setting(self, offset: int) -> Setting:
        """Return what a change at byte ``offset`` depends on."""
        return setting(self._replay, self.layout, offset)

    def read(self, offset: int, size: int, *, now: bool) -> bytes:
        """Return bytes of the file system, as they are ``now`` or as logged last."""
        if not 0 < size <= _MAX_BUFFER or not 0 <= offset <= self._size - size:
            raise StoreDamagedError("a log item leaves its partition", path=self._partition, offset=offset)
        return bytes((self._replay.now(self._partition) if now else self._logged).read(offset, size))

    def write(self, offset: int, data: bytes) -> None:
        """Remember what was logged."""
        self._logged.write(offset, data)

    def inode(self, number: int, *, now: bool) -> bytes:
        """Return an inode as it is logged, which is without checksum."""
        inode_bytes(self._replay, self._partition, self.layout, number)  # checks the number
        raw = self.read(self.layout.inode_byte(number), self.layout.inode_size, now=now)
        return raw[:_CRC] + bytes(_CRC_SIZE) + raw[_CRC + _CRC_SIZE :]


# -- inodes


def inode_regions(shadow: Shadow, item: LoggedInode) -> list[bytes]:
    """Return the regions of an inode item, and remember the inode."""
    at = shadow.layout.inode_byte(item.inode)
    before = shadow.inode(item.inode, now=item.now)
    change = replace(item.forks or StructureChange(), set=item.set)
    raw = before if change == StructureChange() else changed_structure(before, change, shadow.setting(at), sealed=False)
    head = updated(_inode_format(shadow, item), item.item)
    regions = [head.pack(), _host_core(raw)]
    forks = [bits for bits in (_DATA_FORK, _ATTRIBUTE_FORK) if item.fields & bits]
    if len(item.sizes) != len(forks) or any(not 0 <= size <= len(raw) for size in item.sizes):
        raise StoreDamagedError("a logged inode has other forks than its sizes", actual=item.inode)
    for bits, size in zip(forks, item.sizes, strict=True):
        fork = _fork(raw, attributes=bits == _ATTRIBUTE_FORK)
        if item.fields & bits & _ROOTS:
            fork = _btree_root(shadow, item.inode, fork)
        regions.append(fork[:size].ljust(_rounded(size), b"\0"))
    shadow.write(at, raw)
    return _with_runs(regions, item.runs)


def told_inode(shadow: Shadow, regions: list[bytes]) -> LoggedInode | None:
    """Tell an inode item by its regions; None where it is none that can be told."""
    head = XfsInodeLogFormat.parse(regions[0])
    forks = [bits for bits in (_DATA_FORK, _ATTRIBUTE_FORK) if head.ilf_fields & bits]
    if len(regions) != 2 + len(forks) or len(regions[1]) != CORE_SIZE:
        return None
    said = {_DATA_FORK: head.ilf_dsize, _ATTRIBUTE_FORK: head.ilf_asize}
    sizes = [
        said[bits] if _rounded(said[bits]) == len(region) else len(region)
        for bits, region in zip(forks, regions[2:], strict=True)
    ]
    item = LoggedInode(head.ilf_ino, head.ilf_fields, sizes=sizes)
    item = replace(item, item=changed(_inode_format(shadow, item), head, ()))
    found: list[LoggedInode] = []
    at = shadow.layout.inode_byte(head.ilf_ino)
    for now in (False, True):
        before = shadow.inode(head.ilf_ino, now=now)
        wanted = bytearray(before)
        wanted[:CORE_SIZE] = _disk_core(regions[1])
        for bits, size, region in zip(forks, sizes, regions[2:], strict=True):
            inode = parse_inode(0, bytes(wanted), 0, len(wanted))
            if inode is None:
                return None
            attributes = bits == _ATTRIBUTE_FORK
            start = CORE_SIZE + (len(inode.data_fork) if attributes else 0)
            room = len(inode.attribute_fork if attributes else inode.data_fork)
            if not head.ilf_fields & bits & _ROOTS:
                wanted[start : start + min(size, room)] = region[: min(size, room)]
        change = told_structure(before, bytes(wanted), shadow.setting(at), sealed=False)
        if change is None:
            continue
        rest = replace(change, set={})
        trial = replace(item, now=now, set=change.set, forks=None if rest == StructureChange() else rest)
        found.append(trial)
    best = min((_completed_inode(shadow, trial, regions) for trial in found), key=_cost, default=None)
    if best is None:
        return None
    flags2 = XfsDinode.parse(_disk_core(regions[1])).di_flags2
    return replace(best, set=with_named_times(best.set, flags2, shadow.setting(at).times))


def _completed_inode(shadow: Shadow, item: LoggedInode, regions: list[bytes]) -> LoggedInode:
    trial = _Trial(shadow)
    made = b"".join(inode_regions(trial, item))
    return replace(item, runs=list(literal_runs(made, b"".join(regions))))


def _cost(item: LoggedInode | LoggedBuffer) -> int:
    change = item.forks if isinstance(item, LoggedInode) else item.change
    runs = [*item.runs, *(change.runs if change else [])]
    return sum(len(run.data) for run in runs) * _LITERAL_COST + len(msgspec.json.encode(item))


class _Trial(Shadow):
    """A shadow that forgets what is tried."""

    def __init__(self, shadow: Shadow) -> None:
        self.__dict__.update(shadow.__dict__)

    def write(self, offset: int, data: bytes) -> None:
        """Forget it."""


def _inode_format(shadow: Shadow, item: LoggedInode) -> XfsInodeLogFormat:
    layout = shadow.layout
    cluster = min(_CLUSTER * layout.inode_size // _PLAIN_INODE, _CHUNK_INODES * layout.inode_size)
    within = item.inode % _CHUNK_INODES * layout.inode_size % cluster
    sizes = dict(zip((bits for bits in (_DATA_FORK, _ATTRIBUTE_FORK) if item.fields & bits), item.sizes, strict=False))
    return XfsInodeLogFormat(
        ilf_type=LogItem.INODE,
        ilf_size=2 + len(item.sizes),
        ilf_fields=item.fields,
        ilf_asize=sizes.get(_ATTRIBUTE_FORK, 0),
        ilf_dsize=sizes.get(_DATA_FORK, 0),
        ilf_pad=0,
        ilf_ino=item.inode,
        ilf_u=bytes(16),
        ilf_blkno=max(layout.inode_byte(item.inode) - within, 0) // BBSIZE,
        ilf_len=cluster // BBSIZE,
        ilf_boffset=within,
    )


def _btree_root(shadow: Shadow, number: int, fork: bytes) -> bytes:
    """Return the root of a block map as it is in memory: with the header of a block (``xfs_bmdr_to_bmbt``)."""
    if len(fork) < XfsBmdrBlock.SIZE:
        return b""
    root, most = XfsBmdrBlock.parse(fork), fork_max_records(len(fork))
    header = XfsBtreeLong(
        bb_magic=XFS_BMAP_CRC_MAGIC,
        bb_level=root.bb_level,
        bb_numrecs=root.bb_numrecs,
        bb_leftsib=_NOWHERE,
        bb_rightsib=_NOWHERE,
        bb_blkno=_NOWHERE,
        bb_lsn=0,
        bb_uuid=shadow.layout.uuid,
        bb_owner=number,
        bb_crc=bytes(_CRC_SIZE),
        bb_pad=0,
    )
    keys, pointers = XfsBmdrBlock.SIZE, XfsBmdrBlock.SIZE + most * _POINTER
    size = root.bb_numrecs * _POINTER
    return header.pack() + fork[keys : keys + size] + fork[pointers : pointers + size]


def _rounded(size: int) -> int:
    """Return the length of a region: whole words."""
    return -(-size // _WORD) * _WORD


def _fork(raw: bytes, *, attributes: bool) -> bytes:
    inode = parse_inode(0, raw, 0, len(raw))
    if inode is None:
        return b""
    return inode.attribute_fork if attributes else inode.data_fork


def _core_codecs(flags2: int) -> tuple[struct.Struct, struct.Struct, type[Structure]]:
    kind = XfsDinodeNrext64 if flags2 & Diflag2.NREXT64 else XfsDinode
    codes = "".join(span.code for span in kind.FIELDS)
    return struct.Struct("<" + codes), struct.Struct(">" + codes), kind


def _host_core(raw: bytes) -> bytes:
    """Return an inode core as it is logged: in the byte order of the host (``xfs_inode_to_log_dinode``)."""
    flags2 = XfsDinode.parse(raw).di_flags2
    host, disk, kind = _core_codecs(flags2)
    return host.pack(*_turned(disk.unpack_from(raw), kind, flags2))


def _disk_core(core: bytes) -> bytes:
    """The inverse of :func:`_host_core`."""
    flags2 = int.from_bytes(core[XfsDinode.offset_of("di_flags2") :][:8], "little")
    host, disk, kind = _core_codecs(flags2)
    return disk.pack(*_turned(host.unpack(core), kind, flags2))


def _turned(values: tuple[int | bytes, ...], kind: type[Structure], flags2: int) -> list[int | bytes]:
    """Swap the halves of timestamps of two words; those of one word need nothing."""
    if flags2 & Diflag2.BIGTIME:
        return list(values)
    return [
        (value >> 32) | (value & 0xFFFFFFFF) << 32 if span.name in _TIMES and isinstance(value, int) else value
        for span, value in zip(kind.FIELDS, values, strict=True)
    ]


def _with_runs(regions: list[bytes], runs: Sequence[LiteralRun]) -> list[bytes]:
    data = bytearray(b"".join(regions))
    write_runs(data, runs)
    made: list[bytes] = []
    at = 0
    for region in regions:
        made.append(bytes(data[at : at + len(region)]))
        at += len(region)
    return made


# -- buffers


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
    regions = _with_runs(regions, item.runs)
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
    if head.blf_blkno < 0 or not 0 < head.blf_len * BBSIZE <= _MAX_BUFFER:
        return None
    item = replace(item, item=changed(_buffer_format(item), head, ()))
    trials = [trial for now in (False, True) for trial in _buffer_trials(shadow, item, regions, now=now)]
    return min(trials, key=_cost, default=None)


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
        replace(trial, runs=list(literal_runs(b"".join(buffer_regions(_Trial(shadow), trial)), b"".join(regions))))
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
    return data[form.seal.offset : form.seal.offset + _CRC_SIZE] if form else b""


def _written(data: bytes, lsn: int, place: Setting) -> bytes:
    """Return a buffer as writing it to its place left it: with the number of its last log record, and its checksum.

    One that was never written has neither.
    """
    form, span = form_of(data), _lsn_field(data)
    if form is None or span is None:
        return data
    changed = changed_structure(data, StructureChange(set={span.name: lsn}), place)
    at = form.seal.offset
    return changed if lsn else changed[:at] + bytes(_CRC_SIZE) + changed[at + _CRC_SIZE :]


def _map(item: LoggedBuffer) -> list[tuple[int, int]]:
    """Return the runs of chunks. Raises StoreDamagedError where they leave the buffer."""
    runs: list[tuple[int, int]] = []
    chunks = item.len * BBSIZE // XFS_BLF_CHUNK
    if not 0 < chunks <= _MAX_BUFFER // XFS_BLF_CHUNK:
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
    words = min(head.blf_map_size, _MAX_BUFFER // BBSIZE)
    return head.pack() + bits.to_bytes(max(words * 4, -(-bits.bit_length() // 8)), "little")


# -- intents and chunks


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
