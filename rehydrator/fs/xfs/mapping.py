"""Mapping an XFS file system: one pass over the allocation groups, the inodes and the directories.

The result is who owns which bytes and which path leads to which inode. Nothing here raises for a damaged file
system: what makes no sense is reported to the :class:`~rehydrator.fs.xfs.reader.Reader` and left unowned.
"""

from __future__ import annotations

import stat
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from rehydrator.fs.xfs import btree
from rehydrator.fs.xfs.btree import BtreeKind, BtreeWalker
from rehydrator.fs.xfs.c_xfs import (
    BMBT_BLOCKCOUNT_MASK,
    BMBT_STARTOFF_MASK,
    XFS_AGF_MAGIC,
    XFS_AGFL_MAGIC,
    XFS_AGI_MAGIC,
    XFS_INODES_PER_CHUNK,
    XFS_INODES_PER_HOLEMASK_BIT,
    XFS_REFC_COWFLAG,
    DinodeFormat,
    Incompat,
    RoCompat,
    XfsAgf,
    XfsAgfl,
    XfsAgi,
    XfsDsb,
)
from rehydrator.fs.xfs.c_xfs_da import XFS_DIR2_LEAF_OFFSET
from rehydrator.fs.xfs.directory import DATA_MAGICS, block_entries, short_form
from rehydrator.fs.xfs.geometry import Geometry
from rehydrator.fs.xfs.inode import CORE_SIZE, RECORD, Inode, Mapping, fork_mappings, parse_inode, plain_file
from rehydrator.fs.xfs.namespace import Namespace
from rehydrator.fs.xfs.reader import Reader
from rehydrator.fs.xfs.segments import Claim, Role, SegmentTable

_U32 = struct.Struct(">I")
_INOBT_RECORD = struct.Struct(">IHBBQ")
_INOBT_RECORD_FULL = struct.Struct(">IIQ")
_PAIR = struct.Struct(">II")
_REFCOUNT = struct.Struct(">III")
_DATA, _EOF_SLACK, _UNWRITTEN = int(Role.DATA), int(Role.EOF_SLACK), int(Role.UNWRITTEN)
_OFFSET_BITS = 63  # file offsets are signed 64-bit numbers
_MAX_BAD_BLOCKS = 16
_READ = 1 << 20


class Chunks:
    """All inode chunks in order: which inode numbers exist and which of them are free."""

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._holes = array("H")
        self._free = array("Q")

    def __len__(self) -> int:
        return len(self._firsts)

    def fill(self, records: Iterable[tuple[int, int, int]]) -> None:
        """Set the records (first inode, hole mask, free mask)."""
        for first, holes, free in sorted(records):
            self._firsts.append(first)
            self._holes.append(holes)
            self._free.append(free)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._firsts, self._holes, self._free, strict=True)

    def is_free(self, number: int) -> bool:
        """Tell whether inode ``number`` is free (or does not exist)."""
        index = bisect_right(self._firsts, number) - 1
        within = number - self._firsts[index] if index >= 0 else XFS_INODES_PER_CHUNK
        return within >= XFS_INODES_PER_CHUNK or bool(self._free[index] >> within & 1)

    def exists(self, number: int) -> bool:
        """Tell whether inode ``number`` lies in a chunk and not in a hole of it."""
        index = bisect_right(self._firsts, number) - 1
        within = number - self._firsts[index] if index >= 0 else XFS_INODES_PER_CHUNK
        if within >= XFS_INODES_PER_CHUNK:
            return False
        return not self._holes[index] >> within // XFS_INODES_PER_HOLEMASK_BIT & 1


def chunk_runs(holes: int) -> Iterator[tuple[int, int]]:
    """Yield the existing parts of a chunk as first index and count of inodes."""
    start = -1
    for bit in range(XFS_INODES_PER_CHUNK // XFS_INODES_PER_HOLEMASK_BIT + 1):
        hole = holes >> bit & 1 or bit == XFS_INODES_PER_CHUNK // XFS_INODES_PER_HOLEMASK_BIT
        at = bit * XFS_INODES_PER_HOLEMASK_BIT
        if hole and start >= 0:
            yield start, at - start
            start = -1
        elif not hole and start < 0:
            start = at


class Mapper:
    """Builds ``table``, ``names`` and ``chunks`` when constructed."""

    def __init__(self, reader: Reader, geometry: Geometry, superblock: XfsDsb) -> None:
        self._reader = reader
        self._geometry = geometry
        self._walker = BtreeWalker(reader, geometry)
        self._ftype = bool(geometry.incompat & Incompat.FTYPE)
        self._quotas = {superblock.sb_uquotino, superblock.sb_gquotino, superblock.sb_pquotino}
        self._claims: list[Claim] = []
        self.chunks = Chunks()
        self.names = Namespace(geometry.root_inode)
        self.free_blocks: dict[int, int] = {}
        self._map_log()
        records: list[tuple[int, int, int]] = []
        for ag in range(group_count(reader, geometry)):
            records += self._map_group(ag)
        self.chunks.fill(records)
        for first, holes, free in self.chunks:
            self._map_chunk(first, holes, free)
        if reader.size > geometry.size:
            self._claim(geometry.size, reader.size, Role.BEYOND, 0)
        self.table = SegmentTable(self._claims, reader.size)
        self._claims = []

    def _claim(self, start: int, end: int, role: Role, number: int, offset: int = 0) -> None:
        end = min(end, self._reader.size)
        if start < end:
            self._claims.append((start, end, role, number, offset))

    def _map_log(self) -> None:
        start, length = self._geometry.log
        self._claim(start, start + length, Role.LOG, 0)

    # -- allocation groups

    def _map_group(self, ag: int) -> list[tuple[int, int, int]]:
        geometry, sector = self._geometry, self._geometry.sector_size
        start = geometry.ag_byte(ag)
        headers = (Role.SUPERBLOCK, Role.AGF, Role.AGI, Role.AGFL)
        for index, role in enumerate(headers):
            self._claim(start + index * sector, start + (index + 1) * sector, role, ag)
        end = start + len(headers) * sector
        self._claim(end, start + -(-len(headers) * sector // geometry.block_size) * geometry.block_size,
                    Role.HEADER_SLACK, ag)  # fmt: skip
        self._map_free_space(ag, start + sector)
        return self._map_inode_trees(ag, start + 2 * sector)

    def _map_free_space(self, ag: int, offset: int) -> None:
        data = self._reader.read(offset, XfsAgf.SIZE)
        if not data:
            return
        agf = XfsAgf.parse(data)
        if agf.agf_magicnum != XFS_AGF_MAGIC:
            self._reader.report(f"AGF {ag}", offset, "wrong magic number")
            return
        length = self._geometry.ag_length(ag)
        total = 0
        for block in self._tree(btree.BNOBT, ag, agf.agf_bno_root, agf.agf_bno_level):
            for start, count in _PAIR.iter_unpack(block):
                total += count
                if start + count <= length:
                    self._claim(self._geometry.ag_byte(ag, start), self._geometry.ag_byte(ag, start + count),
                                Role.FREE, ag)  # fmt: skip
        self.free_blocks[ag] = total
        for _ in self._tree(btree.CNTBT, ag, agf.agf_cnt_root, agf.agf_cnt_level):
            pass
        if self._geometry.ro_compat & RoCompat.RMAPBT:
            for _ in self._tree(btree.RMAPBT, ag, agf.agf_rmap_root, agf.agf_rmap_level):
                pass
        if self._geometry.ro_compat & RoCompat.REFLINK:
            self._map_staging(ag, agf)
        self._map_free_list(ag, agf)

    def _map_staging(self, ag: int, agf: XfsAgf) -> None:
        """Blocks that a copy on write had reserved when the file system was last in use."""
        length = self._geometry.ag_length(ag)
        for block in self._tree(btree.REFCOUNTBT, ag, agf.agf_refcount_root, agf.agf_refcount_level):
            for start, count, _ in _REFCOUNT.iter_unpack(block):
                first = start & ~XFS_REFC_COWFLAG
                if start & XFS_REFC_COWFLAG and first + count <= length:
                    self._claim(self._geometry.ag_byte(ag, first), self._geometry.ag_byte(ag, first + count),
                                Role.COW, ag)  # fmt: skip

    def _map_free_list(self, ag: int, agf: XfsAgf) -> None:
        geometry = self._geometry
        offset = geometry.ag_byte(ag) + 3 * geometry.sector_size
        data = self._reader.read(offset, geometry.sector_size)
        if not data:
            return
        if XfsAgfl.parse(data).agfl_magicnum != XFS_AGFL_MAGIC:
            self._reader.report(f"AGFL {ag}", offset, "wrong magic number")
            return
        slots = (geometry.sector_size - XfsAgfl.SIZE) // _U32.size
        for index in range(min(agf.agf_flcount, slots)):
            slot = (agf.agf_flfirst + index) % slots
            block = _U32.unpack_from(data, XfsAgfl.SIZE + slot * _U32.size)[0]
            if block < geometry.ag_length(ag):
                self._claim(geometry.ag_byte(ag, block), geometry.ag_byte(ag, block + 1), Role.FREE_LIST, ag)
            else:
                self._reader.report(f"AGFL {ag}", offset, f"entry for block {block}, which does not exist")

    def _tree(self, kind: BtreeKind, ag: int, root: int, levels: int) -> Iterator[bytes]:
        """Claim all blocks of a btree and yield the records of its leaves, as bytes."""
        for block in self._walker.group(kind, ag, root, levels):
            self._claim(block.offset, block.offset + self._geometry.block_size, kind.role, ag, 0)
            if block.level == 0:
                end = kind.header_size + block.records * kind.record_size
                yield block.data[kind.header_size : end]

    # -- inodes

    def _map_inode_trees(self, ag: int, offset: int) -> list[tuple[int, int, int]]:
        data = self._reader.read(offset, XfsAgi.SIZE)
        if not data:
            return []
        agi = XfsAgi.parse(data)
        if agi.agi_magicnum != XFS_AGI_MAGIC:
            self._reader.report(f"AGI {ag}", offset, "wrong magic number")
            return []
        records: list[tuple[int, int, int]] = []
        sparse = bool(self._geometry.incompat & Incompat.SPINODES)
        last = -XFS_INODES_PER_CHUNK
        for leaf in self._tree(btree.INOBT, ag, agi.agi_root, agi.agi_level):
            for at in range(0, len(leaf), _INOBT_RECORD.size):
                if sparse:
                    first, holes, _, _, free = _INOBT_RECORD.unpack_from(leaf, at)
                else:
                    first, _, free = _INOBT_RECORD_FULL.unpack_from(leaf, at)
                    holes = 0
                if first < last + XFS_INODES_PER_CHUNK or first >> self._geometry.ag_inode_log:
                    self._reader.report(f"inobt of AG {ag}", offset, f"impossible record for AG inode {first}")
                    continue
                last = first
                records.append((self._geometry.inode_number(ag, first), holes, free))
        if self._geometry.ro_compat & RoCompat.FINOBT:
            for _ in self._tree(btree.FINOBT, ag, agi.agi_free_root, agi.agi_free_level):
                pass
        return records

    def _map_chunk(self, first: int, holes: int, free: int) -> None:
        size = self._geometry.inode_size
        for index, count in chunk_runs(holes):
            start = self._geometry.inode_byte(first + index)
            data = self._reader.read(start, count * size)
            if not data:
                self._reader.report(f"inode {first + index}", 0, "inode chunk outside of the file system")
                continue
            self._claim(start, start + len(data), Role.INODES, first + index)
            for slot in range(count):
                if free >> (index + slot) & 1:
                    continue
                plain = plain_file(data, slot * size)
                if plain is not None and self._map_plain(first + index + slot, data, slot * size, *plain):
                    continue
                inode = parse_inode(first + index + slot, data, slot * size, size)
                if inode is None:
                    name = f"inode {first + index + slot}"
                    self._reader.report(name, start + slot * size, "wrong magic number or version")
                else:
                    self._map_inode(inode)

    def _map_inode(self, inode: Inode) -> None:
        if inode.attribute_fork and inode.attribute_format in {DinodeFormat.EXTENTS, DinodeFormat.BTREE}:
            self._claim_extents(inode, Role.ATTRIBUTES, self._mappings(inode, attributes=True))
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFREG:
            self._map_file(inode)
        elif kind == stat.S_IFDIR:
            self._map_directory(inode)
        elif kind == stat.S_IFLNK:
            self._claim_extents(inode, Role.SYMLINK, self._mappings(inode))

    def _map_plain(self, number: int, data: bytes, offset: int, length: int, extents: int) -> bool:
        """Claim the extents of a file the short way; False, with nothing claimed, when one looks unusual."""
        shift, size, valid = self._geometry.block_log, self._reader.size, self._geometry.fsblock_valid
        claims: list[Claim] = []
        if number in self._quotas or extents * RECORD.size > self._geometry.inode_size - CORE_SIZE:
            return False
        at = offset + CORE_SIZE
        for _ in range(extents):
            l0, l1 = RECORD.unpack_from(data, at)
            at += RECORD.size
            block, count = (l0 & 0x1FF) << 43 | l1 >> 21, l1 & BMBT_BLOCKCOUNT_MASK
            begin = (l0 >> 9 & BMBT_STARTOFF_MASK) << shift
            if begin >> _OFFSET_BITS or not valid(block, count):
                return False
            start = self._geometry.fsblock_byte(block)
            end = start + (count << shift)
            border = start + max(length - begin, 0)
            if end > size or border < start:
                return False
            if l0 >> 63:
                claims.append((start, end, _UNWRITTEN, number, begin))
                continue
            if border >= end:
                claims.append((start, end, _DATA, number, begin))
                continue
            if border > start:
                claims.append((start, border, _DATA, number, begin))
            claims.append((border, end, _EOF_SLACK, number, begin + border - start))
        self._claims += claims
        return True

    def _mappings(self, inode: Inode, attributes: bool = False) -> Iterator[Mapping]:
        """Yield the valid extents of a fork, claiming the blocks of its btree on the way."""
        geometry = self._geometry
        form, fork, count = inode.format, inode.data_fork, inode.extents
        if attributes:
            form, fork, count = inode.attribute_format, inode.attribute_fork, inode.attribute_extents
        if form not in {DinodeFormat.EXTENTS, DinodeFormat.BTREE}:
            return
        blocks = self._fork_blocks(inode.number, fork) if form == DinodeFormat.BTREE else ()
        for mapping in fork_mappings(form, fork, count, blocks):
            fits = not mapping.start_offset << geometry.block_log >> _OFFSET_BITS
            if fits and geometry.fsblock_valid(mapping.start_block, mapping.blocks):
                yield mapping
            else:
                self._reader.report(f"inode {inode.number}", geometry.inode_byte(inode.number),
                                    f"impossible extent {mapping}")  # fmt: skip

    def _fork_blocks(self, number: int, fork: bytes) -> Iterator[btree.BtreeBlock]:
        for block in self._walker.fork(f"inode {number}", fork):
            self._claim(block.offset, block.offset + self._geometry.block_size, Role.BMBT, number, block.level)
            yield block

    def _claim_extents(self, inode: Inode, role: Role, mappings: Iterable[Mapping]) -> None:
        geometry = self._geometry
        for mapping in mappings:
            start = geometry.fsblock_byte(mapping.start_block)
            end = start + (mapping.blocks << geometry.block_log)
            self._claim(start, end, role, inode.number, mapping.start_offset << geometry.block_log)

    def _map_file(self, inode: Inode) -> None:
        if inode.number in self._quotas:
            self._claim_extents(inode, Role.QUOTA, self._mappings(inode))
            return
        shift, number = self._geometry.block_log, inode.number
        for mapping in self._mappings(inode):
            start = self._geometry.fsblock_byte(mapping.start_block)
            end = start + (mapping.blocks << shift)
            offset = mapping.start_offset << shift
            if mapping.unwritten:
                self._claim(start, end, Role.UNWRITTEN, number, offset)
                continue
            held = max(min(inode.size - offset, end - start), 0)
            self._claim(start, start + held, Role.DATA, number, offset)
            self._claim(start + held, end, Role.EOF_SLACK, number, offset + held)

    # -- directories

    def _map_directory(self, inode: Inode) -> None:
        number, add = inode.number, self.names.add
        if inode.format == DinodeFormat.LOCAL:
            for entry in short_form(inode.data_fork, self._ftype)[1]:
                add(entry.inode, number, entry.name)
            return
        mappings = list(self._mappings(inode))
        self._claim_extents(inode, Role.DIRECTORY, mappings)
        bad = 0
        for offset, block in directory_blocks(self._reader, self._geometry, mappings):
            if _U32.unpack_from(block)[0] not in DATA_MAGICS:
                self._reader.report(f"directory {number}", offset, "no directory block where one should be")
                bad += 1
                if bad > _MAX_BAD_BLOCKS:
                    return
                continue
            for entry in block_entries(block, self._ftype):
                if entry.name not in {b".", b".."}:
                    add(entry.inode, number, entry.name)


def group_count(reader: Reader, geometry: Geometry) -> int:
    """Return how many allocation groups the image holds, at least in part."""
    return min(geometry.ag_count, -(-reader.size // geometry.ag_size))


def directory_blocks(reader: Reader, geometry: Geometry, mappings: Iterable[Mapping]) -> Iterator[tuple[int, bytes]]:
    """Yield the data blocks of a directory with the byte offset where each begins.

    A directory block may consist of several file system blocks, which need not lie side by side.
    """
    leaves = XFS_DIR2_LEAF_OFFSET >> geometry.block_log
    pending, begin = b"", 0
    for mapping in mappings:
        if mapping.start_offset >= leaves:
            return
        start = geometry.fsblock_byte(mapping.start_block)
        end = start + (mapping.blocks << geometry.block_log)
        for at in range(start, end, _READ):
            data = reader.read(at, min(_READ, end - at))
            if not pending:
                begin = at
            carried = len(pending)
            data = pending + data if pending else data
            whole = len(data) // geometry.directory_block_size * geometry.directory_block_size
            for block in range(0, whole, geometry.directory_block_size):
                yield begin if not block else at + block - carried, data[block : block + geometry.directory_block_size]
            if whole < len(data) and (whole or not carried):
                begin = at + whole - carried
            pending = data[whole:]
