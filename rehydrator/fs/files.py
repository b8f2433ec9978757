"""Files by their place in a tree and on the disk, alike for ext4 and XFS.

What the kernel's FIEMAP tells of a mounted file system, read from the file system itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec

from rehydrator.disk.composed import Mapped
from rehydrator.disk.composed import Mapping as Piece
from rehydrator.disk.source import Source
from rehydrator.fs.ext4.c_ext4 import FileType
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import Filesystem
from rehydrator.fs.xfs.owner import XfsFilesystem
from rehydrator.fs.xfs.xfs import Xfs

_MAX_DEPTH = 1000


class Link(NamedTuple):
    """A name in a directory, and the number of the inode that it leads to."""

    name: bytes
    number: int


class FileExtent(NamedTuple):
    """``length`` bytes at ``logical`` of a file lie at ``physical`` of its file system; always whole blocks."""

    logical: int
    physical: int
    length: int


class Node(msgspec.Struct, frozen=True):
    """An inode: what it is, and for a regular file its ``size`` in bytes."""

    number: int
    directory: bool
    regular: bool
    size: int


class Tree(Protocol):
    """A file system as a tree of directories and files."""

    root: int

    def find(self, path: str) -> int | None:
        """Return the inode at a path, None where there is none."""
        ...

    def node(self, number: int) -> Node | None:
        """Return an inode, None where there is no intact one."""
        ...

    def links(self, directory: int) -> Iterator[Link]:
        """Yield what a directory holds but ``.`` and ``..``, in the order in which it is stored."""
        ...

    def extents(self, number: int) -> Iterator[FileExtent]:
        """Yield where a file's data lies, in order; nothing for holes and for what was never written."""
        ...


class Ext4Tree:
    """The files of an ext4 file system."""

    def __init__(self, fs: Ext4) -> None:
        self._fs = fs
        self.root = fs.lookup("/") or 0

    def find(self, path: str) -> int | None:
        """Return the inode at a path."""
        return self._fs.lookup(path)

    def node(self, number: int) -> Node | None:
        """Return an inode."""
        if not self._fs.geometry.valid_ino(number):
            return None
        inode = self._fs.inode(number)
        return Node(number, inode.is_dir, inode.file_type == FileType.REGULAR, inode.size)

    def links(self, directory: int) -> Iterator[Link]:
        """Yield what a directory holds."""
        for entry in self._fs.entries(directory):
            yield Link(entry.name, entry.inode)

    def extents(self, number: int) -> Iterator[FileExtent]:
        """Yield where a file's data lies."""
        size = self._fs.geometry.block_size
        for run in self._fs.block_map(self._fs.inode(number)).runs:
            if not run.unwritten:
                yield FileExtent(run.logical * size, run.physical * size, run.count * size)


class XfsTree:
    """The files of an XFS file system."""

    def __init__(self, fs: Xfs) -> None:
        self._fs = fs
        self.root = fs.geometry.root_inode

    def find(self, path: str) -> int | None:
        """Return the inode at a path."""
        inode = self._fs.lookup(path)
        return inode.number if inode else None

    def node(self, number: int) -> Node | None:
        """Return an inode."""
        inode = self._fs.inode(number)
        return Node(number, inode.is_directory, inode.is_file, inode.size) if inode else None

    def links(self, directory: int) -> Iterator[Link]:
        """Yield what a directory holds."""
        inode = self._fs.inode(directory)
        if inode is not None and inode.is_directory:
            for entry in self._fs.directory(inode):
                yield Link(entry.name, entry.inode)

    def extents(self, number: int) -> Iterator[FileExtent]:
        """Yield where a file's data lies."""
        inode = self._fs.inode(number)
        if inode is None:
            return
        geometry = self._fs.geometry
        for mapping in self._fs.mappings(inode):
            if not mapping.unwritten:
                yield FileExtent(
                    mapping.start_offset << geometry.block_log,
                    geometry.fsblock_byte(mapping.start_block),
                    mapping.blocks << geometry.block_log,
                )


def tree_of(filesystem: Filesystem | None) -> Tree | None:
    """Return the files of a file system, None where nothing here reads them."""
    match filesystem:
        case Ext4Filesystem(fs=fs):
            return Ext4Tree(fs)
        case XfsFilesystem(reader=reader):
            return XfsTree(reader)
    return None


def walk(tree: Tree, directory: int) -> Iterator[Node]:
    """Yield all regular files below a directory, a directory's own entries in order, each inode once."""
    seen = {directory}
    todo = [tree.links(directory)]
    while todo:
        link = next(todo[-1], None)
        if link is None:
            todo.pop()
            continue
        node = None if link.number in seen else tree.node(link.number)
        if node is None:
            continue
        seen.add(link.number)
        if node.regular:
            yield node
        elif node.directory and len(todo) < _MAX_DEPTH:
            todo.append(tree.links(link.number))


def content(tree: Tree, volume: Source, node: Node) -> Source:
    """Return the content of a regular file in the file system of ``volume``."""
    pieces = []
    for extent in tree.extents(node.number):
        length = min(extent.length, node.size - extent.logical)
        if length > 0 and extent.physical + length <= volume.size:
            pieces.append(Piece(extent.logical, length, extent.physical))
    return Mapped(volume, pieces, node.size)
