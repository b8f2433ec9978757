"""Places: what a byte of a file system belongs to.

A :class:`Filesystem` cuts any ranges of its bytes along the borders of its structures. Each piece is a
:class:`Place` with the kind of the structure, its name, the path of the file it serves and, where the structure has
named fields, their layout. The edits and ``explain`` need nothing else to name a difference.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent


class Kind(enum.StrEnum):
    """Kinds of structures, over all file systems."""

    BOOT_SECTOR = "boot sector"
    SUPERBLOCK = "superblock"
    BACKUP_SUPERBLOCK = "backup superblock"
    GROUP_DESCRIPTOR = "group descriptor"
    BACKUP_GROUP_DESCRIPTOR = "backup group descriptor"
    RESERVED_GDT = "reserved group descriptor block"
    BLOCK_BITMAP = "block bitmap"
    INODE_BITMAP = "inode bitmap"
    INODE = "inode"
    EXTENT_BLOCK = "extent block"
    XATTR_BLOCK = "xattr block"
    DIRECTORY = "directory block"
    SYMLINK = "symlink target"
    FILE_DATA = "file data"
    JOURNAL_SUPERBLOCK = "journal superblock"
    JOURNAL_DESCRIPTOR = "journal descriptor"
    JOURNAL_COPY = "journal copy"
    JOURNAL_COMMIT = "journal commit"
    JOURNAL_REVOKE = "journal revoke"
    JOURNAL_STALE = "journal, unused"
    AGF = "AG free space header"
    AGI = "AG inode header"
    AGFL = "AG free list"
    BTREE_BLOCK = "btree block"
    LOG_HEADER = "log record header"
    LOG_PAYLOAD = "log record payload"
    LOG_STALE = "log, unused"
    FAT = "file allocation table"
    SYSTEM_AREA = "system area"
    VOLUME_DESCRIPTOR = "volume descriptor"
    PATH_TABLE = "path table"
    BOOT_CATALOG = "boot catalog"
    LOOKUP_TABLE = "lookup table"
    MEMBER_HEADER = "member header"
    SLACK = "slack"
    UNREAD = "unread data"
    FREE = "free space"
    UNKNOWN = "unknown"


NEEDS_RECOVERY = "needs recovery"  # what health says of a journal that was not replayed


class Place(msgspec.Struct, frozen=True):
    """One piece of a file system. ``extent`` is in bytes from the start of the file system.

    ``start`` is where the structure itself begins (a piece may be cut out of its middle); ``fields`` are relative to
    it. ``file_offset`` is the byte offset within the file for file data and directories. ``number`` is the inode,
    group, AG or journal block number that ``name`` speaks of.
    """

    extent: Extent
    start: int
    kind: Kind
    name: str
    number: int = 0
    path: str = ""
    file_offset: int = 0
    fields: tuple[FieldSpan, ...] = ()


class Piece(NamedTuple):
    """A piece of the structure ``number``."""

    number: int
    extent: Extent


def cut(ranges: Iterable[Extent], starts: Sequence[int], size: int) -> Iterator[Piece]:
    """Cut ordered ``ranges`` of ``size`` bytes where structures begin, each of which reaches to the next.

    ``starts`` are in order, from 0 on. What begins where the next one does has no bytes.
    """
    for wanted in ranges:
        at, end = max(wanted.offset, 0), min(wanted.end, size)
        number = max(bisect_right(starts, at) - 1, 0)
        while at < end:
            stop = min(starts[number + 1] if number + 1 < len(starts) else size, end)
            if stop > at:
                yield Piece(number, Extent(at, stop - at))
                at = stop
            number += 1


class Health(msgspec.Struct, frozen=True):
    """Something wrong with a file system: which structure, where (bytes from the start), and what."""

    name: str
    offset: int
    problem: str


class Filesystem(ABC):
    """A file system that is read from a source; damage in it is reported, never raised, once it is open."""

    type: str
    size: int
    complete = True  # whether every structure and file is read, or there may be some of ``Kind.UNREAD``

    @abstractmethod
    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along structures; together the places cover exactly the ranges, in order."""

    @abstractmethod
    def health(self) -> Iterator[Health]:
        """Check the checksums and invariants of all metadata."""
