"""The owner map of a squashfs file system: the name of every byte."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.place import Filesystem, Health, Kind, Place, cut
from rehydrator.fs.squashfs.c_squashfs import SuperBlock
from rehydrator.fs.squashfs.content import FilesContent
from rehydrator.fs.squashfs.names import Names, Node
from rehydrator.fs.squashfs.plan import PlacedFile
from rehydrator.fs.squashfs.tables import TableName, open_file_system

_KINDS: dict[TableName, Kind] = {
    "inodes": Kind.INODE,
    "directories": Kind.DIRECTORY,
    "xattrs": Kind.XATTR_BLOCK,
    "xattr ids": Kind.XATTR_BLOCK,
    "xattr index": Kind.XATTR_BLOCK,
}


class _Segment(msgspec.Struct, frozen=True):
    """Bytes from ``start`` on that have one owner; ``offset`` is the first one's place in the file."""

    start: int
    kind: Kind
    name: str
    path: str = ""
    offset: int = 0
    number: int = 0
    fields: tuple[FieldSpan, ...] = ()


class SquashfsFilesystem(Filesystem):
    """Squashfs. Raises CorruptError and UnsupportedError on opening; after that damage is only reported.

    Blocks are compressed: a byte of one depends on all of its content, and where one became larger all that follows
    lies elsewhere. ``files`` is the content of all files.
    """

    type = "squashfs"

    def __init__(self, source: Source, path: Path = Path()) -> None:
        self.size = source.size
        self.opened = open_file_system(source)
        self.files = FilesContent(self.opened, path)
        self._places = {item.inode_number: item for item in self.opened.plan.files}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """What lies at each path; nothing where directories are damaged."""
        return self._names.nodes if self._names else {}

    @cached_property
    def _names(self) -> Names | None:
        try:
            return Names(self.opened)
        except CorruptError as error:
            self._problem = error.message
            return None

    @property
    def paths(self) -> dict[int, str]:
        """One path of each inode, by its number."""
        return self._names.paths if self._names else {}

    def companions(self, paths: Iterable[str]) -> set[str]:
        """Return the files that share a block with one of ``paths``, these included: bytes of it are of all of them."""
        wanted = {_number(self.nodes[path]) for path in paths if path in self.nodes}
        found: set[int] = set()
        for numbers in self._sharing():
            if not wanted.isdisjoint(numbers):
                found |= numbers
        return {path for number in found if (path := self.paths.get(number)) is not None}

    def _sharing(self) -> Iterator[set[int]]:
        """Yield the inodes that have a part in each block."""
        files = self.opened.plan.files
        places = [item.place for item in files]
        for block in self.opened.plan.blocks:
            yield {files[bisect_right(places, piece.place) - 1].inode_number for piece in block.pieces}

    def content(self, node: Node, limit: int) -> bytes:
        """Return up to ``limit`` bytes of a file, or a link's target; raises CorruptError for damaged blocks."""
        if node.file is None:
            return node.target
        size = min(node.size, limit)
        found = self.placed(node)
        return bytes(self.files.read(found.place, size)) if found is not None else bytes(size)

    def placed(self, node: Node) -> PlacedFile | None:
        """Return where the content of a regular file lies in :attr:`files`; None for one that is all zeros."""
        return self._places.get(node.inode.base.inode_number) or self._shared.get(_key(node))

    @cached_property
    def _shared(self) -> dict[tuple[object, ...], PlacedFile]:
        """Where the content of files lies that others share, by what they have in common."""
        nodes = (node for node in self.nodes.values() if node.file is not None)
        return {_key(node): self._places[number] for node in nodes if (number := _number(node)) in self._places}

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along blocks and tables."""
        segments, starts = self._map
        for number, extent in cut(ranges, starts, self.size):
            found = segments[number]
            yield Place(
                extent, found.start, found.kind, found.name, found.number, found.path, found.offset, found.fields
            )

    def health(self) -> Iterator[Health]:
        """Check the directories: the format has no checksums."""
        if self._names is None:
            yield Health("directories", self.opened.superblock.directory_table_start, self._problem)

    # -- the map

    @cached_property
    def _map(self) -> tuple[list[_Segment], list[int]]:
        found = sorted(self._owned(), key=lambda segment: segment.start)
        return found, [segment.start for segment in found]

    def _owned(self) -> Iterator[_Segment]:
        opened = self.opened
        yield _Segment(0, Kind.SUPERBLOCK, "superblock", fields=SuperBlock.FIELDS)
        for gap in opened.plan.gaps:
            yield _Segment(gap.offset, Kind.UNKNOWN, "between the blocks")
        if opened.data_start > SuperBlock.SIZE:
            yield _Segment(SuperBlock.SIZE, Kind.SUPERBLOCK, "options of the compressor")
        yield from self._blocks()
        for start, name in opened.starts:
            kind = _KINDS.get(name, Kind.LOOKUP_TABLE)
            yield _Segment(start, kind, name if "index" in name else f"table of {name}")
        if opened.superblock.bytes_used < self.size:
            yield _Segment(opened.superblock.bytes_used, Kind.SLACK, "behind the file system")

    def _blocks(self) -> Iterator[_Segment]:
        """Yield the blocks; the ends of several files in one share it by their sizes, with one byte or more each."""
        files = self.opened.plan.files
        places = [item.place for item in files]
        for block in self.opened.plan.blocks:
            length, at = block.length, block.start
            for piece in block.pieces:
                file = files[bisect_right(places, piece.place) - 1]
                path = self._names.paths.get(file.inode_number, "") if self._names else ""
                name = f"data of {path or f'inode {file.inode_number}'}"
                at = max(block.start + block.size * piece.offset // length, at)
                if at == block.end:
                    break
                yield _Segment(at, Kind.FILE_DATA, name, path, piece.place - file.place, file.inode_number)
                at += 1


def _number(node: Node) -> int:
    return node.inode.base.inode_number


def _key(node: Node) -> tuple[object, ...]:
    file = node.file
    return () if file is None else (file.start_block, file.fragment, file.offset, file.file_size, file.words)
