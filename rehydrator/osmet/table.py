"""Reading and writing what comes before the xz stream of an osmet file, and what the stream holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rehydrator.codecs.bincode import Integers, Reader
from rehydrator.disk.composed import Mapped
from rehydrator.disk.composed import Mapping as Piece
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.layers.exactness import KEEP
from rehydrator.osmet.c_osmet import (
    DIGEST_SIZE,
    OSMET_MAGIC,
    OSMET_VERSION,
    Mapping,
    Osmet,
    OsmetFileHeader,
    OsmetPartition,
)

_MAX_TEXT = 4096
_MAX_PARTITIONS = 128  # as a GPT has
_MAX_MAPPINGS = 1 << 22
_MAX_DISK = 1 << 44


def is_osmet(source: Source) -> bool:
    """Tell whether ``source`` begins as an osmet file does."""
    size = len(OSMET_MAGIC)
    return source.size >= size and bytes(source.read(0, size)) == OSMET_MAGIC


def read_osmet(source: Source, path: Path) -> Osmet:
    """Read header and mappings. ``path`` names the file in errors.

    Raises CorruptError for a damaged file, UnsupportedError for another version.
    """
    try:
        return _read(source)
    except RehydratorError as error:
        raise error.located(path) from error


def pack(osmet: Osmet) -> bytes:
    """Return the bytes before the xz stream."""
    code = osmet.integers
    header = osmet.header
    parts = [OSMET_MAGIC, code.u32(OSMET_VERSION), code.string(header.app_version), code.u32(header.sector_size)]
    parts += [code.string(header.os_description), code.string(header.os_architecture)]
    parts.append(code.u64(len(osmet.partitions)))
    for item in osmet.partitions:
        parts += [code.u64(item.start_offset), code.u64(item.end_offset), code.u64(len(item.mappings))]
        for mapping in item.mappings:
            parts += [code.u64(mapping.logical), code.u64(mapping.physical), code.u64(mapping.length), mapping.object]
    return b"".join([*parts, osmet.checksum, code.u64(osmet.size)])


def packed_image(disk: Source, partitions: Iterable[OsmetPartition]) -> Source:
    """Return what the xz stream holds: the disk without the mapped ranges."""
    pieces: list[Piece] = []
    at = 0
    for kept in unmapped(disk.size, partitions):
        pieces.append(Piece(at, kept.length, kept.offset))
        at += kept.length
    return Mapped(disk, pieces, at)


def unmapped(size: int, partitions: Iterable[OsmetPartition]) -> Iterator[Extent]:
    """Yield the ranges of a disk of ``size`` bytes that no mapping covers."""
    at = 0
    for item in partitions:
        for mapping in item.mappings:
            start = item.start_offset + mapping.physical
            if start > at:
                yield Extent(at, start - at)
            at = start + mapping.length
    if size > at:
        yield Extent(at, size - at)


def _read(source: Source) -> Osmet:
    if not is_osmet(source):
        found = bytes(source.read(0, min(len(OSMET_MAGIC), source.size)))
        raise CorruptError("not an osmet file", offset=0, expected=OSMET_MAGIC.hex(), actual=found.hex())
    start = len(OSMET_MAGIC)
    # A variable version is one byte, and the length of app_version comes next, which is not zero.
    fixed = bytes(source.read(start, min(4, source.size - start))) == OSMET_VERSION.to_bytes(4, "little")
    integers = Integers.FIXED if fixed else Integers.VARIABLE
    reader = Reader(source, integers, start)
    version = reader.u32()
    if version != OSMET_VERSION:
        raise UnsupportedError(
            "osmet file of another version", offset=start, expected=OSMET_VERSION, actual=version, hint=KEEP
        )
    header = OsmetFileHeader(
        app_version=reader.string(_MAX_TEXT, "app_version"),
        sector_size=reader.u32(),
        os_description=reader.string(_MAX_TEXT, "os_description"),
        os_architecture=reader.string(_MAX_TEXT, "os_architecture"),
    )
    count = reader.count(_MAX_PARTITIONS, "number of partitions")
    partitions = [_read_partition(reader) for _ in range(count)]
    checksum = reader.raw(DIGEST_SIZE)
    at = reader.at
    size = reader.u64()
    _check(partitions, size, at)
    return Osmet(header, partitions, checksum, size, integers, reader.at)


def _read_partition(reader: Reader) -> OsmetPartition:
    start, end = reader.u64(), reader.u64()
    mappings: list[Mapping] = []
    done = 0
    for _ in range(reader.count(_MAX_MAPPINGS, "number of mappings")):
        at = reader.at
        mapping = Mapping(reader.u64(), reader.u64(), reader.u64(), reader.raw(DIGEST_SIZE))
        if mapping.physical < done or start + mapping.end > end:
            wanted = f"a range from {done:#x} to {end - start:#x}"
            actual = f"{mapping.length} bytes at {mapping.physical:#x}"
            raise CorruptError("impossible mapping", offset=at, expected=wanted, actual=actual)
        done = mapping.end
        mappings.append(mapping)
    return OsmetPartition(start, end, mappings)


def _check(partitions: Sequence[OsmetPartition], size: int, at: int) -> None:
    """Check the partitions' places; ``at`` is that of ``size`` in the file."""
    edges = [0, *(edge for item in partitions for edge in (item.start_offset, item.end_offset)), size]
    if not partitions or size > _MAX_DISK or any(before > after for before, after in itertools.pairwise(edges)):
        actual = ", ".join(f"{item.start_offset:#x} to {item.end_offset:#x}" for item in partitions)
        raise CorruptError(
            "impossible partitions", offset=at, expected=f"one after the other in {size} bytes", actual=actual or "none"
        )
