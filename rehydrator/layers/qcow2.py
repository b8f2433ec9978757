"""The qcow2 layer: uncompressed images, version 2 and 3, any cluster size."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.disk.extents import Data, Extent, chunks, is_zero
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped
from rehydrator.layers.c_qcow2 import (
    DEFAULT_REFCOUNT_ORDER,
    ENTRY_SIZE,
    MAGIC,
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MAX_REFTABLE_BYTES,
    MIN_CLUSTER_BITS,
    OFLAG_COPIED,
    ExtensionHeader,
    ExtensionType,
    FeatureNameEntry,
    Header,
    HeaderV3,
)
from rehydrator.layers.qcow2_layout import Layout, guest_runs, sequential_runs
from rehydrator.layers.qcow2_read import Qcow2Disk, read_image
from rehydrator.layers.qcow2_record import Kind, Qcow2Record, Run


class Qcow2Layer:
    """Wraps a disk into a qcow2 file and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the image's structure and check that :meth:`wrap` will give all of its metadata back."""
        image = read_image(outer, path)
        disk = Qcow2Disk(outer, image)
        record = image.record
        nonzero = guest_runs(disk.nonzero(), record.cluster_size)
        if Layout(sequential_runs(record, nonzero)) == image.layout:
            compact = record
        else:
            compact = _with_runs(record, image.layout)
        self._check(outer, compact, disk, path)
        return Unwrapped(disk, compact)

    def _check(self, outer: Source, record: Qcow2Record, disk: Qcow2Disk, path: Path) -> None:
        """Compare everything but guest data with the file; guest data within the disk is right by construction."""
        for extent in chunks(disk.beyond()):
            if not is_zero(outer.read(*extent)):
                raise UnsupportedError("qcow2 data past the end of the disk", path=path, offset=extent.offset)
        again = Qcow2Image(disk, record)
        for piece in again.metadata():
            if again.read(*piece) != outer.read(*piece):
                raise UnsupportedError(
                    "this qcow2 metadata would not be written back exactly", path=path, offset=piece.offset
                )
        for hole in chunks(again.unused()):
            if not is_zero(outer.read(*hole)):
                raise UnsupportedError("a leaked qcow2 cluster holds data", path=path, offset=hole.offset)

    def wrap(self, inner: Source, record: Qcow2Record, tables: Sequence[bytes] = ()) -> Source:
        """Return the qcow2 file around ``inner`` as a source that computes its tables on the way."""
        return Qcow2Image(inner, record)

    def describe(self, record: Qcow2Record) -> str:
        """Name version, cluster size and layout."""
        order = "clusters in guest order" if record.placement == "sequential" else "explicit cluster order"
        return f"qcow2 v{record.version}, {record.cluster_size // 1024} KiB clusters, {order}"


def _with_runs(record: Qcow2Record, layout: Layout) -> Qcow2Record:
    data = guest_runs(
        (
            Extent(run.index * record.cluster_size, run.count * record.cluster_size)
            for run in layout.data_in(0, sys.maxsize)
        ),
        record.cluster_size,
    )
    explicit = msgspec.structs.replace(record, allocation=data)
    if Layout(sequential_runs(explicit, data)) == layout:
        return explicit
    return msgspec.structs.replace(record, allocation="nonzero", placement=layout.runs)


class Qcow2Image(Source):
    """A qcow2 file computed from its disk and record; tables are made when they are read."""

    def __init__(self, disk: Source, record: Qcow2Record) -> None:
        _check_record(record)
        self._disk = disk
        self._record = record
        self._cluster = record.cluster_size
        self.size = record.file_size
        if record.placement == "sequential":
            allocated = (
                guest_runs(disk.nonzero(), self._cluster) if record.allocation == "nonzero" else record.allocation
            )
            self._layout = Layout(sequential_runs(record, allocated))
        else:
            self._layout = Layout(record.placement)
        if self._layout.overlap() is not None:
            raise MismatchError("the qcow2 record uses a cluster twice")
        last = self._layout.runs[-1]
        if (last.host + last.count - 1) * self._cluster >= self.size:
            raise MismatchError(
                "the disk does not fit the qcow2 record",
                expected=f"{self.size // self._cluster} clusters",
                actual=f"{last.host + last.count} clusters",
            )

    def extents(self) -> Iterator[Extent]:
        """Yield the whole file: qemu-img writes no holes on purpose."""
        yield Extent(0, self.size)

    def metadata(self) -> Iterator[Extent]:
        """Yield the ranges of all clusters that are not guest data."""
        for run in self._layout.runs:
            if run.kind is not Kind.DATA:
                yield self._extent(run.host, run.count)

    def unused(self) -> Iterator[Extent]:
        """Yield the ranges of host clusters that nothing refers to."""
        at = 0
        for run in self._layout.runs:
            if run.host > at:
                yield self._extent(at, run.host - at)
            at = run.host + run.count
        if at * self._cluster < self.size:
            yield Extent(at * self._cluster, self.size - at * self._cluster)

    def _extent(self, host: int, count: int) -> Extent:
        start = host * self._cluster
        return Extent(start, min(count * self._cluster, self.size - start))

    def read(self, offset: int, length: int) -> Data:
        """Return guest data and computed tables."""
        parts: list[Data] = []
        while length > 0:
            host, inside = divmod(offset, self._cluster)
            run = self._layout.run_at(host)
            if run is None:
                following = self._layout.next_used(host)
                room = length if following is None else following * self._cluster - offset
                part: Data = bytes(min(length, room))
            elif run.kind is Kind.DATA:
                left = (run.host + run.count) * self._cluster - offset
                part = self._guest((run.index + host - run.host) * self._cluster + inside, min(length, left))
            else:
                part = self._table(run, host)[inside : inside + length]
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _guest(self, offset: int, length: int) -> Data:
        """Read guest data; the last cluster may reach past the end of the disk."""
        held = max(min(length, self._disk.size - offset), 0)
        if held == length:
            return self._disk.read(offset, length)
        return bytes(self._disk.read(offset, held)).ljust(length, b"\0")

    def _table(self, run: Run, host: int) -> bytes:
        number = run.index + host - run.host
        per_cluster = self._cluster // ENTRY_SIZE
        first = number * per_cluster
        if run.kind is Kind.HEADER:
            return self._header().ljust(self._cluster, b"\0")
        if run.kind is Kind.REFCOUNT_BLOCK:
            return self._refcounts(number)
        entries = array.array("Q", bytes(self._cluster))
        if run.kind is Kind.L2:
            for data in self._layout.data_in(first, first + per_cluster):
                for step in range(data.count):
                    entries[data.index + step - first] = OFLAG_COPIED | (data.host + step) * self._cluster
        elif run.kind is Kind.L1:
            for index, table in self._layout.tables.items():
                if first <= index < first + per_cluster:
                    entries[index - first] = OFLAG_COPIED | table * self._cluster
        else:
            for index, block in enumerate(self._record.refcount_blocks[first : first + per_cluster]):
                entries[index] = block * self._cluster
        return _big_endian(entries)

    def _refcounts(self, number: int) -> bytes:
        per_block = self._cluster // 2
        counts = array.array("H", bytes(self._cluster))
        first = number * per_block
        for run in self._layout.used_in(first, first + per_block):
            at = run.host - first
            counts[at : at + run.count] = array.array("H", [1]) * run.count
        return _big_endian(counts)

    def _header(self) -> bytes:
        record = self._record
        header = Header(
            magic=MAGIC,
            version=record.version,
            backing_file_offset=0,
            backing_file_size=0,
            cluster_bits=record.cluster_bits,
            size=self._disk.size,
            crypt_method=0,
            l1_size=record.l1_size,
            l1_table_offset=record.l1_table * self._cluster,
            refcount_table_offset=record.refcount_table * self._cluster,
            refcount_table_clusters=record.refcount_table_clusters,
            nb_snapshots=0,
            snapshots_offset=0,
        ).pack()
        if record.version >= 3:
            header += HeaderV3(
                incompatible_features=record.incompatible_features,
                compatible_features=record.compatible_features,
                autoclear_features=record.autoclear_features,
                refcount_order=DEFAULT_REFCOUNT_ORDER,
                header_length=record.header_length,
            ).pack()
            if record.header_length > len(header):
                header += bytes([record.compression_type])
        return header.ljust(record.header_length, b"\0") + _extensions(record)


def _check_record(record: Qcow2Record) -> None:
    """Refuse a record with numbers that no qcow2 file has; it may come from a forged manifest."""
    good = record.version in (2, 3) and MIN_CLUSTER_BITS <= record.cluster_bits <= MAX_CLUSTER_BITS
    if not (good and _header_is_possible(record) and _runs_are_possible(record)):
        raise MismatchError("the qcow2 record holds impossible numbers")


def _header_is_possible(record: Qcow2Record) -> bool:
    features = (record.incompatible_features, record.compatible_features, record.autoclear_features)
    small = [record.compression_type, *(n for item in record.feature_names for n in (item.feature_type, item.bit))]
    return (
        0 <= record.l1_size * ENTRY_SIZE <= MAX_L1_BYTES
        and 0 <= record.refcount_table_clusters << record.cluster_bits <= MAX_REFTABLE_BYTES
        and Header.SIZE <= record.header_length <= record.cluster_size
        and all(0 <= value < 1 << 64 for value in features)
        and all(0 <= value < 1 << 8 for value in small)
        and all(0 <= item.type < 1 << 32 for item in record.extensions)
    )


def _runs_are_possible(record: Qcow2Record) -> bool:
    clusters = -(-record.file_size // record.cluster_size)
    guests = (1 << 62) >> record.cluster_bits
    if isinstance(record.placement, list):
        placed = bool(record.placement) and all(
            run.host >= 0 and 0 < run.count <= clusters - run.host and 0 <= run.index <= guests
            for run in record.placement
        )
    else:
        placed = True
    allocated = record.allocation if isinstance(record.allocation, list) else []
    return (
        placed
        and all(0 <= host < clusters for host in (record.l1_table, record.refcount_table, *record.refcount_blocks))
        and all(run.start >= 0 and run.count > 0 and run.end <= guests for run in allocated)
    )


def _extensions(record: Qcow2Record) -> bytes:
    names = b"".join(
        FeatureNameEntry(feature_type=item.feature_type, bit=item.bit, name=item.name.encode()).pack()
        for item in record.feature_names
    )
    found = [(item.type, item.data) for item in record.extensions]
    if names:
        found.append((ExtensionType.FEATURE_NAME_TABLE, names))
    return b"".join(
        ExtensionHeader(type=kind, length=len(data)).pack() + data + bytes(-len(data) % 8) for kind, data in found
    )


def _big_endian(values: array.array[int]) -> bytes:
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()
