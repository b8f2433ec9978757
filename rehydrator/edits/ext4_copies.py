"""Copies of blocks in the journal that are not simply the final block: earlier states, made from what is known.

A copy is told by what the block holds: superblock fields, bits, descriptors, inodes, directory entries, extents,
attributes, orphans or the target of a symlink. Its checksums follow, also those that a group descriptor has of bitmaps:
they are of the bitmaps as of the same transaction.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from functools import cached_property

import msgspec

from rehydrator.edits.ext4_directory_block import DirectoryChange, changed_block
from rehydrator.edits.ext4_extents import ExtentNode, made_node
from rehydrator.edits.ext4_group import BLOCKS, INODES, GroupChange, Span, sealed_descriptor
from rehydrator.edits.ext4_inodes import DERIVED as INODE_CHECKSUMS
from rehydrator.edits.ext4_inodes import ExtentRow, changed_inode
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.ext4_superblock import with_fields
from rehydrator.edits.ext4_xattrs import XattrBlock, made_block
from rehydrator.edits.fields import Fields
from rehydrator.edits.literal import LiteralRun, write_runs
from rehydrator.edits.times import TimeTable
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.fs.ext4 import checksums, dirblock
from rehydrator.fs.ext4.c_ext4 import ORPHAN_MAGIC, ORPHAN_SIZE, SUPER_OFFSET, OrphanTail, SuperBlock
from rehydrator.fs.ext4.inode import InodeInfo
from rehydrator.fs.ext4.layout import fixed_segments
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag

_FIRST = frozenset({Tag.BLOCK_BITMAP, Tag.INODE_BITMAP, Tag.INODE_TABLE})


class Origin(enum.StrEnum):
    """What a copy is told from."""

    FINAL = "final"  # the block as it is after all other edits
    BEFORE = "before"  # the block as it was in the base
    HERE = "here"  # what the base's journal holds at this place
    EARLIER = "earlier"  # the copy of this block in an earlier transaction of the edit


class InodeCopy(msgspec.Struct, frozen=True, omit_defaults=True):
    """An inode within a copy: fields, and its extents where they fit into it."""

    inode: int
    set: Fields = {}
    extents: list[ExtentRow] | None = None


class CopyChange(msgspec.Struct, frozen=True, omit_defaults=True, rename={"origin": "from"}):
    """A copy that is not simply the final block. ``set`` are superblock fields, ``taken`` and ``freed`` bits.

    ``orphans`` are the entries of a block of the orphan file, ``symlink`` is the target of a long symlink.
    """

    home: int
    origin: Origin = Origin.FINAL
    set: Fields = {}
    taken: list[Span] = []
    freed: list[Span] = []
    groups: list[GroupChange] = []
    inodes: list[InodeCopy] = []
    directory: DirectoryChange | None = None
    extents: ExtentNode | None = None
    xattrs: XattrBlock | None = None
    orphans: list[int] | None = None
    symlink: str = ""
    runs: list[LiteralRun] = []


class Moment:
    """The file system as of one transaction of the journal; those before it have been written."""

    def __init__(self, state: Ext4State, times: TimeTable) -> None:
        self.final = state.now
        self.before = state.before
        self.times = times
        self.copies: dict[int, bytes] = {}  # the last copy of each block

    def block(self, home: int) -> bytes:
        """Return a block as the transactions so far left it."""
        return self.copies.get(home) or self.before.read_block(home)

    def generation(self, number: int) -> int:
        """Return ``i_generation`` of an inode."""
        size = self.final.geometry.block_size
        block, at = divmod(self.final.inode_offset(number), size)
        raw = self.block(block)[at : at + self.final.geometry.inode_size]
        return InodeInfo.parse(number, raw).disk.i_generation

    def owner_seed(self, number: int) -> int:
        """Return the seed of checksums of the blocks that an inode owns."""
        return checksums.inode_seed(self.final.seed, number, self.generation(number))

    @cached_property
    def _fixed(self) -> SegmentMap:
        return SegmentMap(fixed_segments(self.final))

    def structure(self, home: int) -> Segment | None:
        """Return what a block is by the geometry alone, None for one that an inode may own."""
        return self._fixed.at(home)

    def in_order(self, homes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Sort pairs that begin with a block: first the blocks whose content the checksums of others depend on."""
        return sorted(homes, key=lambda pair: self._depends(pair[0]))

    def _depends(self, home: int) -> bool:
        segment = self.structure(home)
        return segment is None or segment.tag not in _FIRST


def made_copy(moment: Moment, change: CopyChange, block: bytes) -> bytes:
    """Return the copy that ``block`` becomes, unescaped. What is impossible is StoreDamagedError."""
    data = bytearray(block)
    if change.set:
        _set_superblock(moment, change, data)
    for spans, bit in ((change.taken, 1), (change.freed, 0)):
        for span in spans:
            _set_bits(moment, change.home, span, bit, data)
    for inode in change.inodes:
        _set_inode(moment, change.home, inode, data)
    for group in change.groups:
        _set_group(moment, change.home, group, data)
    if change.directory is not None:
        data[:] = _directory(moment, change.directory, bytes(data))
    if change.extents is not None:
        generation = moment.generation(change.extents.inode)
        data[:] = made_node(moment.final, bytes(data), change.extents, generation)
    if change.xattrs is not None:
        data[:] = made_block(moment.final, change.xattrs, change.home)
    if change.orphans is not None:
        data[:] = _orphans(moment, change.home, change.orphans)
    if change.symlink:
        data[:] = _symlink(change, len(data))
    write_runs(data, change.runs)
    return bytes(data)


def _within(moment: Moment, home: int, offset: int, size: int, what: str) -> int:
    """Return where byte ``offset`` of the file system is in block ``home``."""
    block_size = moment.final.geometry.block_size
    at = offset - home * block_size
    if not 0 <= at <= block_size - size:
        raise StoreDamagedError(f"a journal copy does not hold {what}", actual=home)
    return at


def _set_superblock(moment: Moment, change: CopyChange, data: bytearray) -> None:
    start = _within(moment, change.home, SUPER_OFFSET, SuperBlock.SIZE, "the superblock")
    superblock = with_fields(SuperBlock.parse(data, start), change.set, moment.times)
    raw = bytearray(superblock.pack())
    if moment.final.geometry.metadata_csum:
        checksums.SUPERBLOCK.put(raw, checksums.expected_superblock(bytes(raw)))
    data[start : start + len(raw)] = raw


def _set_bits(moment: Moment, home: int, span: Span, bit: int, data: bytearray) -> None:
    segment = moment.structure(home)
    if segment is None or segment.tag not in (Tag.BLOCK_BITMAP, Tag.INODE_BITMAP):
        raise StoreDamagedError("a journal copy with bits is no bitmap", actual=home)
    bitmap = BLOCKS if segment.tag == Tag.BLOCK_BITMAP else INODES
    start = span.first - bitmap.first(moment.final, segment.number)
    if not 0 <= start <= start + span.count <= len(data) * 8:
        raise StoreDamagedError("a journal copy does not hold a bit", actual=span.first)
    mask = (1 << span.count) - 1 << start
    value = int.from_bytes(data, "little")
    data[:] = (value | mask if bit else value & ~mask).to_bytes(len(data), "little")


def _set_inode(moment: Moment, home: int, change: InodeCopy, data: bytearray) -> None:
    final = moment.final
    size = final.geometry.inode_size
    at = _within(moment, home, final.inode_offset(change.inode), size, f"inode {change.inode}")
    inode = InodeInfo.parse(change.inode, bytes(data[at : at + size]))
    sealed = final.geometry.metadata_csum
    cleared: Fields = {span.name: 0 for span in inode.disk.FIELDS if sealed and span.name in INODE_CHECKSUMS}
    raw = bytearray(changed_inode(inode, change.set | cleared, change.extents, moment.times))
    if sealed and any(raw):  # one that was never used has no checksum
        checksums.inode_slot(bytes(raw)).put(raw, checksums.expected_inode(final.seed, change.inode, bytes(raw)))
    data[at : at + size] = raw


def _set_group(moment: Moment, home: int, change: GroupChange, data: bytearray) -> None:
    geometry = moment.final.geometry
    if not 0 <= change.group < geometry.group_count:
        raise StoreDamagedError("a journal copy names a group that does not exist", actual=change.group)
    size = geometry.desc_size
    at = _within(moment, home, geometry.desc_offset(change.group), size, f"group {change.group}")
    raw = bytes(data[at : at + size])
    data[at : at + size] = sealed_descriptor(moment.final, change.group, raw, change.set, moment.block)


def _orphans(moment: Moment, home: int, inodes: list[int]) -> bytes:
    final = moment.final
    size = final.geometry.block_size
    number = final.superblock.s_orphan_file_inum
    if len(inodes) * ORPHAN_SIZE > size - OrphanTail.SIZE or not final.geometry.valid_ino(number):
        raise StoreDamagedError("a journal copy has more orphans than fit", actual=len(inodes))
    try:
        rows = b"".join(inode.to_bytes(ORPHAN_SIZE, "little") for inode in inodes)
    except OverflowError as error:
        raise StoreDamagedError("impossible orphan in a journal copy", actual=home) from error
    tail = OrphanTail(ob_magic=ORPHAN_MAGIC, ob_checksum=0).pack()
    data = bytearray(rows.ljust(size - len(tail), b"\0") + tail)
    if final.geometry.metadata_csum:
        checksum = checksums.expected_orphan(moment.owner_seed(number), home, bytes(data))
        checksums.orphan_slot(size).put(data, checksum)
    return bytes(data)


def _symlink(change: CopyChange, size: int) -> bytes:
    target = change.symlink.encode()
    if len(target) > size:
        raise StoreDamagedError("the target of a symlink does not fit into its block", actual=change.home)
    return target.ljust(size, b"\0")


def _directory(moment: Moment, change: DirectoryChange, data: bytes) -> bytes:
    tails = moment.final.geometry.metadata_csum
    try:
        block = changed_block(data, change, tails=tails)
    except CorruptError as error:
        raise StoreDamagedError(f"directory {change.inode} in a journal copy: {error}") from error
    return dirblock.sealed_block(block, moment.owner_seed(change.inode)) if tails else block
