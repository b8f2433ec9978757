"""Reading the structure of a streamOptimized VMDK, with every field checked."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from rehydrator.disk.extents import is_zero
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.c_vmdk import (
    COMPRESSION_DEFLATE,
    ENTRY_SIZE,
    GD_AT_END,
    GTE_ZEROED,
    LINE_ENDS,
    MAGIC,
    MAX_GRAIN_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    Flag,
    GrainMarker,
    SparseExtentHeader,
)
from rehydrator.layers.exactness import KEEP, REWRITE, reading
from rehydrator.layers.vmdk_record import MAX_PADDING, Geometry, VmdkRecord, whole_grain_padding

_MAX_SECTORS = 1 << 32  # what a grain table can point to


class StoredGrain(msgspec.Struct, frozen=True):
    """One grain as it lies in the file: its number, the byte offset of its data, and the data's size in bytes."""

    grain: int
    offset: int
    size: int

    @property
    def start(self) -> int:
        """Sector of its marker."""
        return self.offset // SECTOR

    @property
    def sectors(self) -> int:
        """Sectors that the grain takes with its marker."""
        return -(-(GrainMarker.SIZE + self.size) // SECTOR)


class VmdkStructure(msgspec.Struct, frozen=True):
    """What a file says about itself; ``grains`` in file order.

    The record still lacks the encoder and has the default order of grains.
    """

    record: VmdkRecord
    capacity: int
    grains: list[StoredGrain]


def read_structure(outer: Source, path: Path) -> VmdkStructure:
    """Read and check header, descriptor, grain tables and the markers of all grains."""
    with reading(path, REWRITE):
        return Reader(outer, path).read()


class Reader:
    """Reads the structure of one file."""

    def __init__(self, outer: Source, path: Path) -> None:
        self._outer = outer
        self._path = path

    def read(self) -> VmdkStructure:
        """Read and check everything."""
        header = SparseExtentHeader.parse(self._outer.read(0, min(self._outer.size, SparseExtentHeader.SIZE)))
        self._check_kind(header)
        self._check_header(header)
        record = self._record(header)
        geometry = Geometry(record, header.capacity)
        entries = self._entries(geometry)
        if not geometry.possible:
            raise UnsupportedError(
                "VMDK with its parts in an unusual order",
                offset=SparseExtentHeader.offset_of("rgdOffset"),
                expected="header, descriptor, tables and grains in turn",
                actual=f"starts and sizes {geometry.regions}, grains from {geometry.overhead}",
            )
        first = geometry.table_at(geometry.gd, 0) * SECTOR
        grains = self._grains(entries, header, lambda grain: first + grain * ENTRY_SIZE)
        record = msgspec.structs.replace(record, padding=self._padding(header, grains))
        usual = msgspec.structs.replace(record, gd_offset="after_rgd")
        if Geometry(usual, header.capacity).gd == geometry.gd:
            record = usual
        usual = msgspec.structs.replace(record, overhead="aligned")
        if Geometry(usual, header.capacity).overhead == geometry.overhead:
            record = usual
        return VmdkStructure(record, header.capacity, grains)

    def _record(self, header: SparseExtentHeader) -> VmdkRecord:
        """Return what header and descriptor say; what compressed the grains stays open."""
        return VmdkRecord(
            descriptor=self._descriptor(header),
            deflate="",
            version=header.version,
            flags=header.flags,
            grain_size=header.grainSize,
            descriptor_offset=header.descriptorOffset,
            descriptor_size=header.descriptorSize,
            rgd_offset=header.rgdOffset,
            gd_offset=header.gdOffset,
            overhead=header.overHead,
            unclean_shutdown=header.uncleanShutdown,
        )

    def _corrupt(self, name: str, expected: object, actual: object) -> CorruptError:
        offset = SparseExtentHeader.offset_of(name)
        return CorruptError(
            f"VMDK {name} is impossible", path=self._path, offset=offset, expected=expected, actual=actual
        )

    def _check_kind(self, header: SparseExtentHeader) -> None:
        if header.magicNumber != MAGIC:
            raise CorruptError(
                "not a VMDK: wrong magic",
                path=self._path,
                offset=0,
                expected=MAGIC.hex(),
                actual=header.magicNumber.hex(),
            )
        flags = Flag(header.flags & sum(Flag))
        needed = Flag.COMPRESSED | Flag.MARKERS | Flag.REDUNDANT_GRAIN_TABLE
        if header.version not in (1, 2, 3):
            raise _unread(f"VMDK version {header.version}", "version", "1, 2 or 3", header.version)
        if header.gdOffset == GD_AT_END:
            what = "VMDK with its grain directory at the end, as VMware writes it, which can only be read"
            raise _unread(what, "gdOffset", "a sector in front of the grains", f"{header.gdOffset:#x}", KEEP)
        if not flags & Flag.COMPRESSED:
            raise _unread("VMDK that is sparse, not streamOptimized", "flags", f"{needed:#x}", f"{header.flags:#x}")
        if flags & needed != needed or flags & Flag.ZEROED_GRAIN or header.flags & ~sum(Flag):
            raise _unread(f"VMDK with flags {header.flags:#x}", "flags", f"{needed:#x}", f"{header.flags:#x}")
        if header.compressAlgorithm != COMPRESSION_DEFLATE:
            what = f"VMDK with compression {header.compressAlgorithm}"
            raise _unread(what, "compressAlgorithm", COMPRESSION_DEFLATE, header.compressAlgorithm)

    def _check_header(self, header: SparseExtentHeader) -> None:
        size = header.grainSize
        if not 1 < size <= MAX_GRAIN_SIZE or size & (size - 1):
            raise self._corrupt("grainSize", f"a power of two up to {MAX_GRAIN_SIZE} sectors", size)
        if header.numGTEsPerGT != NUM_GTES_PER_GT:
            raise self._corrupt("numGTEsPerGT", NUM_GTES_PER_GT, header.numGTEsPerGT)
        if header.capacity > _MAX_SECTORS:
            raise self._corrupt("capacity", f"at most {_MAX_SECTORS} sectors", header.capacity)
        if header.lineEnds != LINE_ENDS:
            raise self._corrupt("lineEnds", LINE_ENDS.hex(), header.lineEnds.hex())
        sectors = self._outer.size // SECTOR
        for name in ("descriptorOffset", "descriptorSize", "rgdOffset", "gdOffset", "overHead"):
            if getattr(header, name) > sectors:
                raise self._corrupt(name, f"at most {sectors} sectors, the file's size", getattr(header, name))
        if header.descriptorOffset + header.descriptorSize > sectors:
            raise self._corrupt("descriptorSize", f"an end within {sectors} sectors", header.descriptorSize)

    def _descriptor(self, header: SparseExtentHeader) -> list[str]:
        start = header.descriptorOffset * SECTOR
        data = bytes(self._outer.read(start, header.descriptorSize * SECTOR)).rstrip(b"\0")
        try:
            return data.decode().split("\n")
        except UnicodeDecodeError as error:
            raise UnsupportedError(
                "VMDK descriptor that is no UTF-8 text",
                offset=start + error.start,
                expected="UTF-8",
                actual=data[error.start : error.end].hex(),
            ) from error

    def _words(self, name: str, sector: int, count: int) -> array.array[int]:
        start, length = sector * SECTOR, count * ENTRY_SIZE
        if start + length > self._outer.size:
            raise CorruptError(
                f"VMDK {name} reaches past the end of the file",
                path=self._path,
                offset=start,
                expected=f"an end within {self._outer.size} bytes",
                actual=f"{start + length}",
            )
        values = array.array("I", bytes(self._outer.read(start, length)))
        if sys.byteorder == "big":
            values.byteswap()
        return values

    def _entries(self, geometry: Geometry) -> array.array[int]:
        """Return the entries of all grain tables, after checking that they lie where this program would put them."""
        directory = self._words("grain directory", geometry.gd, geometry.tables)
        for index, found in enumerate(directory):
            at = geometry.gd * SECTOR + index * ENTRY_SIZE
            if found * SECTOR + NUM_GTES_PER_GT * ENTRY_SIZE > self._outer.size:
                raise CorruptError(
                    f"VMDK grain table {index} lies past the end of the file",
                    path=self._path,
                    offset=at,
                    expected=f"below sector {self._outer.size // SECTOR}",
                    actual=found,
                )
            if found != geometry.table_at(geometry.gd, index):
                raise UnsupportedError(
                    "VMDK grain table that is not behind its directory",
                    offset=at,
                    expected=geometry.table_at(geometry.gd, index),
                    actual=found,
                )
        if not geometry.tables:
            return array.array("I")
        first = geometry.table_at(geometry.gd, 0)
        return self._words("grain table", first, geometry.tables * NUM_GTES_PER_GT)

    def _grains(
        self, entries: array.array[int], header: SparseExtentHeader, place_of: Callable[[int], int]
    ) -> list[StoredGrain]:
        """Follow the grains through the file: one behind the other, each with a marker that agrees with its table.

        ``place_of`` tells where the table entry of a grain lies, in bytes.
        """
        order = sorted((sector, grain) for grain, sector in enumerate(entries) if sector)
        if order:
            self._check_end(order[-1][0], place_of(order[-1][1]))
        at = header.overHead
        found = []
        for sector, grain in order:
            self._check_place(sector, at, place_of(grain))
            marker = GrainMarker.parse(self._outer.read(sector * SECTOR, GrainMarker.SIZE))
            if marker.lba != grain * header.grainSize or grain * header.grainSize >= header.capacity:
                raise CorruptError(
                    "VMDK grain marker is of another grain",
                    path=self._path,
                    offset=sector * SECTOR,
                    expected=f"sector {grain * header.grainSize} of {header.capacity}",
                    actual=marker.lba,
                )
            stored = StoredGrain(grain, sector * SECTOR + GrainMarker.SIZE, marker.size)
            room = min(2 * header.grainSize * SECTOR, self._outer.size - stored.offset)
            if not 0 < marker.size <= room:
                raise CorruptError(
                    "VMDK grain has an impossible size",
                    path=self._path,
                    offset=sector * SECTOR + GrainMarker.offset_of("size"),
                    expected=f"1 to {room} bytes",
                    actual=marker.size,
                )
            found.append(stored)
            at = sector + stored.sectors
        return found

    def _check_end(self, sector: int, place: int) -> None:
        if sector * SECTOR + GrainMarker.SIZE > self._outer.size:
            raise CorruptError(
                "VMDK grain lies past the end of the file",
                path=self._path,
                offset=place,
                expected=f"below sector {self._outer.size // SECTOR}",
                actual=sector,
            )

    def _check_place(self, sector: int, at: int, place: int) -> None:
        if sector == GTE_ZEROED:
            raise UnsupportedError(
                "VMDK with zero grains", offset=place, expected=f"sector {at} or later", actual=sector
            )
        if sector < at:
            raise CorruptError(
                "VMDK grain overlaps what comes before it",
                path=self._path,
                offset=place,
                expected=f"sector {at} or later",
                actual=sector,
            )
        if sector > at:
            raise UnsupportedError(
                "VMDK with a gap between grains", path=self._path, offset=at * SECTOR, expected=at, actual=sector
            )

    def _padding(self, header: SparseExtentHeader, grains: list[StoredGrain]) -> int | Literal["whole_grain"]:
        """Return how many sectors of zeros follow the last grain."""
        end = grains[-1].start + grains[-1].sectors if grains else header.overHead
        rest = self._outer.size - end * SECTOR
        if rest < 0 or rest % SECTOR:
            raise CorruptError(
                "VMDK ends within a sector or a grain",
                path=self._path,
                offset=self._outer.size,
                expected=f"whole sectors, at least {end * SECTOR} bytes",
                actual=self._outer.size,
            )
        if rest > MAX_PADDING * SECTOR or not is_zero(self._outer.read(end * SECTOR, rest)):
            raise UnsupportedError(
                "VMDK with something after its last grain",
                offset=end * SECTOR,
                expected=f"at most {MAX_PADDING * SECTOR} zeros",
                actual=f"{rest} bytes",
            )
        sectors = rest // SECTOR
        last = grains[-1].sectors if grains else None
        return "whole_grain" if sectors == whole_grain_padding(header.grainSize, last) else sectors


def _unread(what: str, name: str, expected: object, actual: object, hint: str | None = None) -> UnsupportedError:
    """Return the error about a header of a kind that is not read."""
    return UnsupportedError(
        what, offset=SparseExtentHeader.offset_of(name), expected=expected, actual=actual, hint=hint
    )
