"""``ext4.extents``: blocks of extent trees, for files with more extents than their inode holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.edits.ext4_directory_block import distance
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import Fields, updated
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4 import EXTENT_MAGIC, ExtentHeader, ExtentIndex, ExtentLeaf
from rehydrator.fs.ext4.ext4 import Ext4

_NO_INDEX = ExtentIndex.parse(bytes(ExtentIndex.SIZE))
_NO_LEAF = ExtentLeaf.parse(bytes(ExtentLeaf.SIZE))


class TreeRow(msgspec.Struct, array_like=True, frozen=True):
    """From block ``ee_block`` of the file on ``length`` blocks (``ee_len``) at block ``start``.

    In a node above the leaves ``start`` is the node below and ``length`` the unused ``ei_unused``, mostly 0.
    """

    ee_block: int
    length: int
    start: int


_NO_ROW = TreeRow(0, 0, 0)


class ExtentNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """Block ``block`` of the extent tree of a file, ``depth`` levels above the leaves; a ``fresh`` one was no node.

    ``stale`` are rows behind those in use: when extents are joined, the kernel moves the rest up and counts one less.
    """

    inode: int
    rows: list[TreeRow]
    path: str = ""
    block: int = 0
    depth: int = 0
    fresh: bool = False
    stale: list[TreeRow] = []


class Ext4Extents(msgspec.Struct, tag="ext4.extents", tag_field="op", frozen=True):
    """Nodes of extent trees in one partition."""

    partition: str
    nodes: list[ExtentNode]

    def apply(self, replay: Replay) -> None:
        """Write each node with its checksum."""
        state = replay.state(Ext4State, self.partition)
        for node in self.nodes:
            if not state.now.valid_block(node.block):
                raise StoreDamagedError("an extent node is outside of the file system", actual=node.block)
            generation = state.now.inode(node.inode).disk.i_generation
            state.write(
                node.block * state.now.geometry.block_size,
                made_node(state.now, state.now.read_block(node.block), node, generation),
            )

    def describe(self) -> str:
        """Count files."""
        return f"extent trees of {counted(len({node.inode for node in self.nodes}), 'file')}"

    def literal_bytes(self) -> int:
        """Return none: every extent has its row."""
        return 0


def made_node(ext4: Ext4, before: bytes, node: ExtentNode, generation: int) -> bytes:
    """Return the block that ``before`` becomes, with its checksum; ``generation`` is that of the inode."""
    size = ext4.geometry.block_size
    room = (size - ExtentHeader.SIZE) // ExtentLeaf.SIZE
    written = [*node.rows, *node.stale]
    if len(written) > room:
        raise StoreDamagedError("too many extents for a node", expected=f"at most {room}", actual=len(written))
    header = ExtentHeader(eh_magic=EXTENT_MAGIC, eh_entries=len(node.rows), eh_max=room, eh_depth=0, eh_generation=0)
    header = updated(header, {"eh_depth": node.depth})
    data = bytearray(size) if node.fresh else bytearray(before)
    rows = header.pack() + b"".join(_packed(row, node.depth) for row in written)
    data[: len(rows)] = rows
    if ext4.geometry.metadata_csum:
        seed = checksums.inode_seed(ext4.seed, node.inode, generation)
        checksums.extent_slot(bytes(data)).put(data, checksums.expected_extent(seed, bytes(data)))
    return bytes(data)


def _packed(row: TreeRow, depth: int) -> bytes:
    high, low = row.start >> 32, row.start % (1 << 32)
    if depth:
        fields: Fields = {"ei_block": row.ee_block, "ei_leaf_lo": low, "ei_leaf_hi": high, "ei_unused": row.length}
        return updated(_NO_INDEX, fields).pack()
    fields = {"ee_block": row.ee_block, "ee_len": row.length, "ee_start_hi": high, "ee_start_lo": low}
    return updated(_NO_LEAF, fields).pack()


def recognise(replay: Replay, partition: str, target: Ext4, files: Iterable[tuple[int, str]]) -> Iterator[Ext4Extents]:
    """Tell the nodes that differ in the trees of files (inode and path)."""
    state = replay.state(Ext4State, partition)
    found = []
    for number, path in files:
        generation = state.now.inode(number).disk.i_generation
        for item in target.block_map(target.inode(number)).nodes:
            before, after = state.now.read_block(item.block), target.read_block(item.block)
            if item.indirect or before == after:
                continue
            found.append(told_node(state.now, before, after, ExtentNode(number, [], path, item.block), generation))
    if found:
        yield Ext4Extents(partition, found)


def told_node(ext4: Ext4, before: bytes, after: bytes, named: ExtentNode, generation: int) -> ExtentNode:
    """Return the node that comes closest to ``after``; ``named`` says which one it is."""
    header = ExtentHeader.parse(after)
    rows = _rows(after, header.eh_depth)
    used = header.eh_entries
    while len(rows) > used and rows[-1] == _NO_ROW:
        rows.pop()
    node = replace(named, rows=rows[:used], depth=header.eh_depth)
    whole = replace(node, fresh=True)
    forms = [node, whole, replace(whole, stale=rows[used:])]  # the simplest first
    return min(forms, key=lambda form: distance(made_node(ext4, before, form, generation), after))


def _rows(block: bytes, depth: int) -> list[TreeRow]:
    """Return all rows for which a node has room, in use or not."""
    room = ExtentHeader.parse(block).eh_max * ExtentLeaf.SIZE
    body = block[ExtentHeader.SIZE : ExtentHeader.SIZE + room]
    rows = []
    for at in range(0, len(body) - ExtentLeaf.SIZE + 1, ExtentLeaf.SIZE):
        if depth:
            index = ExtentIndex.parse(body, at)
            rows.append(TreeRow(index.ei_block, index.ei_unused, index.ei_leaf_lo | index.ei_leaf_hi << 32))
        else:
            leaf = ExtentLeaf.parse(body, at)
            rows.append(TreeRow(leaf.ee_block, leaf.ee_len, leaf.ee_start_lo | leaf.ee_start_hi << 32))
    return rows
