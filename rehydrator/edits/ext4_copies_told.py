"""Telling a copy in the journal by what the block holds; see :mod:`rehydrator.edits.ext4_copies`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
from msgspec.structs import replace

from rehydrator.edits import ext4_directory_block, ext4_extents, ext4_xattrs
from rehydrator.edits.ext4_copies import CopyChange, InodeCopy, Moment, Origin, made_copy
from rehydrator.edits.ext4_directory_block import DirectoryChange
from rehydrator.edits.ext4_extents import ExtentNode
from rehydrator.edits.ext4_group import BLOCKS, INODES, GroupChange, bit_spans, descriptor_fields
from rehydrator.edits.ext4_inodes import inode_change
from rehydrator.edits.ext4_superblock import changed_fields
from rehydrator.edits.literal import literal_runs
from rehydrator.errors import RehydratorError
from rehydrator.fs.ext4 import checksums, dirblock
from rehydrator.fs.ext4.c_ext4 import (
    EXTENT_MAGIC,
    ORPHAN_MAGIC,
    ORPHAN_SIZE,
    SUPER_OFFSET,
    ExtentHeader,
    OrphanTail,
    SuperBlock,
)
from rehydrator.fs.ext4.dirblock import sealed_block
from rehydrator.fs.ext4.inode import InodeInfo
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.ext4.segments import Segment, Tag

_Check = Callable[[int], bool]


class CopyTeller:
    """Tells copies of ``target``'s journal, transaction by transaction."""

    def __init__(self, moment: Moment, target: Ext4Filesystem) -> None:
        self._moment = moment
        self._target = target

    def told(self, home: int, data: bytes, origins: dict[Origin, bytes]) -> CopyChange | None:
        """Tell a copy from the best of ``origins``; None where it is the final block."""
        if origins[Origin.FINAL] == data:
            return None
        changes = [self._told_from(CopyChange(home, origin), block, data) for origin, block in origins.items()]
        return min(changes, key=lambda change: len(msgspec.json.encode(change)))

    def _told_from(self, change: CopyChange, before: bytes, data: bytes) -> CopyChange:
        """Tell a copy from one origin; bytes that have no name are kept as they are."""
        if before == data:
            return change
        try:
            change = self._named(change, before, data)
            before = made_copy(self._moment, change, before)
        except RehydratorError:
            change = CopyChange(change.home, change.origin)
        return replace(change, runs=list(literal_runs(before, data)))

    def _named(self, change: CopyChange, before: bytes, data: bytes) -> CopyChange:
        segment = self._moment.structure(change.home)
        if segment is None:
            return self._owned(change, before, data)
        match segment.tag:
            case Tag.SUPER:
                at = SUPER_OFFSET % len(data)
                fields = changed_fields(SuperBlock.parse(before, at), SuperBlock.parse(data, at), self._moment.times)
                return replace(change, set=fields)
            case Tag.BLOCK_BITMAP | Tag.INODE_BITMAP:
                return _bits(self._moment, segment, change, before, data)
            case Tag.INODE_TABLE:
                return replace(change, inodes=list(self._inodes(segment, change.home, before, data)))
            case Tag.GROUP_DESC:
                return replace(change, groups=list(self._groups(segment, change, before, data)))
        return change

    def _inodes(self, segment: Segment, home: int, before: bytes, data: bytes) -> Iterator[InodeCopy]:
        geometry = self._moment.final.geometry
        size = geometry.inode_size
        first, last = self._target.names.table_inodes(segment, home)
        for number in range(first, last + 1):
            part = slice((number - first) * size, (number - first + 1) * size)
            if before[part] != data[part]:
                old, new = (InodeInfo.parse(number, block[part]) for block in (before, data))
                told = inode_change(old, new, "", self._moment.times, ())
                yield InodeCopy(number, told.set, told.extents)

    def _groups(self, segment: Segment, change: CopyChange, before: bytes, data: bytes) -> Iterator[GroupChange]:
        """Tell descriptors: those that counting the bitmaps of the transaction does not give have fields."""
        geometry = self._moment.final.geometry
        size = geometry.desc_size
        first = segment.logical * geometry.descs_per_block
        for number in range(first, min(first + geometry.descs_per_block, geometry.group_count)):
            part = slice((number - first) * size, (number - first + 1) * size)
            if before[part] == data[part]:
                continue
            counted = made_copy(self._moment, replace(change, groups=[GroupChange(number, {})]), before)
            fields = descriptor_fields(counted[part], data[part])
            flags = descriptor_fields(before[part], data[part]).get("bg_flags")
            yield GroupChange(number, fields if flags is None else {"bg_flags": flags} | fields)

    def _owned(self, change: CopyChange, before: bytes, data: bytes) -> CopyChange:
        """Tell a block of a directory, an extent tree or attributes by what it looks like."""
        final = self._moment.final
        attributes = ext4_xattrs.told_block(data)
        if attributes is not None:
            return replace(change, xattrs=attributes)
        if OrphanTail.parse(data, len(data) - OrphanTail.SIZE).ob_magic == ORPHAN_MAGIC:
            return replace(change, orphans=_orphans(data))
        if (symlink := _symlink(data)) is not None:
            return replace(change, symlink=symlink)
        sealed = final.geometry.metadata_csum
        if ExtentHeader.parse(data).eh_magic == EXTENT_MAGIC:
            stored = checksums.extent_slot(data).get(data) if sealed else 0
            number = self._owner(
                change.home, data, lambda seed: not sealed or checksums.expected_extent(seed, data) == stored
            )
            named = ExtentNode(number, [])
            generation = self._moment.generation(number)
            return replace(change, extents=ext4_extents.told_node(final, before, data, named, generation))
        if dirblock.slots(data) is None:
            return change
        number = self._owner(change.home, data, lambda seed: sealed_block(data, seed) == data)
        seal = partial(sealed_block, owner_seed=self._moment.owner_seed(number)) if sealed else bytes
        told = ext4_directory_block.told_block(
            before, data, DirectoryChange(number, self._target.path(number)), seal, tails=sealed
        )
        return replace(change, directory=told)

    def _owner(self, home: int, data: bytes, fits: _Check) -> int:
        """Return the inode whose seed gives a block's checksum, the likeliest one where there is none."""
        candidates = list(dict.fromkeys(self._candidates(home, data)))
        return next((number for number in candidates if fits(self._moment.owner_seed(number))), candidates[0])

    def _candidates(self, home: int, data: bytes) -> Iterator[int]:
        """Yield inodes that may own a block: who does in the end, who says so in it, and all that were written."""
        valid = self._moment.final.geometry.valid_ino
        segment = self._target.segments.at(home)
        if segment is not None and valid(segment.number):
            yield segment.number
        first = dirblock.slots(data)
        if first and first[0].name == b"." and valid(first[0].inode):
            yield first[0].inode
        for block in list(self._moment.copies):
            place = self._moment.structure(block)
            if place is not None and place.tag == Tag.INODE_TABLE:
                numbers = self._target.names.table_inodes(place, block)
                yield from range(numbers[0], numbers[1] + 1)
        yield from self._target.scan.directories
        yield self._moment.final.geometry.first_ino


def _bits(moment: Moment, segment: Segment, change: CopyChange, before: bytes, data: bytes) -> CopyChange:
    bitmap = BLOCKS if segment.tag == Tag.BLOCK_BITMAP else INODES
    first = bitmap.first(moment.final, segment.number)
    old, new = int.from_bytes(before, "little"), int.from_bytes(data, "little")
    return replace(change, taken=bit_spans(new & ~old, first), freed=bit_spans(old & ~new, first))


def _orphans(data: bytes) -> list[int]:
    """Return the entries of a block of the orphan file, without the empty ones behind the last."""
    rows = data[: len(data) - OrphanTail.SIZE].rstrip(b"\0")
    return [int.from_bytes(rows[at : at + ORPHAN_SIZE], "little") for at in range(0, len(rows), ORPHAN_SIZE)]


def _symlink(data: bytes) -> str | None:
    """Return the target of a long symlink, None for a block that holds something else."""
    target = data.rstrip(b"\0")
    if not target or b"\0" in target:
        return None
    try:
        text = target.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
