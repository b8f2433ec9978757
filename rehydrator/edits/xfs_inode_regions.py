"""The regions of an inode's log item: from the item of a manifest to the bytes that are logged, and back."""

from __future__ import annotations

import struct

from msgspec.structs import replace

from rehydrator.binary import Structure
from rehydrator.edits.fields import changed, updated
from rehydrator.edits.literal import literal_runs
from rehydrator.edits.xfs_change import StructureChange, changed_structure, told_structure, with_named_times
from rehydrator.edits.xfs_items import LoggedInode
from rehydrator.edits.xfs_shadow import CRC_SIZE, Shadow, Trial, cost, with_runs
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
from rehydrator.fs.xfs.c_xfs_log import BBSIZE, IlogField, LogItem, XfsInodeLogFormat
from rehydrator.fs.xfs.inode import CORE_SIZE, parse_inode

_CLUSTER = 8192  # bytes of an inode cluster for inodes of 256 bytes; it grows with them
_PLAIN_INODE = 256
_CHUNK_INODES = 64
_POINTER = 8  # bytes of a key, and of a pointer, of a block map
_NOWHERE = (1 << 64) - 1
_WORD = 4
_ROOTS = IlogField.DBROOT | IlogField.ABROOT
_DATA_FORK = IlogField.DDATA | IlogField.DEXT | IlogField.DBROOT
_ATTRIBUTE_FORK = IlogField.ADATA | IlogField.AEXT | IlogField.ABROOT
_TIMES = ("di_atime", "di_mtime", "di_ctime", "di_crtime")


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
    return with_runs(regions, item.runs)


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
    best = min((_completed_inode(shadow, trial, regions) for trial in found), key=cost, default=None)
    if best is None:
        return None
    flags2 = XfsDinode.parse(_disk_core(regions[1])).di_flags2
    return replace(best, set=with_named_times(best.set, flags2, shadow.setting(at).times))


def _completed_inode(shadow: Shadow, item: LoggedInode, regions: list[bytes]) -> LoggedInode:
    trial = Trial(shadow)
    made = b"".join(inode_regions(trial, item))
    return replace(item, runs=list(literal_runs(made, b"".join(regions))))


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
        bb_crc=bytes(CRC_SIZE),
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
