"""Files by path, in whatever file system: does one exist, and is it the same on both sides?"""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

import msgspec

from rehydrator.errors import RehydratorError
from rehydrator.fs.erofs.owner import ErofsFilesystem
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.fat.owner import FatFilesystem
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.fs.place import Filesystem
from rehydrator.fs.squashfs.owner import SquashfsFilesystem
from rehydrator.fs.xfs.owner import XfsFilesystem

MAX_COMPARED = 64 << 20


class Entry(msgspec.Struct, frozen=True):
    """A file, directory or whatever has a path: its inode ``number``, its kind in words and its size."""

    number: int
    kind: str
    size: int


class Tree(ABC):
    """The files of one file system. Damage shows as files that are not there."""

    @abstractmethod
    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``, None for nothing."""

    @abstractmethod
    def read(self, path: str, entry: Entry) -> bytes:
        """Return the content of a file or the target of a symbolic link."""

    def content(self, path: str) -> bytes | None:
        """Return the content at ``path``; None for what is no file, too large to compare, or unreadable."""
        entry = self.entry(path)
        if entry is None or entry.kind not in ("file", "symlink") or entry.size > MAX_COMPARED:
            return None
        try:
            return self.read(path, entry)
        except RehydratorError:
            return None


class InodeTree(Tree):
    """A file system with inodes; ``known`` are those of paths that need no search, and may grow."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self._known = known

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return self.index()

    @abstractmethod
    def index(self) -> dict[str, int]:
        """Return the inode number of every path."""

    @abstractmethod
    def entry_of(self, number: int) -> Entry | None:
        """Return what an inode is."""

    def entry(self, path: str) -> Entry | None:
        """Find the inode of a path and read it."""
        number = self._known.get(path) or self._numbers.get(path)
        try:
            return None if number is None else self.entry_of(number)
        except RehydratorError:
            return None


def _kind(mode: int) -> str:
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return "file"
        case stat.S_IFDIR:
            return "directory"
        case stat.S_IFLNK:
            return "symlink"
    return "special file"


class Ext4Tree(InodeTree):
    """The files of an ext4 file system."""

    def __init__(self, filesystem: Ext4Filesystem, known: Mapping[str, int]) -> None:
        super().__init__(known)
        self._filesystem = filesystem

    def index(self) -> dict[str, int]:
        """Return the inode number of every path."""
        return {self._filesystem.path(number): number for number in self._filesystem.scan.parents}

    def entry_of(self, number: int) -> Entry | None:
        """Read an inode."""
        inode = self._filesystem.fs.inode(number)
        return Entry(number, _kind(inode.disk.i_mode), inode.size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        return self._filesystem.fs.read_file(entry.number, MAX_COMPARED)


class XfsTree(InodeTree):
    """The files of an XFS file system."""

    def __init__(self, filesystem: XfsFilesystem, known: Mapping[str, int]) -> None:
        super().__init__(known)
        self._filesystem = filesystem

    def index(self) -> dict[str, int]:
        """Return the inode number of every path."""
        names = self._filesystem.reader.mapper.names
        return {names.path(number): number for number, _, _ in names.linked()}

    def entry_of(self, number: int) -> Entry | None:
        """Read an inode."""
        inode = self._filesystem.reader.inode(number)
        return None if inode is None else Entry(number, _kind(inode.mode), inode.size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        inode = self._filesystem.reader.inode(entry.number)
        return b"" if inode is None else self._filesystem.reader.read_file(inode)


class FatTree(Tree):
    """The files of a FAT file system, which knows them by path."""

    def __init__(self, filesystem: FatFilesystem) -> None:
        self._reader = filesystem.reader

    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``."""
        node = self._reader.nodes.get(path)
        return None if node is None else Entry(0, "directory" if node.directory else "file", node.size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        return self._reader.content(self._reader.nodes[path])[: entry.size]


class IsoTree(Tree):
    """The files of an ISO 9660 image."""

    def __init__(self, filesystem: IsoFilesystem) -> None:
        self._reader = filesystem.reader

    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``."""
        node = self._reader.nodes.get(path)
        return None if node is None else Entry(0, "directory" if node.directory else "file", node.size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        return self._reader.content(self._reader.nodes[path])


class SquashfsTree(Tree):
    """The files of a squashfs file system."""

    def __init__(self, filesystem: SquashfsFilesystem) -> None:
        self._filesystem = filesystem

    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``."""
        node = self._filesystem.nodes.get(path)
        return None if node is None else Entry(node.inode.base.inode_number, _kind(node.mode), node.size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        return self._filesystem.content(self._filesystem.nodes[path], MAX_COMPARED)


class ErofsTree(Tree):
    """The files of an erofs file system, of which compressed ones can't be read."""

    def __init__(self, filesystem: ErofsFilesystem) -> None:
        self._filesystem = filesystem

    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``."""
        node = self._filesystem.nodes.get(path)
        return None if node is None else Entry(node.nid, _kind(node.inode.i_mode), node.inode.i_size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        return self._filesystem.reader.read(self._filesystem.nodes[path], MAX_COMPARED)


def tree_of(filesystem: Filesystem | None, known: Mapping[str, int]) -> Tree | None:
    """Return the files of a file system; None where they can't be told."""
    tree: Tree | None = None
    match filesystem:
        case Ext4Filesystem():
            tree = Ext4Tree(filesystem, known)
        case XfsFilesystem():
            tree = XfsTree(filesystem, known)
        case FatFilesystem():
            tree = FatTree(filesystem)
        case IsoFilesystem():
            tree = IsoTree(filesystem)
        case SquashfsFilesystem():
            tree = SquashfsTree(filesystem)
        case ErofsFilesystem():
            tree = ErofsTree(filesystem)
    return tree


class Pair:
    """The same partition on both sides."""

    def __init__(self, a: Tree | None, b: Tree | None) -> None:
        self.a = a
        self.b = b
        self._same: dict[str, bool] = {}

    def same(self, path: str) -> bool:
        """Tell whether a file has the same content on both sides; each is compared once."""
        if path not in self._same:
            self._same[path] = self._compare(path)
        return self._same[path]

    def _compare(self, path: str) -> bool:
        if self.a is None or self.b is None:
            return False
        one, two = self.a.entry(path), self.b.entry(path)
        if one is None or two is None or (one.kind, one.size) != (two.kind, two.size):
            return False
        content = self.a.content(path)
        return content is not None and content == self.b.content(path)
