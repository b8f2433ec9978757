"""Reading an XFS file system: inodes, paths and files.

:class:`Xfs` is the reader below the owner map. Opening reads the superblock only; the map of the whole file system
(:attr:`Xfs.mapper`) and the log are made when they are first needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.xfs.btree import BtreeBlock, BtreeWalker
from rehydrator.fs.xfs.c_xfs import XFS_SYMLINK_MAGIC, DinodeFormat, Incompat, XfsDsymlinkHdr
from rehydrator.fs.xfs.directory import DATA_MAGICS, Entry, block_entries, short_form
from rehydrator.fs.xfs.geometry import geometry, read_superblock
from rehydrator.fs.xfs.inode import Inode, Mapping, fork_mappings, parse_inode
from rehydrator.fs.xfs.log import XfsLog
from rehydrator.fs.xfs.mapping import Mapper, directory_blocks
from rehydrator.fs.xfs.reader import Reader

_MAX_SYMLINKS = 40
_MAX_FILE = 1 << 30


class Xfs:
    """An XFS file system in ``source``, which holds nothing else.

    Raises CorruptError when there is no XFS and UnsupportedError for version 4 and realtime devices.
    """

    def __init__(self, source: Source) -> None:
        self.superblock = read_superblock(source)
        self.geometry = geometry(self.superblock)
        self.reader = Reader(source)
        self.ftype = bool(self.geometry.incompat & Incompat.FTYPE)

    @cached_property
    def mapper(self) -> Mapper:
        """The map of the whole file system."""
        return Mapper(self.reader, self.geometry, self.superblock)

    @cached_property
    def log(self) -> XfsLog:
        """The parsed log."""
        return XfsLog(self.reader, self.geometry)

    def inode(self, number: int) -> Inode | None:
        """Read inode ``number``; None when there is no intact one."""
        size = self.geometry.inode_size
        return parse_inode(number, self.reader.read(self.geometry.inode_byte(number), size), 0, size)

    def mappings(self, inode: Inode, attributes: bool = False) -> Iterator[Mapping]:
        """Yield the valid extents of the data (or attribute) fork in order."""
        form, fork, count = inode.format, inode.data_fork, inode.extents
        if attributes:
            form, fork, count = inode.attribute_format, inode.attribute_fork, inode.attribute_extents
        for mapping in fork_mappings(form, fork, count, self.fork_blocks(inode, attributes)):
            if self.geometry.fsblock_valid(mapping.start_block, mapping.blocks):
                yield mapping

    def fork_blocks(self, inode: Inode, attributes: bool = False) -> Iterator[BtreeBlock]:
        """Yield the blocks of a fork's block map, if it has any."""
        form, fork = inode.format, inode.data_fork
        if attributes:
            form, fork = inode.attribute_format, inode.attribute_fork
        if form == DinodeFormat.BTREE:
            yield from BtreeWalker(self.reader, self.geometry).fork(f"inode {inode.number}", fork)

    def directory(self, inode: Inode) -> Iterator[Entry]:
        """Yield the entries of a directory, without ``.`` and ``..``."""
        if inode.format == DinodeFormat.LOCAL:
            yield from short_form(inode.data_fork, self.ftype)[1]
            return
        for _, block in directory_blocks(self.reader, self.geometry, self.mappings(inode)):
            if int.from_bytes(block[:4], "big") in DATA_MAGICS:
                for entry in block_entries(block, self.ftype):
                    if entry.name not in {b".", b".."}:
                        yield entry

    def read_file(self, inode: Inode) -> bytes:
        """Return the content of a regular file, or the target of a symbolic link. Raises CorruptError above 1 GiB."""
        if inode.size > _MAX_FILE:
            raise CorruptError(f"inode {inode.number} is too large to read at once", actual=inode.size)
        if inode.format == DinodeFormat.LOCAL:
            return inode.data_fork[: inode.size]
        if inode.is_symlink:
            return self._remote_target(inode)
        data = bytearray(inode.size)
        for mapping in self.mappings(inode):
            at = mapping.start_offset << self.geometry.block_log
            length = min(mapping.blocks << self.geometry.block_log, inode.size - at)
            if length > 0 and not mapping.unwritten:
                content = self.reader.read(self.geometry.fsblock_byte(mapping.start_block), length)
                data[at : at + len(content)] = content
        return bytes(data)

    def _remote_target(self, inode: Inode) -> bytes:
        target = b""
        for mapping in self.mappings(inode):
            length = mapping.blocks << self.geometry.block_log
            block = self.reader.read(self.geometry.fsblock_byte(mapping.start_block), min(length, _MAX_FILE))
            if len(block) >= XfsDsymlinkHdr.SIZE:
                header = XfsDsymlinkHdr.parse(block)
                if header.sl_magic == XFS_SYMLINK_MAGIC:
                    target += block[XfsDsymlinkHdr.SIZE :][: header.sl_bytes]
        return target[: inode.size]

    def lookup(self, path: str, *, follow: bool = True) -> Inode | None:
        """Return the inode that ``path`` leads to, or None. ``follow`` a symbolic link at its end as well."""
        return self._lookup([self.geometry.root_inode], path, follow, _MAX_SYMLINKS)

    def _lookup(self, start: list[int], path: str, follow: bool, budget: int) -> Inode | None:
        trail = [self.geometry.root_inode] if path.startswith("/") else list(start)
        parts = [part for part in path.split("/") if part not in {"", "."}]
        inode = self.inode(trail[-1])
        for index, part in enumerate(parts):
            if part == "..":
                trail = trail[:-1] or trail
                inode = self.inode(trail[-1])
                continue
            inode = self.inode(trail[-1])
            if inode is None or not inode.is_directory:
                return None
            name = part.encode("utf-8", "surrogateescape")
            number = next((entry.inode for entry in self.directory(inode) if entry.name == name), None)
            inode = None if number is None else self.inode(number)
            if inode is None:
                return None
            rest = "/".join(parts[index + 1 :])
            if inode.is_symlink and (rest or follow):
                if not budget:
                    return None
                target = self.read_file(inode).decode("utf-8", "surrogateescape")
                return self._lookup(trail, f"{target}/{rest}" if rest else target, follow, budget - 1)
            trail.append(inode.number)
        return inode
