"""What is fuzzed of osmet files: reading their table, and putting a disk together of what it names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError
from rehydrator.osmet.c_osmet import Osmet
from rehydrator.osmet.table import pack, read_osmet, unmapped
from rehydrator.osmet.unpack import Piece, Stored, unpacked

from .errors import NotExactError

_PATH = Path("fuzzed")
_OBJECT = 4 << 20
_SPREAD = 1 << 30  # the objects lie in that much content
_MOST_PIECES = 4096
_MARK = b"\x7f"


class _Filled(Source):
    """``size`` bytes that are never zero, as many as there may be."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, length: int) -> Data:
        """Return as many marks; a caller that reads beyond the end is wrong."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise NotExactError(f"{length} bytes at {offset} were read of {self.size}")
        return _MARK * length

    def extents(self) -> Iterator[Extent]:
        """Yield the first megabyte only, so that a forged size takes no time."""
        if self.size:
            yield Extent(0, min(self.size, 1 << 20))


class _Objects:
    """A repository that has nearly every object, told by its checksum: few are missing or nothing but zeros."""

    content = _Filled(_SPREAD + _OBJECT)

    def find(self, name: bytes) -> Stored | None:
        """Return a place that the checksum chooses."""
        if name[0] == 0:
            raise CorruptError("no such object", expected=name.hex())
        if name[0] == 1:
            return None
        return Stored(int.from_bytes(name[1:5], "big") % _SPREAD, _OBJECT - name[5])


def read(data: bytes) -> Osmet:
    """Read a table; raises NotExactError where another comes back."""
    osmet = read_osmet(BytesSource(data), _PATH)
    head = pack(osmet)
    if len(head) == osmet.xz_offset and read_osmet(BytesSource(head), _PATH) != osmet:
        raise NotExactError("another table")
    return osmet


def unpack(data: bytes) -> None:
    """Put the disk together; raises NotExactError where a piece lies outside of it or upon another."""
    osmet = read_osmet(BytesSource(data), _PATH)
    rest = _Filled(sum(extent.length for extent in unmapped(osmet.size, osmet.partitions)))
    made = sorted(_extents(itertools.islice(unpacked(osmet, rest, _Objects()), _MOST_PIECES)))
    for one, other in itertools.pairwise(made):
        if one.end > other.offset:
            raise NotExactError(f"bytes at {other.offset} come twice")
    if made and (made[0].offset < 0 or made[-1].end > osmet.size):
        raise NotExactError("bytes outside of the disk")


def _extents(pieces: Iterator[Piece]) -> Iterator[Extent]:
    return (Extent(piece.at, len(piece.data)) for piece in pieces)
