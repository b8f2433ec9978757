"""Reading ext4: groups, inodes, files, directories and paths.

Nothing here writes, mounts or needs privileges. Reads beyond the end of a truncated image give zeros, so damage can't
raise once the superblock was accepted; the methods that say so raise for a request that makes no sense.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from functools import cached_property

import msgspec

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.ext4.blocks import EMPTY, BlockMap, Limits, Run, extent_blocks, indirect_blocks
from rehydrator.fs.ext4.c_ext4 import (
    SUPER_OFFSET,
    FileType,
    GroupDesc,
    GroupDesc64,
    GroupFlag,
    InodeFlag,
    ReservedInode,
    SuperBlock,
)
from rehydrator.fs.ext4.checksums import metadata_seed
from rehydrator.fs.ext4.directory import Entry, entries
from rehydrator.fs.ext4.geometry import Geometry, read_geometry
from rehydrator.fs.ext4.inode import InodeInfo, Xattr, block_xattrs

MAX_FILE = 256 << 20
MAX_SYMLINKS = 40  # as the kernel's MAXSYMLINKS
_INLINE_PARENT = 4  # bytes of the parent's inode number before the entries of an inline directory
_DOTS = (b".", b"..")


class Group(msgspec.Struct, frozen=True):
    """A group descriptor with its halves put together. Block numbers and counts."""

    number: int
    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free_blocks: int
    free_inodes: int
    used_dirs: int
    itable_unused: int
    flags: GroupFlag
    raw: bytes

    @classmethod
    def parse(cls, number: int, raw: bytes) -> Group:
        """Parse a descriptor of 32 or at least 64 bytes."""
        low = GroupDesc.parse(raw)
        high = GroupDesc64.parse(raw) if len(raw) >= GroupDesc64.SIZE else None
        return cls(
            number=number,
            block_bitmap=low.bg_block_bitmap_lo | (high.bg_block_bitmap_hi << 32 if high else 0),
            inode_bitmap=low.bg_inode_bitmap_lo | (high.bg_inode_bitmap_hi << 32 if high else 0),
            inode_table=low.bg_inode_table_lo | (high.bg_inode_table_hi << 32 if high else 0),
            free_blocks=low.bg_free_blocks_count_lo | (high.bg_free_blocks_count_hi << 16 if high else 0),
            free_inodes=low.bg_free_inodes_count_lo | (high.bg_free_inodes_count_hi << 16 if high else 0),
            used_dirs=low.bg_used_dirs_count_lo | (high.bg_used_dirs_count_hi << 16 if high else 0),
            itable_unused=low.bg_itable_unused_lo | (high.bg_itable_unused_hi << 16 if high else 0),
            flags=GroupFlag(low.bg_flags),
            raw=raw,
        )


class Ext4:
    """An ext4 file system in ``source``, which begins where the file system does."""

    def __init__(self, source: Source) -> None:
        self.source = source
        if source.size < SUPER_OFFSET + SuperBlock.SIZE:
            raise CorruptError("not an ext4 file system: too small", actual=f"{source.size} bytes")
        self.superblock_raw = self.read(SUPER_OFFSET, SuperBlock.SIZE)
        self.superblock = SuperBlock.parse(self.superblock_raw)
        self.geometry: Geometry = read_geometry(self.superblock, source.size)
        self.seed = metadata_seed(self.superblock)
        self._groups: dict[int, Group] = {}

    # -- blocks

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from byte ``offset``; what is beyond the source reads as zeros."""
        held = max(min(length, self.source.size - offset), 0)
        data = bytes(self.source.read(offset, held)) if held else b""
        return data if held == length else data + bytes(length - held)

    def read_block(self, block: int) -> bytes:
        """Return one block."""
        return self.read(block * self.geometry.block_size, self.geometry.block_size)

    def valid_block(self, block: int, count: int = 1) -> bool:
        """Tell whether ``count`` blocks from ``block`` on lie in the file system, behind the first superblock."""
        return self.limits().valid(block, count)

    def limits(self) -> Limits:
        """Return fresh bounds for walking block trees."""
        return Limits(self.geometry.blocks_count, self.geometry.super_block)

    # -- groups

    def group(self, number: int) -> Group:
        """Return one group descriptor, read when first asked for."""
        if number not in self._groups:
            raw = self.read(self.geometry.desc_offset(number), self.geometry.desc_size)
            self._groups[number] = Group.parse(number, raw)
        return self._groups[number]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All group descriptors."""
        geometry = self.geometry
        found: list[Group] = []
        for index in range(geometry.desc_blocks):
            data = self.read_block(geometry.desc_block(index))
            first = index * geometry.descs_per_block
            for group in range(first, min(first + geometry.descs_per_block, geometry.group_count)):
                at = (group - first) * geometry.desc_size
                found.append(Group.parse(group, data[at : at + geometry.desc_size]))
        return tuple(found)

    def inodes_initialised(self, group: Group) -> int:
        """How many inodes of ``group`` were ever written; the rest of its table is to be ignored."""
        per_group = self.geometry.inodes_per_group
        if not self.geometry.group_csum:
            return per_group
        if GroupFlag.INODE_UNINIT in group.flags:
            return 0
        return max(per_group - group.itable_unused, 0)

    def block_bitmap(self, group: Group) -> bytes | None:
        """The block bitmap of ``group``; None when it was never written or can't be read."""
        unwritten = self.geometry.group_csum and GroupFlag.BLOCK_UNINIT in group.flags
        return None if unwritten or not self.valid_block(group.block_bitmap) else self.read_block(group.block_bitmap)

    def inode_bitmap(self, group: Group) -> bytes | None:
        """The inode bitmap of ``group``; None when it was never written or can't be read."""
        unwritten = self.geometry.group_csum and GroupFlag.INODE_UNINIT in group.flags
        return None if unwritten or not self.valid_block(group.inode_bitmap) else self.read_block(group.inode_bitmap)

    # -- inodes

    def inode_offset(self, ino: int) -> int:
        """Byte offset of an inode. Raises CorruptError for a number that does not exist."""
        if not self.geometry.valid_ino(ino):
            raise CorruptError("no such inode", actual=ino, expected=f"1 to {self.geometry.inodes_count}")
        group, index = self.geometry.inode_position(ino)
        table = self.group(group).inode_table
        return table * self.geometry.block_size + index * self.geometry.inode_size

    def inode(self, ino: int) -> InodeInfo:
        """Read one inode. Raises CorruptError for a number that does not exist."""
        return InodeInfo.parse(ino, self.read(self.inode_offset(ino), self.geometry.inode_size))

    def block_map(self, inode: InodeInfo, limits: Limits | None = None) -> BlockMap:
        """Return the blocks of a file, directory or symlink; empty for what has none."""
        return self.block_map_of(
            inode.disk.i_block, inode.disk.i_flags, has_blocks=self.has_blocks(inode), limits=limits or self.limits()
        )

    def block_map_of(self, i_block: bytes, i_flags: int, *, has_blocks: bool, limits: Limits) -> BlockMap:
        """Return the blocks that ``i_block`` points to."""
        if not has_blocks:
            return EMPTY
        if i_flags & InodeFlag.EXTENTS:
            return extent_blocks(i_block, self.read_block, limits)
        return indirect_blocks(i_block, self.read_block, limits, self.geometry.block_size)

    def has_blocks(self, inode: InodeInfo) -> bool:
        """Tell whether ``i_block`` points to blocks (and does not hold a device number or content)."""
        if inode.inline or inode.fast_symlink(self.geometry.block_size):
            return False
        typed = inode.file_type in (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
        return typed or inode.number in (ReservedInode.BAD, ReservedInode.BOOT_LOADER, ReservedInode.JOURNAL)

    # -- content

    def read_file(self, ino: int, limit: int = MAX_FILE) -> bytes:
        """Return the content of a file, or the target of a symlink; holes and unwritten extents are zeros.

        Raises CorruptError when it is larger than ``limit`` bytes.
        """
        inode = self.inode(ino)
        if inode.size > limit:
            raise CorruptError(f"inode {ino} is too large to be read", expected=f"at most {limit}", actual=inode.size)
        if inode.inline:
            return inode.inline_data()[: inode.size]
        if inode.fast_symlink(self.geometry.block_size):
            return inode.disk.i_block[: inode.size]
        content = bytearray(inode.size)
        block_size = self.geometry.block_size
        for run in self.block_map(inode).runs:
            start = run.logical * block_size
            length = min(run.count * block_size, inode.size - start)
            if length > 0 and not run.unwritten:
                content[start : start + length] = self.read(run.physical * block_size, length)
        return bytes(content)

    def entries(self, ino: int) -> Iterator[Entry]:
        """Yield the entries of a directory but ``.`` and ``..``; nothing for what is no directory."""
        inode = self.inode(ino)
        if not inode.is_dir:
            return
        for part in self.directory_parts(inode):
            yield from (entry for entry in entries(part) if entry.name not in _DOTS)

    def directory_parts(self, inode: InodeInfo) -> Iterator[bytes]:
        """Yield each block of a directory, or the two parts of one with inline data."""
        if inode.inline:
            data = inode.inline_data()
            room = len(inode.disk.i_block)
            yield data[_INLINE_PARENT:room]
            yield data[room:]
            return
        block_size = self.geometry.block_size
        for run in self.block_map(inode).runs:
            data = self.read(run.physical * block_size, run.count * block_size)
            for at in range(0, len(data), block_size):
                yield data[at : at + block_size]

    def xattrs(self, ino: int) -> tuple[Xattr, ...]:
        """Return the extended attributes of an inode: those in it, then those of its attribute block."""
        inode = self.inode(ino)
        found = list(inode.ibody_xattrs())
        if inode.file_acl and self.valid_block(inode.file_acl):
            found += block_xattrs(self.read_block(inode.file_acl))
        return tuple(found)

    def block_reader(self, runs: tuple[Run, ...]) -> Callable[[int, int], bytes]:
        """Return a function that reads (first logical block, count) of the file with these runs."""
        ordered = sorted(runs, key=lambda run: run.logical)
        starts = [run.logical for run in ordered]
        size = self.geometry.block_size

        def read(first: int, count: int) -> bytes:
            content = bytearray(count * size)
            for run in ordered[max(bisect.bisect_right(starts, first) - 1, 0) :]:
                if run.logical >= first + count:
                    break
                start, stop = max(run.logical, first), min(run.logical + run.count, first + count)
                if start < stop:
                    data = self.read((run.physical + start - run.logical) * size, (stop - start) * size)
                    content[(start - first) * size : (stop - first) * size] = data
            return bytes(content)

        return read

    # -- paths

    def lookup(self, path: str, *, follow: bool = True) -> int | None:
        """Return the inode at an absolute ``path``, None when there is none.

        Symlinks on the way are resolved within the file system; one at the end only with ``follow``.
        """
        todo = [
            part for part in reversed(path.encode("utf-8", "surrogateescape").split(b"/")) if part not in (b"", b".")
        ]
        trail: list[int] = [ReservedInode.ROOT]
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":
                trail = trail[:-1] or [ReservedInode.ROOT]
                continue
            child = next((entry.inode for entry in self.entries(trail[-1]) if entry.name == part), 0)
            if not self.geometry.valid_ino(child):
                return None
            if (todo or follow) and self.inode(child).file_type == FileType.SYMLINK:
                links += 1
                if links > MAX_SYMLINKS:
                    return None
                target = self.read_file(child)
                if target.startswith(b"/"):
                    trail = [ReservedInode.ROOT]
                todo += _steps(target)
                continue
            trail.append(child)
        return trail[-1]


def _steps(path: bytes) -> list[bytes]:
    """Return the names of a path, the last one first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
