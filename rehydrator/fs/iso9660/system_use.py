"""What lies behind a directory record's identifier: Rock Ridge's entries by the System Use Sharing Protocol."""

from __future__ import annotations

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.fs.iso9660.c_iso9660 import SECTOR_SIZE, AlternateName, ContinuationArea, SystemUseEntry

_MAX_AREAS = 16
_NO_NAME = 0x06  # Flags of NM: the directory itself, or its parent
_TERMINATOR = b"ST"
_SYMLINK = b"SL"


class SystemUse(msgspec.Struct, frozen=True):
    """The entries of a record: its Rock Ridge name if it has one, whether it is a symbolic link, where the entries lie.

    ``fields`` are relative to the record; ``areas`` are continuation areas elsewhere, in bytes of the image, each with
    its own fields.
    """

    name: str | None
    symlink: bool
    fields: tuple[FieldSpan, ...]
    areas: tuple[tuple[Extent, tuple[FieldSpan, ...]], ...]


def read_system_use(source: Source, record: Extent, start: int) -> SystemUse:
    """Read the entries of ``record``, which begin ``start`` bytes into it; damaged ones end the reading."""
    waiting = [(Extent(record.offset + start, record.length - start), start)]
    found: list[tuple[Extent, tuple[FieldSpan, ...]]] = []
    name = b""
    named = symlink = False
    while waiting and len(found) < _MAX_AREAS:
        area, base = waiting.pop()
        data = bytes(source.read(*area))
        spans: list[FieldSpan] = []
        at = 0
        while at + SystemUseEntry.SIZE <= len(data):
            entry = SystemUseEntry.parse(data, at)
            if not SystemUseEntry.SIZE <= entry.Length <= len(data) - at or entry.SignatureWord == _TERMINATOR:
                break
            spans.append(FieldSpan(entry.SignatureWord.decode("ascii", "replace"), base + at, entry.Length))
            if entry.SignatureWord == b"NM" and entry.Length >= AlternateName.SIZE:
                if not AlternateName.parse(data, at).Flags & _NO_NAME:
                    named = True
                    name += data[at + AlternateName.SIZE : at + entry.Length]
            elif entry.SignatureWord == b"CE" and entry.Length >= ContinuationArea.SIZE:
                waiting += [(place, 0) for place in _continuation(ContinuationArea.parse(data, at), source.size)]
            symlink |= entry.SignatureWord == _SYMLINK
            at += entry.Length
        found.append((area, tuple(spans)))
    own, *others = found
    text = name.decode("utf-8", "replace").replace("/", "\N{FRACTION SLASH}") if named else None
    return SystemUse(text or None, symlink, own[1], tuple(others))


def _continuation(entry: ContinuationArea, size: int) -> list[Extent]:
    place = Extent(entry.Block * SECTOR_SIZE + entry.Offset, entry.AreaLength)
    return [place] if 0 < place.length <= SECTOR_SIZE and place.end <= size else []
