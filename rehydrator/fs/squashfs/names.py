"""The directories of a squashfs file system: the paths of its inodes."""

from __future__ import annotations

import bisect
import itertools
import stat
from collections.abc import Iterator

import msgspec

from rehydrator.errors import CorruptError
from rehydrator.fs.path_room import PathRoom
from rehydrator.fs.squashfs.c_squashfs import (
    INODE_NUMBER_SHIFT,
    METADATA_SIZE,
    DirEntry,
    DirHeader,
    DirInode,
    InodeType,
    LdirInode,
    SymlinkInode,
)
from rehydrator.fs.squashfs.plan import FileInode, Inode, inodes
from rehydrator.fs.squashfs.tables import Opened, table_named

_DOTS = 3  # file_size of a directory counts "." and ".." as three bytes
_ROOT = "/"
_MAX_INODES = 1 << 20  # each takes half a KiB of memory here


class Node(msgspec.Struct, frozen=True):
    """What a path leads to; ``file`` has the blocks of a regular file, ``target`` is that of a symbolic link."""

    inode: Inode
    file: FileInode | None
    target: bytes = b""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.file.file_size if self.file is not None else len(self.target)

    @property
    def mode(self) -> int:
        """Type and permissions, as ``stat`` has them."""
        return _TYPES[InodeType(self.inode.base.inode_type)] | self.inode.base.mode


_TYPES = {
    kind: bits
    for kinds, bits in (
        ((InodeType.DIR, InodeType.LDIR), stat.S_IFDIR),
        ((InodeType.REG, InodeType.LREG), stat.S_IFREG),
        ((InodeType.SYMLINK, InodeType.LSYMLINK), stat.S_IFLNK),
        ((InodeType.BLKDEV, InodeType.LBLKDEV), stat.S_IFBLK),
        ((InodeType.CHRDEV, InodeType.LCHRDEV), stat.S_IFCHR),
        ((InodeType.FIFO, InodeType.LFIFO), stat.S_IFIFO),
        ((InodeType.SOCKET, InodeType.LSOCKET), stat.S_IFSOCK),
    )
    for kind in kinds
}


class Names:
    """Nodes by path. Raises CorruptError for directories that lead nowhere or in a circle, and for too many names."""

    def __init__(self, opened: Opened) -> None:
        self._inodes = table_named("inodes", opened.metadata, opened.tables)
        self._directories = table_named("directories", opened.metadata, opened.tables)
        self._starts = list(_starts(opened))
        superblock = opened.superblock
        if superblock.inodes > _MAX_INODES:
            raise CorruptError("too many inodes to name", expected=f"up to {_MAX_INODES}", actual=superblock.inodes)
        found = list(inodes(self._inodes, superblock.inodes, superblock.block_size))
        self._by_number = {item.base.inode_number: item for item in found}
        self._by_inode: dict[int, Node] = {}
        self.nodes: dict[str, Node] = {}
        self.paths: dict[int, str] = {}  # the first one of each inode
        self._walk(self._root(found, superblock.root_inode, opened))

    def _root(self, found: list[Inode], reference: int, opened: Opened) -> Inode:
        stored = [block for block in opened.stored if block.table == "inodes"]
        places = itertools.accumulate((len(block.data) for block in stored), initial=0)
        block, offset = reference >> INODE_NUMBER_SHIFT, reference & ((1 << INODE_NUMBER_SHIFT) - 1)
        at = next((number * METADATA_SIZE + offset for number, place in enumerate(places) if place == block), -1)
        index = bisect.bisect_left(found, at, key=lambda item: item.offset)
        if index == len(found) or found[index].offset != at:
            raise CorruptError("the root directory has no inode", expected="the place of one", actual=f"{reference:#x}")
        return found[index]

    def _walk(self, root: Inode) -> None:
        waiting = [(_ROOT, root)]
        entered: set[int] = set()
        room = PathRoom()
        while waiting:
            path, inode = waiting.pop()
            number = inode.base.inode_number
            if number not in self._by_inode:
                self._by_inode[number] = self._node(inode)
            self.nodes[path] = self._by_inode[number]
            self.paths.setdefault(number, path)
            if inode.base.inode_type not in (InodeType.DIR, InodeType.LDIR):
                continue
            if number in entered:
                raise CorruptError("a directory has two names", expected="one", actual=path)
            entered.add(number)
            for child, name in self._entries(inode):
                if child not in self._by_number:
                    raise CorruptError("a name without an inode", expected="one of the table", actual=f"{path}/{name}")
                waiting.append((room.take(path.rstrip(_ROOT) + _ROOT + name), self._by_number[child]))

    def _node(self, inode: Inode) -> Node:
        target = b""
        if inode.base.inode_type in (InodeType.SYMLINK, InodeType.LSYMLINK):
            start = inode.offset + SymlinkInode.SIZE
            target = self._inodes[start : start + SymlinkInode.parse(self._inodes, inode.offset).symlink_size]
        return Node(inode, inode.file, target)

    def _entries(self, inode: Inode) -> Iterator[tuple[int, str]]:
        """Yield number and name of each entry of a directory."""
        structure = DirInode if inode.base.inode_type == InodeType.DIR else LdirInode
        directory = structure.parse(self._inodes, inode.offset)
        block = bisect.bisect_left(self._starts, directory.start_block)
        at = block * METADATA_SIZE + directory.offset
        end = at + directory.file_size - _DOTS
        if block == len(self._starts) or self._starts[block] != directory.start_block or end > len(self._directories):
            raise CorruptError(
                "a directory lies nowhere", expected="within the table", actual=f"{directory.start_block:#x}"
            )
        while at < end:
            header = DirHeader.parse(self._directories, at)
            at += DirHeader.SIZE
            for _ in range(header.count + 1):
                entry = DirEntry.parse(self._directories, at)
                name = self._directories[at + DirEntry.SIZE : at + DirEntry.SIZE + entry.size + 1]
                at += DirEntry.SIZE + entry.size + 1
                yield header.inode_number + entry.inode_number, name.decode("utf-8", "surrogateescape")


def _starts(opened: Opened) -> Iterator[int]:
    """Yield where each block of the directory table begins, from the start of the table."""
    at = 0
    for block in opened.stored:
        if block.table == "directories":
            yield at
            at += len(block.data)
