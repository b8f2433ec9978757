"""The disk that an osmet file describes, made of what the file holds and of the objects that it names.

Source: coreos-installer, ``src/osmet/unpacker.rs``. That one goes through the disk from its beginning; here objects
come in the order in which they are kept, so that what they are compressed in is decompressed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from rehydrator.disk.extents import Data, Extent, chunks
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.osmet.c_osmet import Mapping, Osmet
from rehydrator.osmet.table import unmapped


class Piece(NamedTuple):
    """Bytes of the disk from byte ``at`` on."""

    at: int
    data: Data


class Stored(NamedTuple):
    """Where an object is kept: its content is the ``size`` bytes at ``place`` of :attr:`Objects.content`."""

    place: int
    size: int


class Objects(Protocol):
    """The objects of an ostree repository."""

    @property
    def content(self) -> Source:
        """The content of all of them, which is best read in order."""
        ...

    def find(self, name: bytes) -> Stored | None:
        """Return where the object with this checksum is kept; None for one of zeros only, which is kept nowhere.

        Raises CorruptError where there is none.
        """
        ...


def unpacked(osmet: Osmet, rest: Source, objects: Objects) -> Iterator[Piece]:
    """Yield the disk in pieces, in no order, without what is zero; ``rest`` is what the file's xz stream holds.

    An object shorter than its mapping is followed by zeros. Raises CorruptError for parts that do not fit each other.
    """
    kept = list(unmapped(osmet.size, osmet.partitions))
    size = sum(extent.length for extent in kept)
    if rest.size != size:
        raise CorruptError("the osmet file holds another part of the disk", expected=size, actual=rest.size)
    yield from _not_mapped(kept, rest)
    yield from _mapped(osmet, objects)


def _not_mapped(kept: list[Extent], rest: Source) -> Iterator[Piece]:
    data = rest.nonzero()
    at = 0
    for extent in kept:
        for place, length in chunks(data.within(at, extent.length)):
            yield Piece(extent.offset + place - at, rest.read(place, length))
        at += extent.length


class _Placed(NamedTuple):
    """A mapping: ``length`` bytes at ``place`` of all content belong at byte ``at`` of the disk."""

    place: int
    at: int
    length: int


def _mapped(osmet: Osmet, objects: Objects) -> Iterator[Piece]:
    placed = [
        _placed(partition.start_offset, mapping, stored)
        for partition in osmet.partitions
        for mapping in partition.mappings
        if (stored := objects.find(mapping.object)) is not None
    ]
    for item in sorted(placed):
        for place, length in chunks([Extent(item.place, item.length)]):
            yield Piece(item.at + place - item.place, objects.content.read(place, length))


def _placed(start: int, mapping: Mapping, stored: Stored) -> _Placed:
    held = stored.size - mapping.logical
    if held < 0:
        raise CorruptError(
            "an osmet mapping lies behind its object",
            expected=f"within {stored.size} bytes of object {mapping.object.hex()}",
            actual=mapping.logical,
        )
    return _Placed(stored.place + mapping.logical, start + mapping.physical, min(mapping.length, held))
