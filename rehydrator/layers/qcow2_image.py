"""A qcow2 file computed from its disk and record."""

from __future__ import annotations

import bisect
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence

from rehydrator.codecs.patches import Patches
from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError
from rehydrator.layers import size_table
from rehydrator.layers.block_runs import BlockRun, nonzero_runs
from rehydrator.layers.c_qcow2 import (
    DEFAULT_REFCOUNT_ORDER,
    ENTRY_SIZE,
    MAGIC,
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MAX_REFCOUNT,
    MAX_REFTABLE_BYTES,
    MIN_CLUSTER_BITS,
    OFLAG_COPIED,
    REFCOUNT_SIZE,
    CompressedDescriptor,
    ExtensionHeader,
    ExtensionType,
    FeatureNameEntry,
    Header,
    HeaderV3,
)
from rehydrator.layers.packed import Compressed, Packer, Packing, split_tables
from rehydrator.layers.qcow2_disk import encoder_of, shape_of
from rehydrator.layers.qcow2_layout import Layout, sequential, use_of
from rehydrator.layers.qcow2_record import Kind, Qcow2Record, Run


class Qcow2Image(Source):
    """A qcow2 file computed from its disk and record; tables are made when they are read.

    ``kept`` are the compressed clusters where they were made before; then there are no tables.
    """

    def __init__(
        self, disk: Source, record: Qcow2Record, tables: Sequence[bytes] = (), kept: Compressed | None = None
    ) -> None:
        _check_record(record, disk)
        self._disk = disk
        self._record = record
        self._cluster = record.cluster_size
        self.size = record.file_size
        sizes, patches = split_tables(tables, record.patched)
        if record.encoder:
            self._packing = packing_of(record, patches)
        self._layout = self._lay_out(sizes, kept)
        if self._layout.overlap() is not None:
            raise MismatchError("the qcow2 record uses a cluster twice")
        last = self._layout.runs[-1]
        if (last.host + last.count - 1) * self._cluster >= self.size:
            raise MismatchError(
                "the disk does not fit the qcow2 record",
                expected=f"{self.size // self._cluster} clusters",
                actual=f"{last.host + last.count} clusters",
            )

    def _lay_out(self, table: bytes | None, kept: Compressed | None) -> Layout:
        record = self._record
        if record.placement != "sequential":
            return Layout(record.placement)
        allocated = record.allocation
        if allocated == "nonzero":
            allocated = list(nonzero_runs(self._disk.nonzero(), self._cluster))
        if not record.encoder:
            return sequential(record, allocated)
        count = sum(run.count for run in allocated)
        if table is None:
            kept = kept or compressed_clusters(self._disk, allocated, self._packing)
            sizes = kept.sizes
        else:
            sizes = size_table.parse(table, count, _size_width(record))
        if count and max(sizes) >= self._cluster:
            raise MismatchError("the qcow2 record has a compressed cluster of impossible size", actual=max(sizes))
        layout = sequential(record, allocated, sizes)
        self._packer = Packer(self._disk, layout.compressed.guests, self._packing, self._finish, kept)
        return layout

    def _finish(self, position: int, made: bytes | None) -> bytes:
        """Compare the size of a compressed cluster with the one that the tables were made from."""
        expected = self._layout.compressed.sizes[position]
        if made is None or len(made) != expected:
            raise MismatchError(
                f"qcow2 cluster {self._layout.compressed.guests[position]} compresses to another size than recorded",
                expected=expected,
                actual="no saving" if made is None else len(made),
            )
        return made

    def extents(self) -> Iterator[Extent]:
        """Yield the whole file: qemu-img writes no holes on purpose."""
        yield Extent(0, self.size)

    def metadata(self) -> Iterator[Extent]:
        """Yield the ranges of all clusters that are not guest data."""
        for run in self._layout.runs:
            if run.kind not in (Kind.DATA, Kind.COMPRESSED):
                yield self._extent(run.host, run.count)

    def name_of(self, offset: int) -> str:
        """Say what metadata lies at a byte of the file; nothing for what is none."""
        host, inside = divmod(offset, self._cluster)
        run = self._layout.run_at(host)
        if run is None:
            return ""
        number = run.index + host - run.host
        per_cluster = self._cluster // ENTRY_SIZE
        match run.kind:
            case Kind.REFCOUNT_BLOCK:
                return f"the reference count of cluster {(number * self._cluster + inside) // REFCOUNT_SIZE}"
            case Kind.L1 | Kind.REFCOUNT_TABLE:
                return f"entry {number * per_cluster + inside // ENTRY_SIZE} of {use_of(run, host)}"
            case Kind.L2:
                return f"the L2 entry of guest cluster {number * per_cluster + inside // ENTRY_SIZE}"
        return use_of(run, host)

    def unused(self) -> Iterator[Extent]:
        """Yield the ranges that nothing refers to: host clusters, and what compressed clusters leave of theirs."""
        yield from self._gaps()
        at = 0
        for run in self._layout.runs:
            if run.host > at:
                yield self._extent(at, run.host - at)
            at = run.host + run.count
        if at * self._cluster < self.size:
            yield Extent(at * self._cluster, self.size - at * self._cluster)

    def _gaps(self) -> Iterator[Extent]:
        clusters = self._layout.compressed
        for run in self._layout.runs:
            if run.kind is Kind.COMPRESSED:
                at, stop = self._extent(run.host, run.count).offset, self._extent(run.host, run.count).end
                for position in clusters.touching(at, stop):
                    if clusters.offsets[position] > at:
                        yield Extent(at, clusters.offsets[position] - at)
                    at = clusters.end(position)
                if at < stop:
                    yield Extent(at, stop - at)

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
            elif run.kind is Kind.COMPRESSED:
                left = (run.host + run.count) * self._cluster - offset
                part = self._packed(offset, min(length, left))
            else:
                part = self._table(run, host)[inside : inside + length]
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _packed(self, offset: int, length: int) -> Data:
        """Return at least one byte of compressed clusters, or of the gaps between them."""
        clusters = self._layout.compressed
        at = bisect.bisect_right(clusters.offsets, offset) - 1
        if at >= 0 and offset < clusters.end(at):
            inside = offset - clusters.offsets[at]
            return memoryview(self._packer[at])[inside : inside + length]
        following = clusters.offsets[at + 1] if at + 1 < len(clusters) else offset + length
        return bytes(min(length, following - offset))

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
        entries = array("Q", bytes(self._cluster))
        if run.kind is Kind.L2:
            for data in self._layout.data_in(first, first + per_cluster):
                for step in range(data.count):
                    entries[data.index + step - first] = OFLAG_COPIED | (data.host + step) * self._cluster
            compressed = self._layout.compressed
            for at in compressed.in_guests(first, first + per_cluster):
                entries[compressed.guests[at] - first] = CompressedDescriptor.pack(
                    compressed.offsets[at], compressed.sizes[at], self._record.cluster_bits
                )
        elif run.kind is Kind.L1:
            for index, table in self._layout.tables.items():
                if first <= index < first + per_cluster:
                    entries[index - first] = OFLAG_COPIED | table * self._cluster
        else:
            for index, block in enumerate(self._record.refcount_blocks[first : first + per_cluster]):
                entries[index] = block * self._cluster
        return _big_endian(entries)

    def _refcounts(self, number: int) -> bytes:
        per_block = self._cluster // REFCOUNT_SIZE
        counts = array("H", bytes(self._cluster))
        first = number * per_block
        for run in self._layout.used_in(first, first + per_block):
            at = run.host - first
            if run.kind is Kind.COMPRESSED:
                counts[at : at + run.count] = self._shares(run)
            else:
                counts[at : at + run.count] = array("H", [1]) * run.count
        return _big_endian(counts)

    def _shares(self, run: Run) -> array[int]:
        """Return how many compressed clusters each host cluster of a run holds parts of."""
        clusters = self._layout.compressed
        counts = [0] * run.count
        for at in clusters.touching(run.host * self._cluster, (run.host + run.count) * self._cluster):
            first = max(clusters.offsets[at] // self._cluster - run.host, 0)
            last = min((clusters.end(at) - 1) // self._cluster - run.host, run.count - 1)
            for host in range(first, last + 1):
                counts[host] += 1
        if max(counts) > MAX_REFCOUNT:
            raise MismatchError("the qcow2 record has too many compressed clusters in one host cluster")
        return array("H", counts)

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


def packing_of(record: Qcow2Record, patches: Patches) -> Packing:
    """Return how the clusters are compressed."""
    return Packing(encoder_of(record), shape_of(record), record.cluster_size, patches, padded=True)


def compressed_clusters(disk: Source, allocated: Iterable[BlockRun], packing: Packing) -> Compressed:
    """Compress all allocated clusters, in the order of their allocation."""
    numbers = array("Q", (guest for run in allocated for guest in range(run.start, run.end)))
    return Compressed(disk, numbers, packing)


def pack_sizes(sizes: Sequence[int], record: Qcow2Record) -> bytes:
    """Return the table of the compressed sizes of all allocated clusters, in the order of their allocation."""
    return size_table.pack(sizes, _size_width(record))


def _size_width(record: Qcow2Record) -> int:
    return -(-record.cluster_bits // 8)


def _check_record(record: Qcow2Record, disk: Source) -> None:
    """Refuse a record with numbers that no qcow2 file has; it may come from a forged manifest."""
    good = record.version in (2, 3) and MIN_CLUSTER_BITS <= record.cluster_bits <= MAX_CLUSTER_BITS
    if not (good and _header_is_possible(record) and _runs_are_possible(record, disk)):
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


def _runs_are_possible(record: Qcow2Record, disk: Source) -> bool:
    if record.encoder and record.placement != "sequential":
        return False
    clusters = -(-record.file_size // record.cluster_size)
    guests = -(-disk.size // record.cluster_size) if record.encoder else (1 << 62) >> record.cluster_bits
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


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()
