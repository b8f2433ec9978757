"""Which blocks an inode owns: the extent tree and the older indirect blocks.

Source: Linux ``fs/ext4/extents.c``, ``indirect.c``. Damage never raises: what can't be followed is left out and
counted in ``BlockMap.problems``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from rehydrator.fs.ext4.c_ext4 import (
    DIRECT_BLOCKS,
    EXTENT_MAGIC,
    MAX_EXTENT_DEPTH,
    MAX_EXTENT_LENGTH,
    POINTERS,
    ExtentHeader,
    ExtentIndex,
    ExtentLeaf,
)

ReadBlock = Callable[[int], bytes]

_HEADER = struct.Struct("<HHHHI")
_LEAF = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIHH")
_POINTERS = struct.Struct(f"<{POINTERS}I")
_POINTER_SIZE = 4


class Run(msgspec.Struct, frozen=True):
    """``count`` blocks of a file: from ``logical`` on in the file, from ``physical`` on in the file system."""

    logical: int
    physical: int
    count: int
    unwritten: bool = False


class TreeNode(msgspec.Struct, frozen=True):
    """A block of an extent tree (``level`` is its depth) or an indirect block (``level`` 1 to 3).

    ``parent`` is the block that points here, 0 for the inode itself.
    """

    block: int
    level: int
    indirect: bool
    parent: int = 0


class BlockMap(msgspec.Struct, frozen=True):
    """All blocks of one inode, in the order of the tree."""

    runs: tuple[Run, ...]
    nodes: tuple[TreeNode, ...]
    problems: tuple[str, ...] = ()


EMPTY = BlockMap((), ())


class Limits(msgspec.Struct):
    """What keeps a damaged tree from being walked for ever.

    Each tree block is followed once over all inodes that share a ``Limits``; no file system has more pieces than
    blocks.
    """

    blocks_count: int
    first_block: int
    pieces: int = -1
    seen: set[int] = msgspec.field(default_factory=set)

    def __post_init__(self) -> None:
        if self.pieces < 0:
            self.pieces = 2 * self.blocks_count

    def valid(self, block: int, count: int = 1) -> bool:
        """Tell whether ``count`` blocks from ``block`` on can belong to a file."""
        return block > self.first_block and count > 0 and block + count <= self.blocks_count

    def enter(self, block: int) -> bool:
        """Tell whether a tree block may be followed, at most once each."""
        if block in self.seen or not self.valid(block):
            return False
        self.seen.add(block)
        return True

    def take(self) -> bool:
        """Count one piece; tell whether it is still within the limit."""
        self.pieces -= 1
        return self.pieces >= 0


class _Walk(msgspec.Struct):
    read: ReadBlock
    limits: Limits
    runs: list[Run] = msgspec.field(default_factory=list)
    nodes: list[TreeNode] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)

    def result(self) -> BlockMap:
        return BlockMap(tuple(self.runs), tuple(self.nodes), tuple(self.problems))

    def add(self, run: Run) -> None:
        if not self.limits.valid(run.physical, run.count):
            self.problems.append(f"blocks {run.physical}+{run.count} are outside the file system")
        elif self.limits.take():
            self.runs.append(run)


def extent_blocks(root: bytes, read: ReadBlock, limits: Limits) -> BlockMap:
    """Walk the extent tree whose root is the 60 bytes of ``i_block``."""
    walk = _Walk(read, limits)
    _extent_node(walk, root, 0, None)
    return walk.result()


def _extent_node(walk: _Walk, data: bytes, block: int, expected_depth: int | None) -> None:
    magic, entries, _, depth, _ = _HEADER.unpack_from(data)
    where = f"extent block {block}" if block else "extent root"
    if magic != EXTENT_MAGIC:
        walk.problems.append(f"{where}: eh_magic is {magic:#x}")
        return
    if depth > MAX_EXTENT_DEPTH or (expected_depth is not None and depth != expected_depth):
        walk.problems.append(f"{where}: eh_depth is {depth}")
        return
    room = (len(data) - ExtentHeader.SIZE) // ExtentLeaf.SIZE
    if entries > room:
        walk.problems.append(f"{where}: eh_entries is {entries}, there is room for {room}")
        entries = room
    end = ExtentHeader.SIZE + entries * ExtentLeaf.SIZE
    body = data[ExtentHeader.SIZE : end]
    if depth:
        for _, low, high, _ in _INDEX.iter_unpack(body[: entries * ExtentIndex.SIZE]):
            child = low | high << 32
            if not walk.limits.enter(child):
                walk.problems.append(f"{where}: can't follow ei_leaf {child}")
                continue
            walk.nodes.append(TreeNode(child, depth - 1, indirect=False, parent=block))
            _extent_node(walk, walk.read(child), child, depth - 1)
        return
    for logical, length, high, low in _LEAF.iter_unpack(body):
        unwritten = length > MAX_EXTENT_LENGTH
        count = length - MAX_EXTENT_LENGTH if unwritten else length
        walk.add(Run(logical, low | high << 32, count, unwritten))


def indirect_blocks(pointers: bytes, read: ReadBlock, limits: Limits, block_size: int) -> BlockMap:
    """Walk the 12 direct and three indirect pointers in the 60 bytes of ``i_block``."""
    walk = _Walk(read, limits)
    numbers = _POINTERS.unpack(pointers)
    _add_pointers(walk, numbers[:DIRECT_BLOCKS], 0)
    per_block = block_size // _POINTER_SIZE
    logical = DIRECT_BLOCKS
    for level, block in enumerate(numbers[DIRECT_BLOCKS:], start=1):
        _indirect(walk, block, level, logical, per_block)
        logical += per_block**level
    return walk.result()


def _indirect(walk: _Walk, block: int, level: int, logical: int, per_block: int, parent: int = 0) -> None:
    if not block:
        return
    if not walk.limits.enter(block):
        walk.problems.append(f"can't follow indirect block {block}")
        return
    walk.nodes.append(TreeNode(block, level, indirect=True, parent=parent))
    numbers = struct.unpack(f"<{per_block}I", walk.read(block))
    if level == 1:
        _add_pointers(walk, numbers, logical)
        return
    step = per_block ** (level - 1)
    for index, child in enumerate(numbers):
        if child:
            _indirect(walk, child, level - 1, logical + index * step, per_block, block)


def _add_pointers(walk: _Walk, numbers: tuple[int, ...], logical: int) -> None:
    """Join neighbouring pointers to runs."""
    start = count = 0
    begin = logical
    for position, number in enumerate((*numbers, 0), start=logical):
        if count and number == start + count:
            count += 1
            continue
        if count:
            walk.add(Run(begin, start, count))
        start, count, begin = number, int(bool(number)), position
