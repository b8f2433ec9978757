"""What the literal bytes of a disk belong to that was put together of parts of others."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.disk.extents import Extent, chunks, merge
from rehydrator.disk.source import Source
from rehydrator.explain.owners import DiskOwners
from rehydrator.fs.place import Kind
from rehydrator.relocation.segments import LITERAL, Segment

_SHOWN = 12  # owners by name; what the others hold is told in one line
_SAMPLE = 1 << 20
_MIN_SAMPLE = 64 << 10
_DENSE = 0.9  # of its size: what compression leaves of bytes that have hardly any order
NOT_COMPRESSIBLE = "do not compress: encrypted, random or compressed already"


class Literals(msgspec.Struct, frozen=True):
    """The literal bytes of one kind of structure, ``extents`` of the disk; ``region`` is the name of a partition."""

    region: str
    structure: str
    path: str
    extents: list[Extent]

    @property
    def size(self) -> int:
        """How many bytes that is."""
        return sum(extent.length for extent in self.extents)

    @property
    def name(self) -> str:
        """What the bytes belong to, in words."""
        return f"{self.region}, {self.structure}" + (f" {self.path}" if self.path else "")


def literals_by_owner(disk: Source, segments: Sequence[Segment]) -> list[Literals]:
    """Return the literal bytes of a disk by partition and structure, and by file where they are content; most first."""
    literal = list(merge(Extent(item.offset, item.length) for item in segments if item.reference == LITERAL))
    found: dict[tuple[str, str, str], list[Extent]] = {}
    for owner in DiskOwners(disk).owners(literal):
        path = owner.path if owner.structure == Kind.FILE_DATA else ""
        found.setdefault((owner.region.name, owner.structure, path), []).append(owner.extent)
    return sorted((Literals(*key, extents) for key, extents in found.items()), key=lambda item: -item.size)


def literal_owners(disk: Source, segments: Sequence[Segment]) -> Iterator[str]:
    """Yield a line for each of the largest owners of literal bytes, and one for all others."""
    found = literals_by_owner(disk, segments)
    for item in found[:_SHOWN]:
        reason = f", which {NOT_COMPRESSIBLE}" if is_dense(disk, item) else ""
        yield f"{item.size} literal bytes: {item.name}{reason}"
    if rest := found[_SHOWN:]:
        yield f"{sum(item.size for item in rest)} literal bytes: {len(rest)} other structures"


def is_dense(disk: Source, literals: Literals) -> bool:
    """Tell whether compression would leave most of the first MiB of these bytes; less than 64 KiB tell nothing."""
    left = _SAMPLE
    packer = zlib.compressobj(1)
    packed = 0
    for piece in chunks(literals.extents):
        if left <= 0:
            break
        packed += len(packer.compress(disk.read(piece.offset, min(piece.length, left))))
        left -= min(piece.length, left)
    packed += len(packer.flush())
    return _SAMPLE - left >= _MIN_SAMPLE and packed > _DENSE * (_SAMPLE - left)
