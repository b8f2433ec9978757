"""The VHDX layer: dynamic disks as qemu-img writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec

from rehydrator.disk.composed import Joined, Slice, Zeros
from rehydrator.disk.extents import Extent, ExtentMap
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import MismatchError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.block_runs import BlockRun, in_guest_order, nonzero_runs
from rehydrator.layers.c_vhdx import MIB
from rehydrator.layers.exactness import check_exact, reading
from rehydrator.layers.vhdx_read import read_image
from rehydrator.layers.vhdx_record import DATA_GAP, METADATA_LENGTH, Geometry, VhdxRecord, is_possible
from rehydrator.layers.vhdx_tables import BatRegion, LogRegion, allocate, header_section, metadata_region


class VhdxLayer:
    """Wraps a disk into a dynamic VHDX and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the file's structure and check that :meth:`wrap` gives back all of it but the disk."""
        image = read_image(outer, path)
        record = image.record
        if record.blocks == list(nonzero_runs(image.disk.nonzero(), record.block_size)):
            record = msgspec.structs.replace(record, blocks="nonzero")
        record = compact(record)
        with reading(path):
            again = VhdxImage(image.disk, record)
        check_exact("VHDX", outer, again, again.computed(), path)
        return Unwrapped(image.disk, record)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the file's structure."""
        image = read_image(outer, path)
        record = image.record
        if record.blocks != "nonzero" and in_guest_order(record.blocks):
            record = msgspec.structs.replace(record, blocks="nonzero")
        return Unwrapped(image.disk, compact(record))

    def wrap(self, inner: Source, record: VhdxRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the VHDX around ``inner``; its tables and log are computed when they are read."""
        return VhdxImage(inner, record)

    def describe(self, record: VhdxRecord) -> str:
        """Name block size, layout and creator, and count what has no name."""
        order = "blocks in guest order" if record.blocks == "nonzero" else "explicit block order"
        literal = sum(len(rest.data) for rest in record.log_rest)
        rest = f", {literal:,} literal bytes in its log" if literal else ""
        return f"vhdx, {record.block_size // MIB} MiB blocks, {order}, by {record.creator}{rest}"


class VhdxImage(Joined):
    """A VHDX file computed from its disk and record."""

    def __init__(self, disk: Source, record: VhdxRecord) -> None:
        if not is_possible(record, disk.size):
            raise MismatchError("the VHDX record holds impossible numbers")
        nonzero = disk.nonzero()
        runs = record.blocks if isinstance(record.blocks, list) else list(nonzero_runs(nonzero, record.block_size))
        allocation = allocate(record, runs, Geometry(record, disk.size))
        try:
            header = BytesSource(header_section(record, allocation.geometry))
            metadata = BytesSource(metadata_region(record, disk.size))
            log = LogRegion(record, allocation)
        except (ValueError, OverflowError, struct.error) as error:
            raise MismatchError(f"the VHDX record holds impossible values: {error}") from error
        head = [header, log, BatRegion(allocation), metadata, Zeros(DATA_GAP - METADATA_LENGTH)]
        super().__init__(chain(head, _blocks(disk, nonzero, runs, record.block_size)))

    def computed(self) -> Iterator[Extent]:
        """Yield the ranges of all that is not the disk."""
        yield from (place for part, place in self.places() if not isinstance(part, Slice))


def _blocks(disk: Source, nonzero: ExtentMap, runs: Sequence[BlockRun], size: int) -> Iterator[Source]:
    """Yield the blocks; the last of a disk may reach past its end."""
    for run in runs:
        start = run.start * size
        held = min(run.count * size, disk.size - start)
        yield Slice(disk, start, held, nonzero)
        yield Zeros(run.count * size - held)
