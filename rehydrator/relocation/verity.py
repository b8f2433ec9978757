"""Hash trees of dm-verity, as ``veritysetup format`` writes them: computed from the data that they are about.

Each hash block holds the salted digests of the blocks below it and is filled up with zeros. The level above the data
is the last one on the disk, the top the first (cryptsetup ``lib/verity/verity_hash.c``). All levels but the last are
a 2048th of the data and are held in memory; those of the last are computed again wherever it is read.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.disk.extents import Data, Extent, ExtentMap, chunks, is_zero
from rehydrator.disk.gpt import PartitionTable
from rehydrator.disk.source import Source, Window
from rehydrator.errors import StoreDamagedError
from rehydrator.relocation.c_verity import HASH_TYPE, MAX_SALT, SIGNATURE, VERSION, VeritySuperblock
from rehydrator.relocation.segments import Segment, SegmentSource

_ALGORITHM = b"sha256"
_DIGEST = hashlib.sha256().digest_size
_BLOCK_SIZES = frozenset(1 << shift for shift in range(9, 17))  # 512 bytes to 64 KiB
_MAX_UPPER = 64 << 20  # bytes of the levels above the last one: 128 GiB of data


class HashTree(msgspec.Struct, array_like=True, frozen=True):
    """The tree behind the superblock at byte ``superblock`` of a disk is about the data from byte ``data`` on."""

    superblock: int
    data: int


class TreeSource(Source):
    """The hash blocks behind the superblock of a tree, without it."""

    def __init__(self, superblock: VeritySuperblock, data: Source) -> None:
        self._data = data
        self._known = ExtentMap(data.extents())
        self._block = superblock.data_block_size
        self._hash_block = superblock.hash_block_size
        self._start = hashlib.sha256(superblock.salt[: superblock.salt_size])
        levels = _levels(superblock)
        self._upper_levels: bytes | None = None
        self._upper_size = sum(levels[1:]) * self._hash_block
        self._last_size = levels[0] * self._hash_block if levels else 0
        self.size = self._upper_size + self._last_size
        self.first_of_data = Extent(self._upper_size, min(self._last_size, self._hash_block))

    def read(self, offset: int, length: int) -> Data:
        """Return upper levels from memory, and hash the data again for the last one."""
        parts: list[bytes] = []
        if offset < self._upper_size:
            parts.append(self._upper()[offset : offset + length])
        first, end = max(offset - self._upper_size, 0), offset + length - self._upper_size
        if first < end:
            start = first // self._hash_block
            blocks = b"".join(self._last_blocks(start, -(-end // self._hash_block)))
            parts.append(blocks[first - start * self._hash_block : end - start * self._hash_block])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def extents(self) -> Iterator[Extent]:
        """Yield all of it: even zeros have a digest."""
        if self.size:
            yield Extent(0, self.size)

    def _digest(self, data: Data) -> bytes:
        state = self._start.copy()
        state.update(data)
        return state.digest()

    @functools.cached_property
    def _zero_digest(self) -> bytes:
        return self._digest(bytes(self._block))

    @functools.cached_property
    def _zero_hash_block(self) -> bytes:
        return self._zero_digest * (self._hash_block // _DIGEST)

    def _last_blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield hash blocks ``start`` to ``end`` of the level above the data."""
        covered = self._hash_block // _DIGEST * self._block
        for number in range(start, end):
            at = number * covered
            length = min(covered, self._data.size - at)
            if length == covered and not self._known.touches(at, length):
                yield self._zero_hash_block
                continue
            data = bytes(self._data.read(at, length))
            if length == covered and is_zero(data):
                yield self._zero_hash_block
                continue
            digests = (self._digest(data[inside : inside + self._block]) for inside in range(0, length, self._block))
            yield b"".join(digests).ljust(self._hash_block, b"\0")

    def _upper(self) -> bytes:
        """All levels above the last one, the top first; without a lock, since others wait for who reads the data."""
        if self._upper_levels is None:
            self._upper_levels = self._hashed()
        return self._upper_levels

    def _hashed(self) -> bytes:
        levels: list[bytes] = []
        below: Iterator[bytes] = self._last_blocks(0, self._last_size // self._hash_block)
        left = self._upper_size
        while left:
            digests = b"".join(self._digests(below))
            level = digests.ljust(-(-len(digests) // self._hash_block) * self._hash_block, b"\0")
            left -= len(level)
            levels.append(level)
            below = (level[at : at + self._hash_block] for at in range(0, len(level), self._hash_block))
        return b"".join(reversed(levels))

    def _digests(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the digest of each block; equal neighbours, as of zeros, are hashed once."""
        for block, equal in itertools.groupby(blocks):
            digest = self._digest(block)
            yield from (digest for _ in equal)


def with_trees(disk: Source, trees: Sequence[HashTree]) -> Source:
    """Return ``disk`` with its hash trees, whose superblocks and data it has.

    Raises StoreDamagedError where they do not fit.
    """
    if not trees:
        return disk
    opened = [_Tree(disk, tree) for tree in trees]
    segments = [Segment(*tree.place, number, 0) for number, tree in enumerate(opened, 1) if tree.place.length]
    segments += _around(disk, [tree.place for tree in opened])
    segments.sort(key=lambda item: item.offset)
    return SegmentSource(disk.size, segments, [disk, *(tree.source for tree in opened)], None)


def without_trees(disk: Source, trees: Sequence[HashTree]) -> Source:
    """Return ``disk`` with zeros in place of these trees, which are in it; their superblocks stay."""
    if not trees:
        return disk
    return SegmentSource(disk.size, _around(disk, [_Tree(disk, tree).place for tree in trees]), [disk], None)


def find_trees(disk: Source, table: PartitionTable) -> list[HashTree]:
    """Return the trees at the start of partitions that follow from the data in other partitions."""
    found: list[HashTree] = []
    for region in table.regions:
        place = region.extent
        if region.partition and place.length >= VeritySuperblock.SIZE and _superblock(disk, place.offset) is not None:
            others = (item.extent.offset for item in table.regions if item.partition and item is not region)
            trees = (HashTree(place.offset, data) for data in others)
            found += itertools.islice((tree for tree in trees if _holds(disk, tree, place)), 1)
    return found


def _holds(disk: Source, tree: HashTree, room: Extent) -> bool:
    """Tell whether a tree in the partition ``room`` is what its data give."""
    try:
        opened = _Tree(disk, tree)
    except StoreDamagedError:
        return False
    if opened.place.end > room.end:
        return False
    source, start = opened.source, opened.place.offset
    # the first digests of data before all others: they show at once whether these are the data
    pieces = [source.first_of_data, *chunks([Extent(0, source.size)])]
    return all(disk.read(start + at, length) == source.read(at, length) for at, length in pieces)


def _superblock(disk: Source, offset: int) -> VeritySuperblock | None:
    """Return a superblock that this module knows to the full, None for another."""
    found = VeritySuperblock.parse(disk.read(offset, VeritySuperblock.SIZE))
    known = (
        found.signature == SIGNATURE
        and (found.version, found.hash_type) == (VERSION, HASH_TYPE)
        and found.algorithm.rstrip(b"\0") == _ALGORITHM
        and {found.data_block_size, found.hash_block_size} <= _BLOCK_SIZES
        and found.salt_size <= MAX_SALT
    )
    return found if known else None


class _Tree:
    """A tree of a disk: the place of its hash blocks, and what they should be."""

    def __init__(self, disk: Source, tree: HashTree) -> None:
        if not 0 <= tree.superblock <= disk.size - VeritySuperblock.SIZE:
            raise StoreDamagedError("a hash tree lies outside of its disk", offset=tree.superblock)
        superblock = _superblock(disk, tree.superblock)
        if superblock is None:
            raise StoreDamagedError("no superblock of a hash tree that can be computed", offset=tree.superblock)
        length = superblock.data_blocks * superblock.data_block_size
        if tree.data < 0 or tree.data + length > disk.size:
            raise StoreDamagedError("the data of a hash tree lie outside of its disk", offset=tree.data)
        if sum(_levels(superblock)[1:]) * superblock.hash_block_size > _MAX_UPPER:
            raise StoreDamagedError(
                "a hash tree is too large", offset=tree.superblock, actual=f"{length} bytes of data"
            )
        self.source = TreeSource(superblock, Window(disk, tree.data, length))
        self.place = Extent(tree.superblock + superblock.hash_block_size, self.source.size)


def _levels(superblock: VeritySuperblock) -> list[int]:
    """Return how many blocks each level has, the one above the data first; none for a single block of data."""
    levels = []
    blocks = superblock.data_blocks
    while blocks > 1:
        blocks = -(-blocks // (superblock.hash_block_size // _DIGEST))
        levels.append(blocks)
    return levels


def _around(disk: Source, places: Sequence[Extent]) -> list[Segment]:
    """Return segments with what of ``disk`` lies outside of ``places``."""
    known = ExtentMap(disk.extents())
    segments = []
    at = 0
    for place in [*sorted(places), Extent(disk.size, 0)]:
        if place.offset > at:
            segments += [Segment(*piece, 0, piece.offset) for piece in known.within(at, place.offset - at)]
        at = max(at, place.end)
    return segments
