"""The disk inside a qcow2 file, and its compressed clusters one by one."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator
from pathlib import Path

from rehydrator.codecs import deflate, zstd
from rehydrator.codecs.deflate import Shape
from rehydrator.codecs.deflate_pool import Work
from rehydrator.codecs.inflating import inflate
from rehydrator.disk.extents import Data, Extent, ExtentMap, merge
from rehydrator.disk.recent import Recent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.layers.c_qcow2 import ZLIB_MEM_LEVEL, ZLIB_WBITS, CompressionType
from rehydrator.layers.packed import ChunkEncoder, Inflated
from rehydrator.layers.qcow2_read import Qcow2Structure
from rehydrator.layers.qcow2_record import Kind, Qcow2Record, Run


def shape_of(record: Qcow2Record) -> Shape:
    """Return how qemu has clusters compressed: one that does not save a byte is stored as it is."""
    return Shape(ZLIB_WBITS, ZLIB_MEM_LEVEL, record.cluster_size - 1)


def encoder_of(record: Qcow2Record) -> ChunkEncoder:
    """Return the encoder that the record names."""
    if record.compression_type == CompressionType.ZSTD:
        return zstd.encoder(record.encoder)
    return deflate.encoder(record.encoder)


class Qcow2Disk(Source):
    """The disk inside a qcow2 file."""

    def __init__(self, outer: Source, structure: Qcow2Structure, path: Path) -> None:
        self._outer = outer
        self._layout = structure.layout
        self._cluster = structure.record.cluster_size
        self.record = structure.record
        self.size = structure.disk_size
        self.clusters = StoredClusters(outer, structure, path)
        self._nonzero: ExtentMap | None = None
        self._recent = Recent(lambda position: self.clusters.prepare(position)().content)

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        """Yield the runs of guest clusters ``[start, end)``; ``host`` of a compressed one is its position."""
        compressed = self._layout.compressed
        packed = (Run(Kind.COMPRESSED, at, compressed.guests[at], 1) for at in compressed.in_guests(start, end))
        yield from heapq.merge(self._layout.data_in(start, end), packed, key=lambda run: run.index)

    def extents(self) -> Iterator[Extent]:
        """Yield the ranges of allocated clusters."""

        def ranges() -> Iterator[Extent]:
            for run in self._runs(0, sys.maxsize):
                start = run.index * self._cluster
                end = min(start + run.count * self._cluster, self.size)
                if end > start:
                    yield Extent(start, end - start)

        yield from merge(ranges())

    def beyond(self) -> Iterator[Extent]:
        """Yield the ranges of the file that hold guest data past the end of the disk."""
        for run in self._layout.data_in(self.size // self._cluster, sys.maxsize):
            hidden = max(self.size - run.index * self._cluster, 0)
            start, end = run.host * self._cluster + hidden, (run.host + run.count) * self._cluster
            if start < min(end, self._outer.size):
                yield Extent(start, min(end, self._outer.size) - start)

    def nonzero(self) -> ExtentMap:
        """Scan the allocated clusters once."""
        if self._nonzero is None:
            self._nonzero = super().nonzero()
        return self._nonzero

    def read(self, offset: int, length: int) -> Data:
        """Read allocated clusters from the file; the rest is zero."""
        end = offset + length
        parts: list[Data] = []
        at = offset
        for run in self._runs(offset // self._cluster, -(-end // self._cluster)):
            start = max(run.index * self._cluster, offset)
            stop = min((run.index + run.count) * self._cluster, end)
            if start > at:
                parts.append(bytes(start - at))
            inside = start - run.index * self._cluster
            if run.kind is Kind.COMPRESSED:
                parts.append(memoryview(self._recent[run.host])[inside : inside + stop - start])
            else:
                parts.append(self._read_host(run.host * self._cluster + inside, stop - start))
            at = stop
        if at < end:
            parts.append(bytes(end - at))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_host(self, host: int, length: int) -> Data:
        """Read from the file, whose last cluster may be cut off after its last data."""
        held = max(min(length, self._outer.size - host), 0)
        data = self._outer.read(host, held)
        return data if held == length else bytes(data).ljust(length, b"\0")


class StoredClusters:
    """The compressed clusters of a file, in file order."""

    def __init__(self, outer: Source, structure: Qcow2Structure, path: Path) -> None:
        self._outer = outer
        self._path = path
        self._compressed = structure.layout.compressed
        self._cluster = structure.record.cluster_size
        self._disk_size = structure.disk_size
        self._zstd = structure.record.compression_type == CompressionType.ZSTD

    def __len__(self) -> int:
        return len(self._compressed)

    def number_of(self, position: int) -> int:
        """Return the guest cluster."""
        return self._compressed.guests[position]

    def room_of(self, position: int) -> int:
        """Return the bytes up to the end of the last sector."""
        return self._compressed.sizes[position]

    def prepare(self, position: int) -> Work[Inflated]:
        """Read a cluster and return the work of decompressing it."""
        guest, offset = self._compressed.guests[position], self._compressed.offsets[position]
        packed = bytes(self._outer.read(offset, self._compressed.sizes[position]))

        def work() -> Inflated:
            cluster = self._cluster
            made = zstd.inflate(packed, cluster) if self._zstd else inflate(packed, cluster, ZLIB_WBITS)
            if made.problem:
                raise CorruptError(
                    "qcow2 compressed cluster can't be decompressed",
                    path=self._path,
                    offset=offset,
                    expected=f"guest cluster {guest}, {cluster} bytes",
                    actual=made.problem,
                )
            shown = made.content[: max(self._disk_size - guest * cluster, 0)]
            return Inflated(packed[: made.used], shown.ljust(cluster, b"\0"))

        return work
