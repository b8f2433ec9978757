"""The qcow2 layer: images of version 2 and 3, with compressed clusters or without, any cluster size."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from rehydrator.codecs import zstd
from rehydrator.codecs.deflate import Shape
from rehydrator.codecs.patches import Patches
from rehydrator.disk.extents import chunks, is_zero
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.base import Unwrapped
from rehydrator.layers.block_runs import BlockRun, in_guest_order, joined, nonzero_runs
from rehydrator.layers.c_qcow2 import CompressionType
from rehydrator.layers.exactness import KEEP, check_exact, reading
from rehydrator.layers.packed import (
    ChunkEncoder,
    Survey,
    find_encoder,
    patched,
    proven,
    sizes_in_file,
    tables_with,
)
from rehydrator.layers.packed_record import words
from rehydrator.layers.qcow2_compressed import CompressedClusters
from rehydrator.layers.qcow2_disk import Qcow2Disk, shape_of
from rehydrator.layers.qcow2_image import Qcow2Image, pack_sizes
from rehydrator.layers.qcow2_layout import Layout, sequential
from rehydrator.layers.qcow2_read import Qcow2Structure, read_image
from rehydrator.layers.qcow2_record import Kind, Qcow2Record

_MAX_RUNS = 1 << 16  # of an order that has to be told: a megabyte


class Qcow2Layer:
    """Wraps a disk into a qcow2 file and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the image's structure and check that :meth:`wrap` will give all of its metadata back."""
        image = read_image(outer, path)
        disk = Qcow2Disk(outer, image, path)
        with reading(path, at=lambda: next(iter(image.layout.compressed.offsets), 0)):
            if not len(disk.clusters):
                return _tell(outer, disk, disk.record, image.layout, path)
            return self._unwrap_compressed(outer, disk, image, path)

    def _unwrap_compressed(self, outer: Source, disk: Qcow2Disk, image: Qcow2Structure, path: Path) -> Unwrapped:
        """Find out how clusters were compressed; compare all of the file with what :meth:`wrap` gives."""
        shape = shape_of(image.record)
        encoder = _encoder(disk, image, shape)
        layout = _exact(image.layout, sizes_in_file(disk.clusters, disk.record.cluster_size), disk.record.cluster_size)

        def tell(patches: Patches) -> Unwrapped:
            changes = {"encoder": encoder.name, "patched": patched(patches, disk.clusters)}
            return _tell(outer, disk, msgspec.structs.replace(disk.record, **changes), layout, path, patches)

        return proven(outer, tell, self, Survey(disk.clusters, encoder, shape, disk.record.cluster_size))

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the image's structure."""
        image = read_image(outer, path)
        disk = Qcow2Disk(outer, image, path)
        stored = image.layout.in_allocation_order(disk.record.cluster_size)
        record = disk.record if in_guest_order(stored) else msgspec.structs.replace(disk.record, allocation=stored)
        return Unwrapped(disk, record)

    def wrap(self, inner: Source, record: Qcow2Record, tables: Sequence[bytes] = ()) -> Source:
        """Return the qcow2 file around ``inner`` as a source that computes its tables on the way.

        Without the table of sizes, all clusters are compressed once more to learn them.
        """
        return Qcow2Image(inner, record, tables)

    def describe(self, record: Qcow2Record) -> str:
        """Name version, cluster size, layout and encoder."""
        runs = [] if record.allocation == "nonzero" else record.allocation
        usual = record.placement == "sequential" and in_guest_order(runs)
        order = "clusters in guest order" if usual else f"explicit cluster order, runs: {_runs_in(record)}"
        size = record.cluster_size
        unit = f"{size // 1024} KiB" if size >= 1024 else f"{size} bytes"
        encoder = f", {words(record.encoder, record.patched, record.tables, 'cluster')}" if record.encoder else ""
        return f"qcow2 v{record.version}, {unit} clusters, {order}{encoder}"


def _runs_in(record: Qcow2Record) -> int:
    """Return how many runs tell the order of clusters."""
    runs = record.allocation if record.placement == "sequential" else record.placement
    return len(runs)


def _encoder(disk: Qcow2Disk, image: Qcow2Structure, shape: Shape) -> ChunkEncoder:
    """Return the encoder of the compressed clusters."""
    if image.record.compression_type == CompressionType.ZSTD:
        return zstd.encoder(zstd.DEFAULT)
    return find_encoder(disk.clusters, shape)


def _tell(
    outer: Source, disk: Qcow2Disk, record: Qcow2Record, layout: Layout, path: Path, patches: Patches | None = None
) -> Unwrapped:
    """Return the record and tables of a file, after comparing all but guest data."""
    record, sizes = _placed(record, layout, disk)
    table = None if sizes is None else pack_sizes(sizes, record)
    tables = tables_with(table, patches or Patches())
    with reading(path):
        again = Qcow2Image(disk, record, tables)
    _check(outer, again, disk, path)
    return Unwrapped(disk, record, tables)


def _exact(layout: Layout, sizes: Sequence[int], cluster_size: int) -> Layout:
    """Return the layout with the exact sizes of its compressed clusters."""
    compressed = CompressedClusters()
    for guest, offset, size in zip(layout.compressed.guests, layout.compressed.offsets, sizes, strict=True):
        compressed.append(guest, offset, size)
    overlap = compressed.overlap()
    if overlap is not None:
        raise CorruptError(
            "qcow2 compressed clusters overlap",
            offset=compressed.offsets[overlap],
            expected=f"guest cluster {compressed.guests[overlap]} at {compressed.end(overlap - 1):#x} or later,"
            f" behind guest cluster {compressed.guests[overlap - 1]}",
            actual=f"{compressed.offsets[overlap]:#x}",
        )
    runs = [run for run in layout.runs if run.kind is not Kind.COMPRESSED]
    return Layout([*runs, *compressed.host_runs(cluster_size)], compressed)


def _placed(record: Qcow2Record, layout: Layout, disk: Qcow2Disk) -> tuple[Qcow2Record, Sequence[int] | None]:
    """Return the record with the shortest allocation and placement that give ``layout``, and the sizes in its order."""
    nonzero = list(nonzero_runs(disk.nonzero(), record.cluster_size))
    sizes = _sizes(nonzero, layout.compressed)
    if sequential(record, nonzero, sizes) == layout:
        return record, sizes
    stored = layout.in_allocation_order(record.cluster_size)
    if len(stored) > _MAX_RUNS:
        expected = f"at most {_MAX_RUNS} runs of clusters"
        raise UnsupportedError("qcow2 in too many pieces", expected=expected, actual=len(stored))
    for allocation in (_ascending(stored), stored):
        sizes = _sizes(allocation, layout.compressed)
        explicit = msgspec.structs.replace(record, allocation=allocation)
        if sequential(explicit, allocation, sizes) == layout:
            return explicit, sizes
    if record.encoder:
        raise UnsupportedError(
            "qcow2 with compressed clusters and tables in an order that has no name",
            expected="tables and clusters where qemu puts them in one of its orders",
            actual=f"{len(layout.runs)} runs of clusters",
        )
    return msgspec.structs.replace(record, placement=layout.runs), None


def _sizes(runs: Sequence[BlockRun], compressed: CompressedClusters) -> Sequence[int] | None:
    """Return the compressed size of each allocated guest cluster, 0 for a plain one; None if all are plain."""
    if not len(compressed):
        return None
    sizes = array("I", bytes(array("I").itemsize * sum(run.count for run in runs)))
    first = 0
    for run in runs:
        for at in compressed.in_guests(run.start, run.end):
            sizes[first + compressed.guests[at] - run.start] = compressed.sizes[at]
        first += run.count
    return sizes


def _ascending(runs: Iterable[BlockRun]) -> list[BlockRun]:
    return list(joined(sorted(runs, key=lambda run: run.start)))


def _check(outer: Source, again: Qcow2Image, disk: Qcow2Disk, path: Path) -> None:
    """Compare everything but guest data with the file."""
    for extent in chunks(disk.beyond()):
        if not is_zero(outer.read(*extent)):
            raise _not_zero("qcow2 data past the end of the disk", extent.offset, path)
    check_exact("qcow2 metadata", outer, again, again.metadata(), path, again.name_of)
    for hole in chunks(again.unused()):
        if not is_zero(outer.read(*hole)):
            raise _not_zero("a leaked qcow2 cluster holds data", hole.offset, path)


def _not_zero(what: str, offset: int, path: Path) -> UnsupportedError:
    return UnsupportedError(what, path=path, offset=offset, expected="zeros", actual="data", hint=KEEP)
