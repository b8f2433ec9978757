"""What is wrong with an XFS file system: checksums, positions, counters and cross-linked blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rehydrator.fs.place import Health
from rehydrator.fs.xfs.btree import KINDS
from rehydrator.fs.xfs.c_xfs import XfsAgf, XfsAgi, XfsDqblk
from rehydrator.fs.xfs.c_xfs_da import (
    XFS_ATTR3_RMT_MAGIC,
    XFS_DIR3_BLOCK_MAGIC,
    XFS_DIR3_DATA_MAGIC,
    XFS_DIR3_FREE_MAGIC,
)
from rehydrator.fs.xfs.checksums import Seal, Sealed, expected, stored
from rehydrator.fs.xfs.mapping import group_count
from rehydrator.fs.xfs.segments import Role, Segment
from rehydrator.fs.xfs.units import unit_at
from rehydrator.fs.xfs.xfs import Xfs

_U32 = struct.Struct(">I")
_DIRECTORY_DATA = frozenset({XFS_DIR3_BLOCK_MAGIC, XFS_DIR3_DATA_MAGIC, XFS_DIR3_FREE_MAGIC})
_SEALS = {
    Role.SUPERBLOCK: (Seal.SUPERBLOCK, "superblock of AG"),
    Role.AGF: (Seal.AGF, "AGF"),
    Role.AGI: (Seal.AGI, "AGI"),
    Role.AGFL: (Seal.AGFL, "AGFL"),
    Role.INODES: (Seal.INODE, "inode"),
    Role.SYMLINK: (Seal.SYMLINK, "symlink target of inode"),
    Role.BMBT: (Seal.BTREE_LONG, "bmbt of inode"),
    **{role: (Seal.BTREE_SHORT, f"{kind.name} of AG") for role, kind in KINDS.items() if not kind.long},
}
_MIXED = {Role.DIRECTORY: "directory block of inode", Role.ATTRIBUTES: "attribute block of inode"}
_READ = 1 << 20


def check(xfs: Xfs) -> Iterator[Health]:
    """Yield everything that is wrong, the gravest first."""
    if xfs.geometry.size > xfs.reader.size:
        missing = xfs.geometry.size - xfs.reader.size
        yield Health("image", xfs.reader.size, f"truncated: {missing} bytes of the file system are missing")
    table = xfs.mapper.table
    yield from xfs.reader.problems
    for segment in table.of_roles({*_SEALS, *_MIXED, Role.QUOTA}):
        if segment.role is Role.QUOTA:
            yield from _check_quotas(xfs, segment)
        else:
            yield from _check_segment(xfs, segment)
    for conflict in table.conflicts:
        first, second = conflict.first, conflict.second
        yield Health(f"{first.role.name.lower()} {first.number}", conflict.start,
                     f"also claimed as {second.role.name.lower()} {second.number}")  # fmt: skip
    yield from _check_names(xfs)
    yield from xfs.log.health()
    if not xfs.log.needs_recovery:
        yield from _check_counters(xfs)


def seal_of(xfs: Xfs, unit: Segment) -> Sealed | None:
    """Return how a structure is checksummed; None for one that is not."""
    seal = _SEALS[unit.role][0] if unit.role in _SEALS else None
    offset, length = unit.start, unit.end - unit.start
    if unit.role in _MIXED:
        head = xfs.reader.read(unit.start, _U32.size)
        if not head:
            return None
        seal = _block_seal(unit.role, head)
    return None if seal is None else Sealed(seal, offset, length)


def _block_seal(role: Role, head: bytes) -> Seal:
    magic = _U32.unpack_from(head)[0]
    if role is Role.ATTRIBUTES:
        return Seal.ATTRIBUTE_REMOTE if magic == XFS_ATTR3_RMT_MAGIC else Seal.DA_BLOCK
    return Seal.DIRECTORY_DATA if magic in _DIRECTORY_DATA else Seal.DA_BLOCK


def _check_inodes(xfs: Xfs, segment: Segment) -> Iterator[Health]:
    """Check a segment of whole inodes the short way: there may be a million of them."""
    size = xfs.geometry.inode_size
    number = segment.number + segment.offset // size
    for start in range(segment.start, segment.end, _READ):
        data = xfs.reader.read(start, min(_READ, segment.end - start))
        for at in range(0, len(data), size):
            inode = data[at : at + size]
            if stored(Seal.INODE, inode) != expected(Seal.INODE, inode):
                index = (start + at - segment.start) // size
                yield from _check_unit(Segment(start + at, start + at + size, Role.INODES, number + index, 0), inode)


def _check_segment(xfs: Xfs, segment: Segment) -> Iterator[Health]:
    """Check all structures of a segment, reading them together."""
    size = xfs.geometry.inode_size
    if segment.role is Role.INODES and not segment.offset % size and not (segment.end - segment.start) % size:
        yield from _check_inodes(xfs, segment)
        return
    at = segment.start
    data, base = b"", at
    while at < segment.end:
        unit = unit_at(segment, at, xfs.geometry)
        if unit.end > base + len(data):
            base = unit.start
            data = xfs.reader.read(base, min(max(_READ, unit.end - base), segment.end - base))
            if not data:
                return
        block = data[unit.start - base : unit.end - base]
        yield from _check_unit(unit, block)
        at = unit.end


def _check_unit(unit: Segment, data: bytes) -> Iterator[Health]:
    if unit.role in _SEALS:
        seal, name = _SEALS[unit.role]
    else:
        seal, name = _block_seal(unit.role, data), _MIXED[unit.role]
    if len(data) < seal.offset + _U32.size:
        return
    found, wanted = stored(seal, data), expected(seal, data)
    if found != wanted:
        yield Health(f"{name} {unit.number}", unit.start, f"wrong checksum {found:#010x}, expected {wanted:#010x}")


def _check_quotas(xfs: Xfs, segment: Segment) -> Iterator[Health]:
    size = xfs.geometry.block_size
    for start in range(segment.start, segment.end, size):
        block = xfs.reader.read(start, size)
        for at in range(0, len(block) - XfsDqblk.SIZE + 1, XfsDqblk.SIZE):
            data = block[at : at + XfsDqblk.SIZE]
            found, wanted = stored(Seal.DQUOT, data), expected(Seal.DQUOT, data)
            if found != wanted and any(data):
                yield Health(f"quotas of inode {segment.number}", start + at,
                             f"wrong checksum {found:#010x}, expected {wanted:#010x}")  # fmt: skip


def _check_names(xfs: Xfs) -> Iterator[Health]:
    chunks = xfs.mapper.chunks
    for inode, parent, name in xfs.mapper.names.linked():
        if chunks.is_free(inode) or not chunks.exists(inode):
            text = name.decode("utf-8", "backslashreplace")
            yield Health(f"directory {parent}", xfs.geometry.inode_byte(parent),
                         f"entry {text!r} leads to inode {inode}, which is not in use")  # fmt: skip


def _check_counters(xfs: Xfs) -> Iterator[Health]:
    """Compare the counters that a clean unmount leaves exact."""
    free = inodes = free_inodes = 0
    groups = group_count(xfs.reader, xfs.geometry)
    for ag in range(groups):
        start, sector = xfs.geometry.ag_byte(ag), xfs.geometry.sector_size
        agf_data = xfs.reader.read(start + sector, XfsAgf.SIZE)
        agi_data = xfs.reader.read(start + 2 * sector, XfsAgi.SIZE)
        if not agf_data or not agi_data:
            return
        agf, agi = XfsAgf.parse(agf_data), XfsAgi.parse(agi_data)
        counted = xfs.mapper.free_blocks.get(ag, 0)
        if agf.agf_freeblks != counted:
            yield Health(f"AGF {ag}", start + sector, f"agf_freeblks is {agf.agf_freeblks}, bnobt has {counted}")
        free += agf.agf_freeblks + agf.agf_flcount + agf.agf_btreeblks
        inodes += agi.agi_count
        free_inodes += agi.agi_freecount
    superblock = xfs.superblock
    for name, actual in (("sb_icount", inodes), ("sb_ifree", free_inodes), ("sb_fdblocks", free)):
        if groups == xfs.geometry.ag_count and getattr(superblock, name) != actual:
            text = f"{name} is {getattr(superblock, name)}, the allocation groups have {actual}"
            yield Health("superblock", 0, text)
