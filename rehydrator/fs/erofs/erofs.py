"""Reading an erofs file system: its inodes and directories, and the content of files that are not compressed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from functools import cached_property

import msgspec

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.erofs.c_erofs import (
    SLOT_SIZE,
    XATTR_ENTRY,
    Dirent,
    InodeCompact,
    InodeExtended,
    InodeHead,
    Layout,
    XattrHeader,
)
from rehydrator.fs.erofs.superblock import read_superblock
from rehydrator.fs.path_room import PathRoom

_ROOT = "/"
_DOTS = (b".", b"..")
_MAX_DIRECTORY = 64 << 20  # bytes of one directory's blocks


class Piece(msgspec.Struct, frozen=True):
    """``length`` bytes at byte ``start`` of the file system that hold a file from its byte ``offset`` on."""

    start: int
    length: int
    offset: int


class Node(msgspec.Struct, frozen=True):
    """An inode at byte ``start`` of the file system; ``xattrs`` is the size of the attributes behind it.

    ``pieces`` hold the data of one that is not compressed.
    """

    nid: int
    start: int
    inode: InodeCompact | InodeExtended
    xattrs: int
    pieces: list[Piece]

    @property
    def layout(self) -> int:
        """How the data lies."""
        return self.inode.i_format >> 1 & 7

    @property
    def readable(self) -> bool:
        """Whether the data is not compressed, nor in chunks."""
        return self.layout in (Layout.FLAT_PLAIN, Layout.FLAT_INLINE)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.inode.i_mode)


class Erofs:
    """The inodes of a file system, by nid and by path. Raises CorruptError and UnsupportedError on opening."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.superblock = read_superblock(source)
        self.block_size = 1 << self.superblock.blkszbits

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """What lies at each path; raises CorruptError for damaged directories."""
        found: dict[str, Node] = {}
        known: dict[int, Node] = {}
        entered: set[int] = set()
        room = PathRoom()
        waiting = [(_ROOT, self.superblock.root_nid)]
        while waiting:
            path, nid = waiting.pop()
            if nid not in known:
                known[nid] = self.node(nid)
            found[path] = node = known[nid]
            if not node.is_directory:
                continue
            if nid in entered:
                raise CorruptError("a directory has two names", expected="one", actual=path)
            entered.add(nid)
            waiting += ((room.take(path.rstrip(_ROOT) + _ROOT + name), child) for name, child in self._entries(node))
        return found

    def node(self, nid: int) -> Node:
        """Read an inode; raises CorruptError for one that is damaged or lies outside."""
        start = self.superblock.meta_blkaddr * self.block_size + nid * SLOT_SIZE
        if start + InodeExtended.SIZE > self.source.size:
            raise CorruptError(
                "an inode lies outside", offset=start, expected=f"within {self.source.size} bytes", actual=f"nid {nid}"
            )
        data = self.source.read(start, InodeExtended.SIZE)
        structure = InodeExtended if InodeHead.parse(data).i_format & 1 else InodeCompact
        inode = structure.parse(data)
        count = inode.i_xattr_icount
        xattrs = XattrHeader.SIZE + (count - 1) * XATTR_ENTRY if count else 0
        node = Node(nid, start, inode, xattrs, [])
        if node.readable and (stat.S_ISREG(inode.i_mode) or stat.S_ISDIR(inode.i_mode) or stat.S_ISLNK(inode.i_mode)):
            node.pieces.extend(self._pieces(node))
        return node

    def _pieces(self, node: Node) -> Iterator[Piece]:
        size, tail = node.inode.i_size, 0
        if node.layout == Layout.FLAT_INLINE and size:
            tail = (size - 1) % self.block_size + 1
        behind = node.start + node.inode.SIZE + node.xattrs
        pieces = (
            Piece(node.inode.i_u * self.block_size, size - tail, 0),
            Piece(behind, tail, size - tail),
        )
        for piece in pieces:
            if piece.length and piece.start + piece.length > self.source.size:
                raise CorruptError(
                    "the data of an inode lies outside",
                    offset=node.start,
                    expected=f"within {self.source.size} bytes",
                    actual=f"{piece.length} bytes at {piece.start:#x}",
                )
            if piece.length:
                yield piece

    def read(self, node: Node, limit: int) -> bytes:
        """Return up to ``limit`` bytes of an inode's data; raises UnsupportedError for compressed data."""
        if not node.readable:
            raise UnsupportedError("this file is compressed", offset=node.start, expected="plain data", actual="erofs")
        parts: list[bytes] = []
        for piece in node.pieces:
            parts.append(bytes(self.source.read(piece.start, min(piece.length, max(limit - piece.offset, 0)))))
        return b"".join(parts)

    def _entries(self, node: Node) -> Iterator[tuple[str, int]]:
        """Yield name and nid of each entry of a directory."""
        if not node.readable or node.inode.i_size > _MAX_DIRECTORY:
            raise CorruptError(
                "a directory is compressed or too large",
                offset=node.start,
                expected=f"up to {_MAX_DIRECTORY} bytes of plain data",
                actual=f"{node.inode.i_size} bytes of layout {node.layout}",
            )
        data = self.read(node, node.inode.i_size)
        for at in range(0, len(data), self.block_size):
            yield from _entries_of(data[at : at + self.block_size], node.start)


def _entries_of(block: bytes, place: int) -> Iterator[tuple[str, int]]:
    end = Dirent.parse(block).nameoff
    if end % Dirent.SIZE or not Dirent.SIZE <= end <= len(block):
        raise CorruptError("no block of a directory", offset=place, expected="names behind entries", actual=f"{end:#x}")
    entries = [Dirent.parse(block, at) for at in range(0, end, Dirent.SIZE)]
    stops = [*(entry.nameoff for entry in entries[1:]), len(block)]
    for entry, stop in zip(entries, stops, strict=True):
        name = block[entry.nameoff : stop].split(b"\0", 1)[0]
        if name not in _DOTS:
            yield name.decode("utf-8", "surrogateescape"), entry.nid
