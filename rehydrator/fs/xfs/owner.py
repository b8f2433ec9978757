"""The owner map of XFS: the name of every byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.fs.place import Filesystem, Health, Kind, Place
from rehydrator.fs.xfs import fields
from rehydrator.fs.xfs.btree import KINDS
from rehydrator.fs.xfs.c_xfs import XfsAgf, XfsDsb, XfsDsymlinkHdr
from rehydrator.fs.xfs.c_xfs_log import BBSIZE, RECORD_FIELDS
from rehydrator.fs.xfs.checksums import Sealed
from rehydrator.fs.xfs.health import check, seal_of
from rehydrator.fs.xfs.log import LogPiece, parse_operations, unpack
from rehydrator.fs.xfs.log_names import payload_fields
from rehydrator.fs.xfs.segments import Role, Segment
from rehydrator.fs.xfs.units import unit_at
from rehydrator.fs.xfs.xfs import Xfs

_NAMED = {
    Role.HEADER_SLACK: (Kind.SLACK, "slack behind the headers of AG {}"),
    Role.COW: (Kind.FREE, "free space reserved for copy on write, AG {}"),
    Role.FREE_LIST: (Kind.FREE, "free list block of AG {}"),
    Role.FREE: (Kind.FREE, "free space of AG {}"),
    Role.BEYOND: (Kind.SLACK, "behind the file system"),
    Role.UNKNOWN: (Kind.UNKNOWN, "unowned"),
}
_FILE_NAMED = {
    Role.DATA: (Kind.FILE_DATA, "data of inode {}"),
    Role.UNWRITTEN: (Kind.SLACK, "preallocated, unwritten space of inode {}"),
    Role.EOF_SLACK: (Kind.SLACK, "slack behind the end of inode {}"),
}
_QUOTAS = (("sb_uquotino", "user"), ("sb_gquotino", "group"), ("sb_pquotino", "project"))


class _Named(msgspec.Struct, frozen=True):
    """What to say about a structure: the parts of a Place that do not depend on where it is cut."""

    kind: Kind
    name: str
    path: str = ""
    fields: tuple[FieldSpan, ...] = ()


class XfsFilesystem(Filesystem):
    """XFS version 5. Raises as :class:`Xfs` does on opening; after that, damage is only ever reported."""

    type = "xfs"

    def __init__(self, source: Source) -> None:
        self.reader = Xfs(source)
        self.size = source.size
        self._namers: dict[Role, Callable[[Segment, bytes], _Named]] = {
            Role.SUPERBLOCK: self._name_superblock,
            Role.AGF: lambda unit, _: _Named(Kind.AGF, f"AGF {unit.number}", "", XfsAgf.FIELDS),
            Role.AGI: lambda unit, _: _Named(Kind.AGI, f"AGI {unit.number}", "", fields.AGI_FIELDS),
            Role.AGFL: lambda unit, data: _Named(Kind.AGFL, f"AGFL {unit.number}", "", fields.agfl_fields(len(data))),
            Role.INODES: self._name_inode,
            Role.DIRECTORY: self._name_directory,
            Role.ATTRIBUTES: self._name_attributes,
            Role.SYMLINK: self._name_symlink,
            Role.QUOTA: self._name_quota,
            **dict.fromkeys(KINDS, self._name_btree),
        }

    # -- what belongs to what

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along structures. Maps the whole file system at the first call."""
        table = self.reader.mapper.table
        for wanted in ranges:
            start, end = max(wanted.offset, 0), min(wanted.end, self.size)
            if start >= end:
                continue
            for segment in table.within(start, end):
                yield from self._cut(segment, max(segment.start, start), min(segment.end, end))

    def path(self, inode: int) -> str:
        """Return a path of an inode, empty when none leads to it."""
        return self.reader.mapper.names.path(inode)

    def sealed_at(self, offset: int) -> Sealed | None:
        """Return the structure with a checksum that byte ``offset`` belongs to (not those of the log)."""
        segment = next(self.reader.mapper.table.within(offset, offset + 1), None)
        return None if segment is None else seal_of(self.reader, unit_at(segment, offset, self.reader.geometry))

    def health(self) -> Iterator[Health]:
        """Check all metadata; see :mod:`rehydrator.fs.xfs.health`."""
        return check(self.reader)

    @cached_property
    def _quotas(self) -> dict[int, str]:
        superblock = self.reader.superblock
        return {getattr(superblock, name): kind for name, kind in _QUOTAS}

    # -- cutting

    def _cut(self, segment: Segment, start: int, end: int) -> Iterator[Place]:
        role = segment.role
        if role in _FILE_NAMED:
            kind, name = _FILE_NAMED[role]
            text = name.format(segment.number) + (", shared" if segment.shared else "")
            path = self.path(segment.number)
            yield Place(Extent(start, end - start), segment.start, kind, text, segment.number, path,
                        segment.offset + start - segment.start)  # fmt: skip
        elif role in _NAMED:
            kind, name = _NAMED[role]
            yield Place(Extent(start, end - start), segment.start, kind, name.format(segment.number), segment.number)
        elif role is Role.LOG:
            yield from self._cut_log(segment, start, end)
        else:
            yield from self._cut_units(segment, start, end)

    def _cut_units(self, segment: Segment, start: int, end: int) -> Iterator[Place]:
        while start < end:
            unit = unit_at(segment, start, self.reader.geometry)
            stop = min(unit.end, end)
            data = self.reader.reader.read(unit.start, unit.end - unit.start)
            if data:
                named = self._namers[unit.role](unit, data)
            else:  # cut off by the end of a truncated image
                named = _Named(Kind.UNKNOWN, f"cut off: {unit.role.name.lower()} {unit.number}")
            offset = unit.offset + start - unit.start if unit.role is Role.DIRECTORY else 0
            yield Place(Extent(start, stop - start), unit.start, named.kind, named.name, unit.number, named.path,
                        offset, named.fields)  # fmt: skip
            start = stop

    def _name_superblock(self, unit: Segment, _: bytes) -> _Named:
        if unit.number:
            return _Named(Kind.BACKUP_SUPERBLOCK, f"superblock copy of AG {unit.number}", "", XfsDsb.FIELDS)
        return _Named(Kind.SUPERBLOCK, "superblock", "", XfsDsb.FIELDS)

    def _name_btree(self, unit: Segment, data: bytes) -> _Named:
        kind = KINDS[unit.role]
        layout = fields.btree_fields(kind, data)
        if kind.long:
            return _Named(Kind.BTREE_BLOCK, f"bmbt of inode {unit.number}", self.path(unit.number), layout)
        return _Named(Kind.BTREE_BLOCK, f"{kind.name} of AG {unit.number}", "", layout)

    def _name_inode(self, unit: Segment, _: bytes) -> _Named:
        mapper = self.reader.mapper
        inode = self.reader.inode(unit.number)
        if inode is None:
            return _Named(Kind.INODE, f"inode {unit.number}, damaged", self.path(unit.number))
        if mapper.chunks.is_free(unit.number):
            return _Named(Kind.INODE, f"free inode {unit.number}", "", fields.inode_fields(inode, self.reader.ftype))
        layout = fields.inode_fields(inode, self.reader.ftype)
        return _Named(Kind.INODE, f"inode {unit.number}", self.path(unit.number), layout)

    def _name_directory(self, unit: Segment, data: bytes) -> _Named:
        name, layout = fields.directory_fields(data, self.reader.ftype)
        path = self.path(unit.number)
        return _Named(Kind.DIRECTORY, f"{name or 'directory'} of inode {unit.number}", path, layout)

    def _name_attributes(self, unit: Segment, data: bytes) -> _Named:
        name, layout = fields.attribute_fields(data)
        path = self.path(unit.number)
        return _Named(Kind.XATTR_BLOCK, f"{name or 'attribute block'} of inode {unit.number}", path, layout)

    def _name_symlink(self, unit: Segment, _: bytes) -> _Named:
        path = self.path(unit.number)
        return _Named(Kind.SYMLINK, f"symlink target of inode {unit.number}", path, XfsDsymlinkHdr.FIELDS)

    def _name_quota(self, unit: Segment, data: bytes) -> _Named:
        kind = self._quotas.get(unit.number, "")
        return _Named(Kind.FILE_DATA, f"{kind} quotas of inode {unit.number}", "", fields.quota_fields(len(data)))

    # -- the log

    def _cut_log(self, segment: Segment, start: int, end: int) -> Iterator[Place]:
        log = self.reader.log
        base = log.extent.offset
        while start < end:
            piece = log.piece_at((start - base) // BBSIZE)
            stop = min(base + piece.end * BBSIZE, end)
            if stop <= start:
                stop = end
            yield self._place_log(piece, Extent(start, stop - start))
            start = stop

    def _place_log(self, piece: LogPiece, extent: Extent) -> Place:
        start = self.reader.log.extent.offset + piece.start * BBSIZE
        record = piece.record
        if record is None:
            name = "stamped empty log header" if piece.run else "unused log space"
            return Place(extent, start, Kind.LOG_STALE, name, piece.start)
        if piece.first == 0:
            return Place(extent, start, Kind.LOG_HEADER, record.name, record.block, fields=RECORD_FIELDS)
        return Place(
            extent, start, Kind.LOG_PAYLOAD, record.name, record.block, fields=self._payload_fields(piece, extent)
        )

    def _payload_fields(self, piece: LogPiece, extent: Extent) -> tuple[FieldSpan, ...]:
        """Fields of the part of a payload that ``extent`` cuts out: a record may have thousands of them."""
        log, record = self.reader.log, piece.record
        if record is None:
            return ()
        skip = (piece.first - record.header_blocks) * BBSIZE  # where the piece begins in the payload
        if skip < 0:  # an extended header, which lies before it
            return ()
        begin = extent.offset - (log.extent.offset + piece.start * BBSIZE) + skip
        payload = unpack(log.headers(record), log.payload(record))
        operations = parse_operations(payload, record.header.h_num_logops)
        spans = payload_fields(payload, operations, begin, begin + extent.length)
        return tuple(FieldSpan(span.name, span.offset - skip, span.size) for span in spans) if skip else spans
