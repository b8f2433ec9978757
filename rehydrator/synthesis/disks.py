"""Disk containers around another disk than the one that their record was taken from."""

from __future__ import annotations

import re
import zlib

from msgspec.structs import replace

from rehydrator.codecs.patches import Patches
from rehydrator.disk.source import Source
from rehydrator.layers.block_runs import nonzero_runs
from rehydrator.layers.c_qcow2 import ENTRY_SIZE, REFCOUNT_SIZE
from rehydrator.layers.c_vhd import EPOCH
from rehydrator.layers.c_vmdk import SECTOR
from rehydrator.layers.qcow2_image import Qcow2Image, compressed_clusters, packing_of
from rehydrator.layers.qcow2_layout import Layout, sequential
from rehydrator.layers.qcow2_record import QEMU_REFCOUNT_BLOCKS, Kind, Qcow2Record
from rehydrator.layers.vhd import VhdLayer
from rehydrator.layers.vhd_record import LARGEST_GEOMETRY, QEMU_VERSION, DynamicVhd, VhdRecord
from rehydrator.layers.vhdx import VhdxLayer
from rehydrator.layers.vhdx_record import VhdxHeader, VhdxRecord
from rehydrator.layers.vmdk import VmdkImage
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.synthesis.made import Made

_EXTENT = re.compile(r"(RW|RDONLY|NOACCESS) \d+ (.*)")
_NUMBER = re.compile(r'.*= "(\d+)"')
_CYLINDERS = "ddb.geometry.cylinders"


def qcow2(record: Qcow2Record, disk: Source, _made: Made) -> Source:
    """Lay the clusters out as ``qemu-img convert`` does; header, feature names and encoder are the record's."""
    size = record.cluster_size
    fresh = Qcow2Record(
        file_size=0,
        l1_size=max(-(-disk.size // (size * (size // ENTRY_SIZE))), 1),
        version=record.version,
        cluster_bits=record.cluster_bits,
        header_length=record.header_length,
        compatible_features=record.compatible_features,
        incompatible_features=record.incompatible_features,
        compression_type=record.compression_type,
        feature_names=record.feature_names,
        extensions=record.extensions,
        encoder=record.encoder,
    )
    allocated = list(nonzero_runs(disk.nonzero(), size))
    kept = compressed_clusters(disk, allocated, packing_of(fresh, Patches())) if record.encoder else None
    sizes = None if kept is None else kept.sizes
    per_block = size // REFCOUNT_SIZE
    clusters, blocks = 1, 0
    while blocks * per_block < clusters:  # another refcount block may be the cluster that needs one more
        blocks = -(-clusters // per_block)
        places = (*QEMU_REFCOUNT_BLOCKS, *(number * per_block for number in range(1, blocks)))
        fresh = replace(fresh, refcount_blocks=places)
        layout = sequential(fresh, allocated, sizes)
        clusters = layout.runs[-1].host + layout.runs[-1].count
    fresh = replace(fresh, file_size=_end(layout, size))
    return Qcow2Image(disk, fresh, kept=kept)


def _end(layout: Layout, cluster_size: int) -> int:
    """Return the size of the file: that of its clusters, or up to the sector in which a last, compressed one ends."""
    last = layout.runs[-1]
    if last.kind is not Kind.COMPRESSED:
        return (last.host + last.count) * cluster_size
    return -(-layout.compressed.end(len(layout.compressed) - 1) // SECTOR) * SECTOR


def vmdk(record: VmdkRecord, disk: Source, made: Made) -> Source:
    """Describe the disk in the record's words."""
    fresh = VmdkRecord(descriptor=_descriptor(record.descriptor, disk.size // SECTOR, made), deflate=record.deflate)
    return VmdkImage(disk, fresh, [])


def _descriptor(lines: list[str], sectors: int, made: Made) -> list[str]:
    numbers = {line.partition(" ")[0]: int(found[1]) for line in lines if (found := _NUMBER.fullmatch(line))}
    per_cylinder = numbers.get("ddb.geometry.heads", 255) * numbers.get("ddb.geometry.sectors", 63)
    fresh = []
    for line in map(made.renamed, lines):
        if line.startswith("CID="):
            fresh.append(f"CID={zlib.crc32(made.identity('content').encode()):08x}")
        elif extent := _EXTENT.fullmatch(line):
            fresh.append(f"{extent[1]} {sectors} {extent[2]}")
        elif line.startswith(_CYLINDERS):
            fresh.append(f'{_CYLINDERS} = "{sectors // max(per_cylinder, 1)}"')
        else:
            fresh.append(line)
    return fresh


def vhd(record: VhdRecord, disk: Source, made: Made) -> Source:
    """Say the disk's size as ``qemu-img`` does with ``force_size``: by the program's name, not by the geometry."""
    fresh = VhdRecord(
        time_stamp=max(made.epoch - EPOCH, 0),
        unique_id=made.identity("disk"),
        creator_version=record.creator_version if record.geometry == LARGEST_GEOMETRY else QEMU_VERSION,
        creator_host_os=record.creator_host_os,
        features=record.features,
        dynamic=None if record.dynamic is None else DynamicVhd(record.dynamic.block_size),
    )
    return VhdLayer().wrap(disk, fresh)


def vhdx(record: VhdxRecord, disk: Source, made: Made) -> Source:
    """Write headers of a file that was closed well, with an empty log."""
    first, second = (VhdxHeader(number, made.identity("file"), made.identity("data")) for number in (1, 2))
    fresh = VhdxRecord(
        creator=record.creator,
        headers=(first, second),
        virtual_disk_id=made.identity("disk"),
        block_size=record.block_size,
        logical_sector_size=record.logical_sector_size,
        physical_sector_size=record.physical_sector_size,
        absent_state=record.absent_state,
    )
    return VhdxLayer().wrap(disk, fresh)
