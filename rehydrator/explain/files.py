"""Files by path, in whatever file system: does one exist, and is it the same on both sides?"""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import RehydratorError
from rehydrator.fs.cpio.owner import CpioFilesystem
from rehydrator.fs.erofs.owner import ErofsFilesystem
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.fat.owner import FatFilesystem
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.fs.place import Filesystem
from rehydrator.fs.squashfs.owner import SquashfsFilesystem
from rehydrator.fs.xfs.owner import XfsFilesystem

MAX_COMPARED = 64 << 20
_WITH_CONTENT = ("file", "symlink")


class Entry(msgspec.Struct, frozen=True):
    """A file, directory or whatever has a path: its inode ``number``, its kind in words and its size."""

    number: int
    kind: str
    size: int


class Tree(ABC):
    """The files of one file system. Damage shows as files that are not there."""

    @abstractmethod
    def paths(self) -> Iterable[str]:
        """Return the paths of all files and directories; of a file with several names one at least."""

    @abstractmethod
    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``, None for nothing."""

    @abstractmethod
    def read(self, path: str, entry: Entry) -> bytes:
        """Return the content of a file or the target of a symbolic link."""

    packed = False  # whether bytes of the image belong to several files at once, since they are compressed together

    def suspects(self, touched: Iterable[str]) -> set[str]:
        """Return what may differ where bytes of the files ``touched`` do."""
        return set(touched)

    def window(self, path: str) -> Source | None:
        """Return where the content of a file can be read piece by piece; None where that is not how it lies."""
        del path
        return None

    def content(self, path: str) -> bytes | None:
        """Return the content at ``path``; None for what is no file, too large to compare, or unreadable."""
        entry = self.entry(path)
        if entry is None or entry.kind not in _WITH_CONTENT or entry.size > MAX_COMPARED:
            return None
        try:
            return self.read(path, entry)
        except RehydratorError:
            return None

    def source(self, path: str) -> Source | None:
        """Return the same of a file of any size that can be read piece by piece."""
        source = self.window(path)
        if source is None and (content := self.content(path)) is not None:
            return BytesSource(content)
        return source


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
    def find(self, path: str) -> int | None:
        """Return the inode number of a path by its directories: a file may have several names."""

    @abstractmethod
    def entry_of(self, number: int) -> Entry | None:
        """Return what an inode is."""

    def paths(self) -> Iterable[str]:
        """Return one path of each inode."""
        return self._numbers

    def entry(self, path: str) -> Entry | None:
        """Find the inode of a path and read it."""
        try:
            number = self._known.get(path) or self._numbers.get(path) or self.find(path)
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

    def find(self, path: str) -> int | None:
        """Follow the directories."""
        return self._filesystem.fs.lookup(path)

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

    def find(self, path: str) -> int | None:
        """Follow the directories."""
        inode = self._filesystem.reader.lookup(path)
        return inode.number if inode else None

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

    def paths(self) -> Iterable[str]:
        """Return all paths."""
        return self._reader.nodes

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

    def paths(self) -> Iterable[str]:
        """Return all paths."""
        return self._reader.nodes

    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``."""
        node = self._reader.nodes.get(path)
        return None if node is None else Entry(0, "directory" if node.directory else "file", node.size)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file."""
        return self._reader.content(self._reader.nodes[path])

    def window(self, path: str) -> Source | None:
        """Return where it lies."""
        node = self._reader.nodes.get(path)
        return None if node is None or node.directory else self._reader.source(node)


class CpioTree(Tree):
    """The members of cpio archives, and the archives that are compressed."""

    def __init__(self, filesystem: CpioFilesystem) -> None:
        self._filesystem = filesystem

    def paths(self) -> Iterable[str]:
        """Return all paths."""
        return self._filesystem.nodes

    def entry(self, path: str) -> Entry | None:
        """Return what lies at ``path``."""
        node = self._filesystem.nodes.get(path)
        return None if node is None else Entry(0, _kind(node.mode), node.content.length)

    def read(self, path: str, entry: Entry) -> bytes:
        """Read a file or a link."""
        return bytes(self._filesystem.content(self._filesystem.nodes[path]).read(0, entry.size))

    def window(self, path: str) -> Source | None:
        """Return where it lies."""
        node = self._filesystem.nodes.get(path)
        return None if node is None else self._filesystem.content(node)


class SquashfsTree(Tree):
    """The files of a squashfs file system."""

    packed = True

    def __init__(self, filesystem: SquashfsFilesystem) -> None:
        self._filesystem = filesystem

    def paths(self) -> Iterable[str]:
        """Return one path of each inode."""
        return self._filesystem.paths.values()

    def suspects(self, touched: Iterable[str]) -> set[str]:
        """Return the files in touched blocks, which are compressed, and all links, which lie in a compressed table."""
        nodes = self._filesystem.nodes
        return self._filesystem.companions(touched) | {path for path in self.paths() if nodes[path].target}

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

    def paths(self) -> Iterable[str]:
        """Return all paths."""
        return self._filesystem.nodes

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
        case CpioFilesystem():
            tree = CpioTree(filesystem)
        case SquashfsFilesystem():
            tree = SquashfsTree(filesystem)
        case ErofsFilesystem():
            tree = ErofsTree(filesystem)
    return tree


def _equal(a: Source, b: Source) -> bool:
    try:
        steps = ((at, min(CHUNK, a.size - at)) for at in range(0, a.size, CHUNK))
        return a.size == b.size and all(bytes(a.read(*step)) == bytes(b.read(*step)) for step in steps)
    except RehydratorError:
        return False


class Compared(msgspec.Struct, frozen=True):
    """Paths of all that only one tree has or that is unlike in both, and of files and links of the same content."""

    unlike: list[str]
    same: list[str]


class Pair:
    """The same partition on both sides."""

    def __init__(self, a: Tree | None, b: Tree | None) -> None:
        self.a = a
        self.b = b
        self._same: dict[str, bool] = {}

    @cached_property
    def trees(self) -> Compared:
        """Every file, directory and link of both trees; made by reading all content."""
        ours, theirs = (set(tree.paths()) if tree else set() for tree in (self.a, self.b))
        only = {path for path in ours - theirs if self.b is None or self.b.entry(path) is None}
        unlike = [path for path in theirs if not self.same(path)]
        same = [path for path in theirs.difference(unlike) if self.has_content(path)]
        return Compared([*only, *unlike], same)

    def suspected(self, touched: Iterable[str]) -> set[str]:
        """Return what is unlike beside the files ``touched``, where the latter do not tell."""
        if self.a is None or self.b is None or not (self.a.packed and self.b.packed):
            return set()
        suspects = self.a.suspects(touched) | self.b.suspects(touched) | (set(self.a.paths()) ^ set(self.b.paths()))
        return {path for path in suspects if not self.same(path)}

    def has_content(self, path: str) -> bool:
        """Whether B has a file or symbolic link at ``path``."""
        entry = self.b.entry(path) if self.b else None
        return entry is not None and entry.kind in _WITH_CONTENT

    def same(self, path: str) -> bool:
        """Tell whether a file has the same content on both sides; each is compared once."""
        if path not in self._same:
            self._same[path] = self._compare(path)
        return self._same[path]

    def _compare(self, path: str) -> bool:
        if self.a is None or self.b is None:
            return False
        one, two = self.a.entry(path), self.b.entry(path)
        if one is None or two is None or one.kind != two.kind:
            return False
        if one.kind not in _WITH_CONTENT:
            return True
        if one.size != two.size:
            return False
        ours, theirs = self.a.source(path), self.b.source(path)
        return ours is not None and theirs is not None and _equal(ours, theirs)
