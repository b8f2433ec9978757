"""The VMDK layer: streamOptimized files as qemu writes them."""

from __future__ import annotations

import array
import bisect
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.codecs import deflate
from rehydrator.codecs.deflate_pool import ReadAhead, Work
from rehydrator.disk.extents import CHUNK, Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.c_vmdk import (
    COMPRESSION_DEFLATE,
    ENTRY_SIZE,
    LINE_ENDS,
    MAGIC,
    MAX_GRAIN_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    GrainMarker,
    SparseExtentHeader,
)
from rehydrator.layers.vmdk_read import VmdkDisk, VmdkStructure, read_structure
from rehydrator.layers.vmdk_record import MAX_PADDING, Geometry, GrainRun, VmdkRecord, whole_grain_padding

_SAMPLES = 16
_AHEAD = 64  # grains; 4 MiB of content
_MAX_CAPACITY = 1 << 32


class VmdkLayer:
    """Wraps a disk into a streamOptimized VMDK and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the file's structure and check that :meth:`wrap` gives all of its bytes back."""
        structure = read_structure(outer, path)
        disk = VmdkDisk(outer, structure, path)
        try:
            encoder = _encoder(disk, structure)
        except UnsupportedError as error:
            raise error.located(path) from error
        runs = list(_runs(item.grain for item in structure.grains))
        usual = runs == list(_nonzero_runs(disk, structure.record.grain_size))
        record = compact(
            msgspec.structs.replace(structure.record, deflate=encoder.name, grains="nonzero" if usual else runs)
        )
        tables = (bytes(item.sectors for item in structure.grains),)
        _check(outer, VmdkImage(disk, record, tables), path)
        return Unwrapped(disk, record, tables)

    def wrap(self, inner: Source, record: VmdkRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the VMDK around ``inner`` as a source that compresses grains when they are read."""
        return VmdkImage(inner, record, tables)

    def describe(self, record: VmdkRecord) -> str:
        """Name kind, grain size, order and encoder."""
        order = "grains in guest order" if record.grains == "nonzero" else "explicit grain order"
        return f"streamOptimized vmdk, {record.grain_size // 2} KiB grains, {order}, {record.deflate}"


def _encoder(disk: VmdkDisk, structure: VmdkStructure) -> deflate.Encoder:
    """Find the encoder by some grains spread over the file."""
    step = max(len(structure.grains) // _SAMPLES, 1)
    samples = [(disk.inflate(item), disk.packed(item)) for item in structure.grains[::step]]
    return deflate.recognise(samples)


def _runs(grains: Iterator[int]) -> Iterator[GrainRun]:
    start = count = 0
    for grain in grains:
        if count and grain == start + count:
            count += 1
            continue
        if count:
            yield GrainRun(start, count)
        start, count = grain, 1
    if count:
        yield GrainRun(start, count)


def _nonzero_runs(disk: Source, grain_size: int) -> Iterator[GrainRun]:
    """Yield the runs of grains that hold a non-zero byte."""
    size = grain_size * SECTOR
    end = 0

    def grains() -> Iterator[int]:
        nonlocal end
        for extent in disk.nonzero():
            yield from range(max(extent.offset // size, end), -(-extent.end // size))
            end = -(-extent.end // size)

    return _runs(grains())


def _check(outer: Source, again: Source, path: Path) -> None:
    """Compare the whole file, each grain compressed again."""
    if again.size != outer.size:
        raise UnsupportedError("this VMDK would get another size", path=path, expected=outer.size, actual=again.size)
    for at in range(0, outer.size, CHUNK):
        length = min(CHUNK, outer.size - at)
        expected = bytes(outer.read(at, length))
        try:
            found = bytes(again.read(at, length))
        except MismatchError as error:
            raise UnsupportedError(f"this VMDK can't be made again: {error}", path=path, offset=at) from error
        if found != expected:
            first = next(i for i in range(length) if found[i] != expected[i])
            raise UnsupportedError("this VMDK would not be written back exactly", path=path, offset=at + first)


class VmdkImage(Source):
    """A streamOptimized VMDK computed from its disk, record and table of grain sizes."""

    def __init__(self, disk: Source, record: VmdkRecord, tables: Sequence[bytes]) -> None:
        _check_record(record, disk, tables)
        self._disk = disk
        self._record = record
        self._capacity = disk.size // SECTOR
        self._geometry = Geometry(record, self._capacity)
        if not self._geometry.possible:
            raise MismatchError("the VMDK record holds impossible positions")
        self._encoder = deflate.encoder(record.deflate)
        runs = _nonzero_runs(disk, record.grain_size) if record.grains == "nonzero" else record.grains
        self._grains = array.array("I", _numbers(runs, self._geometry.grains))
        sizes = tables[0]
        if len(sizes) != len(self._grains):
            raise MismatchError(
                "the disk does not fit the VMDK record", expected=f"{len(sizes)} grains", actual=len(self._grains)
            )
        self._starts = array.array("I", itertools.accumulate(sizes, initial=self._geometry.overhead))
        padding = (
            whole_grain_padding(record.grain_size, sizes[-1] if sizes else None)
            if record.padding == "whole_grain"
            else record.padding
        )
        self.size = (self._starts[-1] + padding) * SECTOR
        self._head = self._make_head()
        self._stored = ReadAhead(len(self._grains), self._prepare, ahead=_AHEAD)

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

    def _prepare(self, position: int) -> Work:
        """Read a grain and return the work of compressing it."""
        grain = self._grains[position]
        size = self._record.grain_size * SECTOR
        content = self._disk.read(grain * size, min(size, self._disk.size - grain * size))
        room = (self._starts[position + 1] - self._starts[position]) * SECTOR

        def work() -> bytes:
            packed = self._encoder.compress(content)
            marker = GrainMarker(lba=grain * self._record.grain_size, size=len(packed))
            needed = -(-(GrainMarker.SIZE + len(packed)) // SECTOR) * SECTOR
            if needed != room:
                raise MismatchError(
                    f"VMDK grain {grain} compresses to another size than recorded", expected=room, actual=needed
                )
            return (marker.pack() + packed).ljust(room, b"\0")

        return work

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


def _put(head: bytearray, sector: int, data: bytes) -> None:
    head[sector * SECTOR : sector * SECTOR + len(data)] = data


def _little_endian(values: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _numbers(runs: Iterator[GrainRun] | list[GrainRun], limit: int) -> Iterator[int]:
    """Yield the grains of all runs; refuse one that the disk does not have or that comes twice."""
    seen = bytearray(limit)
    for run in runs:
        if run.start < 0 or not 0 < run.count <= limit - run.start:
            raise MismatchError("the VMDK record names a grain that the disk does not have", actual=run.start)
        if any(seen[run.start : run.start + run.count]):
            raise MismatchError("the VMDK record names a grain twice", actual=run.start)
        seen[run.start : run.start + run.count] = b"\1" * run.count
        yield from range(run.start, run.start + run.count)


def _check_record(record: VmdkRecord, disk: Source, tables: Sequence[bytes]) -> None:
    """Refuse a record with numbers that no VMDK has; it may come from a forged manifest."""
    if disk.size % SECTOR or disk.size // SECTOR > _MAX_CAPACITY:
        raise MismatchError("a VMDK can't hold a disk of this size", actual=disk.size)
    if len(tables) != 1 or 0 in tables[0]:
        raise MismatchError("the VMDK record lacks its table of grain sizes")
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
