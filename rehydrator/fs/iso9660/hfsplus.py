"""Apple's partition map and the structures of an HFS Plus volume in an ISO 9660 image, by name.

Its files are those of the ISO, and lie where these do; besides there are a header, its copy and its own files.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.fs.iso9660.c_hfsplus import (
    DRIVER_SIGNATURE,
    HEADER_AT,
    HFS_TYPE,
    MAX_BLOCK,
    MAX_PARTITIONS,
    MIN_BLOCK,
    PARTITION_SIGNATURE,
    SIGNATURES,
    Block0,
    ExtentDescriptor,
    ForkData,
    Partition,
    VolumeHeader,
)
from rehydrator.fs.place import Kind

PARTITION_MAP = "Apple partition map"
_FORKS = {
    "allocationFile": ("HFS Plus allocation file", Kind.BLOCK_BITMAP),
    "extentsFile": ("HFS Plus extents overflow file", Kind.BTREE_BLOCK),
    "catalogFile": ("HFS Plus catalog file", Kind.DIRECTORY),
    "attributesFile": ("HFS Plus attributes file", Kind.XATTR_BLOCK),
    "startupFile": ("HFS Plus startup file", Kind.SYSTEM_AREA),
}


class HybridPlace(msgspec.Struct, frozen=True):
    """A structure at ``extent`` of the image; ``fields`` are relative to its start."""

    extent: Extent
    structure: str
    name: str
    fields: tuple[FieldSpan, ...] = ()


def hybrid_places(source: Source) -> Iterator[HybridPlace]:
    """Yield the structures of a partition map and of the HFS Plus volumes that it leads to; nothing without a map."""
    if source.size < Block0.SIZE:
        return
    head = Block0.parse(source.read(0, Block0.SIZE))
    if head.sbSig != DRIVER_SIGNATURE or not head.sbBlkSize >= MIN_BLOCK:
        return
    yield HybridPlace(Extent(0, Block0.SIZE), PARTITION_MAP, "driver descriptor record", Block0.FIELDS)
    for number in range(1, MAX_PARTITIONS + 1):
        at = number * head.sbBlkSize
        if at + Partition.SIZE > source.size:
            return
        entry = Partition.parse(source.read(at, Partition.SIZE))
        if entry.pmSig != PARTITION_SIGNATURE:
            return
        yield HybridPlace(Extent(at, Partition.SIZE), PARTITION_MAP, f"map entry {number}", Partition.FIELDS)
        if entry.pmParType.rstrip(b"\0") == HFS_TYPE:
            place = Extent(entry.pmPyPartStart * head.sbBlkSize, entry.pmPartBlkCnt * head.sbBlkSize)
            yield from _volume(source, place)


def _volume(source: Source, place: Extent) -> Iterator[HybridPlace]:
    at = place.offset + HEADER_AT
    if place.end > source.size or place.length < 2 * HEADER_AT:
        return
    header = VolumeHeader.parse(source.read(at, VolumeHeader.SIZE))
    if header.signature not in SIGNATURES or not MIN_BLOCK <= header.blockSize <= MAX_BLOCK:
        return
    yield HybridPlace(
        Extent(at, VolumeHeader.SIZE), Kind.SUPERBLOCK, "HFS Plus volume header", VolumeHeader.FIELDS
    )  # fmt: skip
    copy = Extent(place.end - HEADER_AT, VolumeHeader.SIZE)
    yield HybridPlace(copy, Kind.BACKUP_SUPERBLOCK, "HFS Plus volume header, copy", VolumeHeader.FIELDS)
    for name, (text, structure) in _FORKS.items():
        fork = ForkData.parse(getattr(header, name))
        for start in range(0, len(fork.extents), ExtentDescriptor.SIZE):
            run = ExtentDescriptor.parse(fork.extents, start)
            extent = Extent(place.offset + run.startBlock * header.blockSize, run.blockCount * header.blockSize)
            if extent.length and extent.end <= place.end:
                yield HybridPlace(extent, structure, text)
