"""One pass over all inodes: which blocks they own, which names they have.

This is the hot path: it reads inode tables in large pieces and unpacks only the fields it needs.
"""

from __future__ import annotations

import struct
from array import array

import msgspec

from rehydrator.fs.ext4.blocks import BlockMap, Limits, TreeNode
from rehydrator.fs.ext4.c_ext4 import (
    DIRECT_BLOCKS,
    EXTENT_MAGIC,
    FILE_TYPE_MASK,
    MAX_EXTENT_LENGTH,
    FileType,
    Inode,
    InodeFlag,
    ReservedInode,
)
from rehydrator.fs.ext4.directory import entries
from rehydrator.fs.ext4.ext4 import Ext4, Group
from rehydrator.fs.ext4.segments import Segment, Tag

_NEEDED = ("i_mode", "i_size_lo", "i_dtime", "i_links_count", "i_blocks_lo", "i_flags", "i_block")
_NEEDED_LATE = ("i_file_acl_lo", "i_size_high", "i_file_acl_high")
_ONE_EXTENT = struct.Struct("<HHHHIIHHI")  # struct ext4_extent_header, then the first struct ext4_extent
_SECTOR = 512
# plain numbers: the operators of enumerations cost more than all the rest of the pass
_EXTENTS = int(InodeFlag.EXTENTS)
_INLINE_DATA = int(InodeFlag.INLINE_DATA)
_DATA = int(Tag.DATA)
_UNWRITTEN = int(Tag.UNWRITTEN)
_DIRECTORY = int(Tag.DIRECTORY)
_DOTS = (b".", b"..")
_REGULAR = int(FileType.REGULAR)
_WITH_BLOCKS = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)


class InodeState:
    """Values of ``Scan.states``."""

    UNUSED = 0
    USED = 1
    DELETED = 2  # free, but its content is still there
    ORPHAN = 3  # in use without a name
    UNMARKED = 4  # in use although the inode bitmap calls it free


class Scan(msgspec.Struct):
    """What the pass found.

    ``states`` is indexed by inode number; ``sizes`` holds ``i_size`` in bytes of regular files with blocks;
    ``parents`` gives for each inode the directory and name it is found under first.
    """

    states: bytearray
    segments: list[Segment] = msgspec.field(default_factory=list)
    sizes: dict[int, int] = msgspec.field(default_factory=dict)
    parents: dict[int, tuple[int, bytes]] = msgspec.field(default_factory=dict)
    directories: list[int] = msgspec.field(default_factory=list)
    trees: array[int] = msgspec.field(default_factory=lambda: array("Q"))  # inodes with extent blocks
    xattr_blocks: dict[int, int] = msgspec.field(default_factory=dict)  # block -> first inode that uses it
    problems: list[tuple[int, str]] = msgspec.field(default_factory=list)  # (inode, what)


def scan_inodes(fs: Ext4) -> Scan:
    """Read all inodes in use and all directories."""
    return _Scanner(fs).run()


def _picker(size: int) -> struct.Struct:
    """Unpack the needed fields of an inode of ``size`` bytes and step over the others."""
    wanted = {*_NEEDED, *_NEEDED_LATE}
    code = "<"
    for span in Inode.FIELDS:
        code += span.code if span.name in wanted else f"{span.size}x"
    return struct.Struct(f"{code}{size - Inode.SIZE}x")


class _Scanner:
    def __init__(self, fs: Ext4) -> None:
        self.fs = fs
        self.limits: Limits = fs.limits()
        self.scan = Scan(bytearray(fs.geometry.inodes_count + 1))
        self._directory_segments: list[tuple[int, Segment]] = []
        self._inline_directories: list[int] = []
        self._orphan_file = fs.superblock.s_orphan_file_inum

    def run(self) -> Scan:
        pick = _picker(self.fs.geometry.inode_size)
        for group in self.fs.groups:
            count = self.fs.inodes_initialised(group)
            if count:
                self._group(group, count, pick)
        self._read_directories()
        return self.scan

    def _group(self, group: Group, count: int, pick: struct.Struct) -> None:
        fs, geometry = self.fs, self.fs.geometry
        if not fs.valid_block(group.inode_table, geometry.itable_blocks):
            return
        table = fs.read(group.inode_table * geometry.block_size, count * geometry.inode_size)
        bitmap = fs.inode_bitmap(group)
        # one character per inode, lowest first; without a bitmap the inodes speak for themselves
        bits = f"{int.from_bytes(bitmap, 'little'):b}"[::-1] if bitmap is not None else ""
        bits = bits[:count].ljust(count, "0")
        ino = group.number * geometry.inodes_per_group
        states = self.scan.states
        for bit, values in zip(bits, pick.iter_unpack(table), strict=True):
            ino += 1
            mode, _, dtime, links = values[:4]
            if bit == "1":
                states[ino] = InodeState.USED
            elif mode and links and not dtime and ino >= geometry.first_ino:
                states[ino] = InodeState.UNMARKED
            else:
                if mode or dtime:
                    states[ino] = InodeState.DELETED
                continue
            self._inode(ino, *values)

    def _inode(
        self,
        ino: int,
        mode: int,
        size_lo: int,
        dtime: int,
        links: int,
        blocks_lo: int,
        flags: int,
        i_block: bytes,
        acl_lo: int,
        size_high: int,
        acl_high: int,
    ) -> None:
        acl = acl_lo | acl_high << 32
        if acl:
            self._xattr_block(ino, acl)
        if ino < self.fs.geometry.first_ino and ino != ReservedInode.ROOT:
            self._reserved(ino, i_block, flags)
            return
        if not links and ino != self._orphan_file:
            self.scan.states[ino] = InodeState.ORPHAN
        kind = mode & FILE_TYPE_MASK
        if kind == _REGULAR and not flags & _INLINE_DATA:
            self.scan.sizes[ino] = size_lo | size_high << 32
            self._blocks(ino, Tag.ORPHAN_FILE if ino == self._orphan_file else _DATA, flags, i_block)
        else:
            self._not_regular(ino, kind, flags, i_block, blocks_lo, acl)

    def _not_regular(self, ino: int, kind: int, flags: int, i_block: bytes, blocks_lo: int, acl: int) -> None:
        if kind not in _WITH_BLOCKS:
            return
        if kind == FileType.DIRECTORY:
            self.scan.directories.append(ino)
        if flags & _INLINE_DATA:
            if kind == FileType.DIRECTORY:
                self._inline_directories.append(ino)
            return
        if kind == FileType.SYMLINK:
            if blocks_lo <= (self.fs.geometry.block_size // _SECTOR if acl else 0):
                return
            self._blocks(ino, Tag.SYMLINK, flags, i_block)
        elif kind == FileType.DIRECTORY:
            self._blocks(ino, Tag.DIRECTORY, flags, i_block)

    def _reserved(self, ino: int, i_block: bytes, flags: int) -> None:
        if ino == ReservedInode.RESIZE:
            self._resize_inode(i_block)
        elif ino == ReservedInode.BAD:
            self._blocks(ino, Tag.BAD, flags, i_block)
        elif ino in (ReservedInode.JOURNAL, self.fs.superblock.s_journal_inum):
            self._blocks(ino, Tag.JOURNAL, flags, i_block)
        elif not flags & _INLINE_DATA:
            self._blocks(ino, Tag.DATA, flags, i_block)

    def _resize_inode(self, i_block: bytes) -> None:
        """Own the double indirect block; what it points to are the reserved descriptor blocks, known by geometry."""
        pointers = struct.unpack("<15I", i_block)
        block = pointers[DIRECT_BLOCKS + 1]
        if block and self.limits.enter(block):
            self.scan.segments.append(Segment(block, 1, Tag.INDIRECT_BLOCK, ReservedInode.RESIZE, 2))
        elif block:
            self.scan.problems.append((ReservedInode.RESIZE, f"can't follow indirect block {block}"))

    def _xattr_block(self, ino: int, block: int) -> None:
        if block in self.scan.xattr_blocks:
            return
        if not self.limits.valid(block):
            self.scan.problems.append((ino, f"i_file_acl {block} is outside the file system"))
            return
        self.scan.xattr_blocks[block] = ino
        self.scan.segments.append(Segment(block, 1, Tag.XATTR, ino, 0))

    def _blocks(self, ino: int, tag: int, flags: int, i_block: bytes) -> None:
        """Add the runs of an inode; the common case of one leaf in the inode goes without a tree walk."""
        if flags & _EXTENTS:
            magic, count, _, depth, _, logical, length, high, low = _ONE_EXTENT.unpack_from(i_block)
            if magic == EXTENT_MAGIC and not depth and count <= 1:
                if count:
                    self._one_extent(ino, tag, logical, length, low | high << 32)
                return
        found = self.fs.block_map_of(i_block, flags, has_blocks=True, limits=self.limits)
        self._add_map(ino, tag, found)

    def _one_extent(self, ino: int, tag: int, logical: int, length: int, start: int) -> None:
        if length > MAX_EXTENT_LENGTH:
            length -= MAX_EXTENT_LENGTH
            tag = _UNWRITTEN if tag == _DATA else tag
        if not self.limits.valid(start, length) or not self.limits.take():
            self.scan.problems.append((ino, f"blocks {start}+{length} are outside the file system"))
            return
        self._add(ino, Segment(start, length, tag, ino, logical))

    def _add_map(self, ino: int, tag: int, found: BlockMap) -> None:
        self.scan.problems += [(ino, problem) for problem in found.problems]
        for run in found.runs:
            kind = _UNWRITTEN if run.unwritten and tag == _DATA else tag
            self._add(ino, Segment(run.physical, run.count, kind, ino, run.logical))
        if found.nodes:
            self.scan.segments += [_tree_segment(ino, node) for node in found.nodes]
            if not found.nodes[0].indirect:
                self.scan.trees.append(ino)

    def _add(self, ino: int, segment: Segment) -> None:
        self.scan.segments.append(segment)
        if segment.tag == _DIRECTORY:
            self._directory_segments.append((ino, segment))

    def _read_directories(self) -> None:
        fs, block_size = self.fs, self.fs.geometry.block_size
        for ino, segment in self._directory_segments:
            data = fs.read(segment.start * block_size, segment.length * block_size)
            for at in range(0, len(data), block_size):
                self._names(ino, data[at : at + block_size])
        for ino in self._inline_directories:
            for part in fs.directory_parts(fs.inode(ino)):
                self._names(ino, part)

    def _names(self, ino: int, part: bytes) -> None:
        parents = self.scan.parents
        for entry in entries(part):
            if entry.inode not in parents and entry.name not in _DOTS:
                parents[entry.inode] = (ino, entry.name)


def _tree_segment(ino: int, node: TreeNode) -> Segment:
    return Segment(node.block, 1, Tag.INDIRECT_BLOCK if node.indirect else Tag.EXTENT_BLOCK, ino, node.level)
