"""The VMDK layer: streamOptimized files as qemu writes them."""

from __future__ import annotations

import array
import bisect
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.codecs import deflate
from rehydrator.codecs.deflate import USUAL
from rehydrator.codecs.patches import Patches
from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.block_runs import BlockRun, in_guest_order, nonzero_runs, runs_of
from rehydrator.layers.c_vmdk import (
    COMPRESSION_DEFLATE,
    ENTRY_SIZE,
    LINE_ENDS,
    MAGIC,
    MAX_GRAIN_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    Flag,
    GrainMarker,
    SparseExtentHeader,
)
from rehydrator.layers.exactness import check_exact, reading
from rehydrator.layers.packed import (
    ChunkEncoder,
    Compressed,
    Packer,
    Packing,
    Survey,
    find_encoder,
    patched,
    proven,
    split_tables,
    tables_with,
)
from rehydrator.layers.packed_record import words
from rehydrator.layers.vmdk_disk import VmdkDisk
from rehydrator.layers.vmdk_read import VmdkStructure, read_structure
from rehydrator.layers.vmdk_record import MAX_PADDING, Geometry, VmdkRecord, whole_grain_padding
from rehydrator.layers.vmdk_trailing import is_trailing, read_trailing

_MAX_CAPACITY = 1 << 32


class VmdkLayer:
    """Wraps a disk into a streamOptimized VMDK and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the file's structure and check that :meth:`wrap` gives all of its bytes back."""
        structure = read_structure(outer, path)
        disk = VmdkDisk(outer, structure, path)
        with reading(path, at=lambda: next((item.offset for item in structure.grains), 0)):
            encoder = find_encoder(disk.grains, USUAL)
            survey = Survey(disk.grains, encoder, USUAL, structure.record.grain_size * SECTOR)
            return proven(outer, functools.partial(self._tell, outer, disk, structure, encoder, path), self, survey)

    def _tell(
        self,
        outer: Source,
        disk: VmdkDisk,
        structure: VmdkStructure,
        encoder: ChunkEncoder,
        path: Path,
        patches: Patches,
    ) -> Unwrapped:
        """Return the record and tables of a file, after comparing all but the grains."""
        runs = list(runs_of(item.grain for item in structure.grains))
        usual = runs == list(nonzero_runs(disk.nonzero(), structure.record.grain_size * SECTOR))
        record = compact(
            msgspec.structs.replace(
                structure.record,
                deflate=encoder.name,
                grains="nonzero" if usual else runs,
                patched=patched(patches, disk.grains),
            )
        )
        tables = tables_with(bytes(item.sectors for item in structure.grains), patches)
        with reading(path):
            again = VmdkImage(disk, record, tables)
        check_exact("VMDK", outer, again, again.metadata(), path)
        return Unwrapped(disk, record, tables)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the file's structure, of one with its directory at the end as well."""
        structure = read_trailing(outer, path) if is_trailing(outer) else read_structure(outer, path)
        runs = list(runs_of(item.grain for item in structure.grains))
        grains = "nonzero" if in_guest_order(runs) else runs
        record = compact(msgspec.structs.replace(structure.record, grains=grains))
        return Unwrapped(VmdkDisk(outer, structure, path), record)

    def wrap(self, inner: Source, record: VmdkRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the VMDK around ``inner`` as a source that compresses grains when they are read."""
        return VmdkImage(inner, record, tables)

    def describe(self, record: VmdkRecord) -> str:
        """Name kind, grain size, order and encoder."""
        order = "grains in guest order" if record.grains == "nonzero" else "explicit grain order"
        encoder = f", {words(record.deflate, record.patched, record.tables, 'grain')}" if record.deflate else ""
        tables = "" if record.flags & Flag.REDUNDANT_GRAIN_TABLE else ", its tables at the end"
        return f"streamOptimized vmdk, {record.grain_size // 2} KiB grains, {order}{encoder}{tables}"


class VmdkImage(Source):
    """A streamOptimized VMDK computed from its disk, record and table of grain sizes."""

    def __init__(self, disk: Source, record: VmdkRecord, tables: Sequence[bytes]) -> None:
        _check_record(record, disk)
        self._disk = disk
        self._record = record
        self._capacity = disk.size // SECTOR
        self._geometry = Geometry(record, self._capacity)
        if not self._geometry.possible:
            raise MismatchError("the VMDK record holds impossible positions")
        runs = record.grains
        if runs == "nonzero":
            runs = list(nonzero_runs(disk.nonzero(), record.grain_size * SECTOR))
        self._grains = array.array("I", _numbers(runs, self._geometry.grains))
        table, patches = split_tables(tables, record.patched)
        packing = Packing(deflate.encoder(record.deflate), USUAL, record.grain_size * SECTOR, patches, padded=False)
        kept = None
        if table is None:
            kept = Compressed(disk, self._grains, packing)
            sizes: Sequence[int] = array.array("I", map(_sectors, kept.sizes))
        else:
            sizes = self._given(table)
        self._starts = array.array("I", itertools.accumulate(sizes, initial=self._geometry.overhead))
        padding = (
            whole_grain_padding(record.grain_size, sizes[-1] if sizes else None)
            if record.padding == "whole_grain"
            else record.padding
        )
        self.size = (self._starts[-1] + padding) * SECTOR
        self._head = self._make_head()
        self._stored = Packer(disk, self._grains, packing, self._finish, kept)

    def _given(self, table: bytes) -> bytes:
        """Return the sectors that each grain takes, as the record's table says."""
        if len(table) != len(self._grains):
            raise MismatchError(
                "the disk does not fit the VMDK record", expected=f"{len(table)} grains", actual=len(self._grains)
            )
        if 0 in table:
            raise MismatchError("the VMDK record's table has an empty grain")
        return table

    def metadata(self) -> Iterator[Extent]:
        """Yield the ranges that are not grains."""
        yield Extent(0, len(self._head))
        end = self._starts[-1] * SECTOR
        if end < self.size:
            yield Extent(end, self.size - end)

    def extents(self) -> Iterator[Extent]:
        """Yield the whole file."""
        if self.size:
            yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Return tables and compressed grains."""
        parts: list[Data] = []
        while length > 0:
            part = self._piece(offset, length)
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, offset: int, length: int) -> Data:
        """Return at least one and at most ``length`` bytes from ``offset`` on."""
        if offset < len(self._head):
            return self._head[offset : offset + length]
        if offset >= self._starts[-1] * SECTOR:
            return bytes(length)
        position = bisect.bisect_right(self._starts, offset // SECTOR) - 1
        inside = offset - self._starts[position] * SECTOR
        return memoryview(self._stored[position])[inside : inside + length]

    def _finish(self, position: int, packed: bytes | None) -> bytes:
        """Put the marker before a grain; compare the room that it takes with what the tables say."""
        grain = self._grains[position]
        room = (self._starts[position + 1] - self._starts[position]) * SECTOR
        marker = GrainMarker(lba=grain * self._record.grain_size, size=len(packed or b""))
        stored = marker.pack() + (packed or b"")
        needed = -(-len(stored) // SECTOR) * SECTOR
        if needed != room:
            raise MismatchError(
                f"VMDK grain {grain} compresses to another size than recorded", expected=room, actual=needed
            )
        return stored.ljust(room, b"\0")

    def _make_head(self) -> bytes:
        """Return everything before the first grain."""
        record, geometry = self._record, self._geometry
        header = SparseExtentHeader(
            magicNumber=MAGIC,
            version=record.version,
            flags=record.flags,
            capacity=self._capacity,
            grainSize=record.grain_size,
            descriptorOffset=record.descriptor_offset,
            descriptorSize=record.descriptor_size,
            numGTEsPerGT=NUM_GTES_PER_GT,
            rgdOffset=geometry.rgd,
            gdOffset=geometry.gd,
            overHead=geometry.overhead,
            uncleanShutdown=record.unclean_shutdown,
            lineEnds=LINE_ENDS,
            compressAlgorithm=COMPRESSION_DEFLATE,
            pad=b"",
        )
        entries = array.array("I", bytes(geometry.tables * NUM_GTES_PER_GT * ENTRY_SIZE))
        for grain, start in zip(self._grains, self._starts, strict=False):
            entries[grain] = start
        head = bytearray(geometry.overhead * SECTOR)
        _put(head, 0, header.pack())
        _put(head, record.descriptor_offset, "\n".join(record.descriptor).encode())
        for directory in (geometry.rgd, geometry.gd):
            places = array.array("I", (geometry.table_at(directory, index) for index in range(geometry.tables)))
            _put(head, directory, _little_endian(places))
            if geometry.tables:
                _put(head, geometry.table_at(directory, 0), _little_endian(entries))
        return bytes(head)


def _sectors(size: int) -> int:
    """Return the sectors of a grain that is compressed to ``size`` bytes."""
    return -(-(GrainMarker.SIZE + size) // SECTOR)


def _put(head: bytearray, sector: int, data: bytes) -> None:
    head[sector * SECTOR : sector * SECTOR + len(data)] = data


def _little_endian(values: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _numbers(runs: Iterable[BlockRun], limit: int) -> Iterator[int]:
    """Yield the grains of all runs; refuse one that the disk does not have or that comes twice."""
    seen = bytearray(limit)
    for run in runs:
        if run.start < 0 or not 0 < run.count <= limit - run.start:
            raise MismatchError("the VMDK record names a grain that the disk does not have", actual=run.start)
        if any(seen[run.start : run.start + run.count]):
            raise MismatchError("the VMDK record names a grain twice", actual=run.start)
        seen[run.start : run.start + run.count] = b"\1" * run.count
        yield from range(run.start, run.start + run.count)


def _check_record(record: VmdkRecord, disk: Source) -> None:
    """Refuse a record with numbers that no VMDK has; it may come from a forged manifest."""
    if disk.size % SECTOR or disk.size // SECTOR > _MAX_CAPACITY:
        raise MismatchError("a VMDK can't hold a disk of this size", actual=disk.size)
    sectors = [record.descriptor_offset, record.descriptor_size, record.rgd_offset]
    sectors += [value for value in (record.gd_offset, record.overhead) if isinstance(value, int)]
    padding = record.padding if isinstance(record.padding, int) else 0
    descriptor = sum(len(line.encode()) + 1 for line in record.descriptor) - 1
    good = (
        record.grain_size in (1 << bits for bits in range(1, MAX_GRAIN_SIZE.bit_length()))
        and all(0 <= value < _MAX_CAPACITY for value in sectors)
        and 0 <= padding <= MAX_PADDING
        and descriptor <= record.descriptor_size * SECTOR
        and 0 <= record.version < 1 << 32
        and 0 <= record.flags < 1 << 32
        and 0 <= record.unclean_shutdown < 1 << 8
    )
    if not good:
        raise MismatchError("the VMDK record holds impossible numbers")
