"""One inode as a value: its raw bytes and what they say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.fs.ext4.c_ext4 import FILE_TYPE_MASK, GOOD_OLD_INODE_SIZE, FileType, Inode, InodeFlag, LargeInode
from rehydrator.fs.ext4.c_ext4_xattr import XATTR_MAGIC, XATTR_PREFIXES, XattrEntry, XattrHeader, XattrIbodyHeader

SECTOR = 512
_U16 = struct.Struct("<H")
_PAD = 4
INLINE_DATA_XATTR = "system.data"


def extra_isize(raw: bytes | memoryview) -> int:
    """``i_extra_isize`` of an inode in bytes, 0 where it is absent or impossible."""
    if len(raw) <= GOOD_OLD_INODE_SIZE:
        return 0
    size: int = _U16.unpack_from(raw, LargeInode.offset_of("i_extra_isize"))[0]
    return size if size % _PAD == 0 and GOOD_OLD_INODE_SIZE + size <= len(raw) else 0


@lru_cache(maxsize=256)
def inode_fields(inode_size: int, extra: int) -> tuple[FieldSpan, ...]:
    """Fields of an inode of ``inode_size`` bytes with ``extra`` bytes of ``i_extra_isize``.

    The room for attributes behind the fields is named ``i_xattr_ibody``.
    """
    if inode_size <= GOOD_OLD_INODE_SIZE:
        return Inode.FIELDS
    known = max(GOOD_OLD_INODE_SIZE + extra, LargeInode.offset_of("i_checksum_hi"))
    spans = [span for span in LargeInode.FIELDS if span.offset + span.size <= known]
    end = spans[-1].offset + spans[-1].size
    if known > end:
        spans.append(FieldSpan("i_extra", end, known - end))
    if inode_size > known:
        spans.append(FieldSpan("i_xattr_ibody", known, inode_size - known))
    return tuple(spans)


class InodeInfo(msgspec.Struct, frozen=True):
    """An inode: its number, its ``s_inode_size`` raw bytes and its fields."""

    number: int
    raw: bytes
    disk: Inode

    @classmethod
    def parse(cls, number: int, raw: bytes) -> InodeInfo:
        """Parse raw bytes; the fields that ``i_extra_isize`` does not cover are those of an attribute."""
        large = len(raw) >= LargeInode.SIZE
        return cls(number, raw, LargeInode.parse(raw) if large else Inode.parse(raw))

    @property
    def file_type(self) -> int:
        """The type bits of ``i_mode``, a :class:`FileType` where they make sense."""
        return self.disk.i_mode & FILE_TYPE_MASK

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.file_type == FileType.DIRECTORY

    @property
    def flags(self) -> InodeFlag:
        """``i_flags``."""
        return InodeFlag(self.disk.i_flags)

    @property
    def size(self) -> int:
        """``i_size`` in bytes; the high half counts for regular files only, as in the kernel."""
        high = self.disk.i_size_high if self.file_type == FileType.REGULAR else 0
        return self.disk.i_size_lo | high << 32

    @property
    def file_acl(self) -> int:
        """The attribute block, 0 for none."""
        return self.disk.i_file_acl_lo | self.disk.i_file_acl_high << 32

    @property
    def inline(self) -> bool:
        """Whether the content is kept in the inode by the inline_data feature."""
        return InodeFlag.INLINE_DATA in self.flags

    def fast_symlink(self, block_size: int) -> bool:
        """Tell whether the target of a symlink is in ``i_block`` (``ext4_inode_is_fast_symlink``)."""
        if self.file_type != FileType.SYMLINK or self.inline or self.size > len(self.disk.i_block):
            return False
        return self.disk.i_blocks_lo <= (block_size // SECTOR if self.file_acl else 0)

    @property
    def fields(self) -> tuple[FieldSpan, ...]:
        """The layout of this inode."""
        return inode_fields(len(self.raw), extra_isize(self.raw))

    def ibody_xattrs(self) -> Iterator[Xattr]:
        """Yield the attributes within the inode."""
        start = GOOD_OLD_INODE_SIZE + extra_isize(self.raw)
        if start + XattrIbodyHeader.SIZE > len(self.raw) or start == GOOD_OLD_INODE_SIZE:
            return
        if XattrIbodyHeader.parse(self.raw, start).h_magic == XATTR_MAGIC:
            first = start + XattrIbodyHeader.SIZE
            yield from _xattr_entries(self.raw, first, first)

    def inline_data(self) -> bytes:
        """Content of a file with inline data: ``i_block``, then the value of ``system.data``."""
        rest = next((item.value for item in self.ibody_xattrs() if item.name == INLINE_DATA_XATTR), b"")
        return self.disk.i_block + rest


class Xattr(msgspec.Struct, frozen=True):
    """An extended attribute; a value kept in an inode of its own is empty here and ``value_inode`` names it."""

    name: str
    value: bytes
    value_inode: int = 0


def block_xattrs(block: bytes) -> Iterator[Xattr]:
    """Yield the attributes of an attribute block; values are counted from the start of the block."""
    if XattrHeader.parse(block).h_magic == XATTR_MAGIC:
        yield from _xattr_entries(block, XattrHeader.SIZE, 0)


def _xattr_entries(data: bytes, at: int, base: int) -> Iterator[Xattr]:
    while at + XattrEntry.SIZE <= len(data):
        entry = XattrEntry.parse(data, at)
        if not entry.e_name_len and not entry.e_name_index and not entry.e_value_offs:
            return
        raw = data[at + XattrEntry.SIZE : at + XattrEntry.SIZE + entry.e_name_len]
        prefix = XATTR_PREFIXES.get(entry.e_name_index, f"{entry.e_name_index}.")
        start = base + entry.e_value_offs
        value = b"" if entry.e_value_inum else data[start : start + entry.e_value_size]
        yield Xattr(prefix + raw.decode("utf-8", "backslashreplace"), value, entry.e_value_inum)
        at += -(-(XattrEntry.SIZE + entry.e_name_len) // _PAD) * _PAD
