"""Geometry of a FAT file system and its table of clusters."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence

import msgspec

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.fat.c_fat import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    FAT32_MASK,
    FIRST_CLUSTER,
    MAX_FAT12_CLUSTERS,
    SECTOR_SIZES,
    Bpb,
    Bpb32,
    DirectoryEntry,
)

_BOOT = 512


class FatType(enum.IntEnum):
    """Type of a FAT; the value is the number of bits of its entries."""

    FAT12 = 12
    FAT16 = 16
    FAT32 = 32

    @property
    def bad(self) -> int:
        """The entry of a cluster that must not be used."""
        return (FAT32_MASK if self is FatType.FAT32 else (1 << self) - 1) & ~0x8

    @property
    def end(self) -> int:
        """The lowest entry that ends a chain."""
        return self.bad + 1


class Geometry(msgspec.Struct, frozen=True):
    """The layout. Offsets and sizes are in bytes; ``clusters`` counts data clusters."""

    type: FatType
    sector_size: int
    cluster_size: int
    reserved: int
    fats: int
    fat_size: int
    root_size: int
    clusters: int
    size: int
    root_cluster: int
    fsinfo_sector: int
    backup_sector: int
    media: int

    @property
    def root_offset(self) -> int:
        """Where the root directory of FAT12 and FAT16 begins."""
        return self.reserved + self.fats * self.fat_size

    @property
    def data_offset(self) -> int:
        """Where cluster 2 begins."""
        return self.root_offset + self.root_size

    def cluster_byte(self, cluster: int) -> int:
        """Byte offset of ``cluster``."""
        return self.data_offset + (cluster - FIRST_CLUSTER) * self.cluster_size

    def valid(self, cluster: int) -> bool:
        """Tell whether ``cluster`` is a data cluster."""
        return FIRST_CLUSTER <= cluster < self.clusters + FIRST_CLUSTER


def read_geometry(source: Source) -> Geometry:
    """Read the boot sector. Raises CorruptError for anything that is not FAT."""
    if source.size < _BOOT:
        raise CorruptError("not a FAT file system", expected="a boot sector", actual=f"{source.size} bytes")
    sector = bytes(source.read(0, _BOOT))
    bpb, bpb32 = Bpb.parse(sector), Bpb32.parse(sector, Bpb.SIZE)
    fat_sectors = bpb.BPB_FATSz16 or bpb32.BPB_FATSz32
    sectors = bpb.BPB_TotSec16 or bpb.BPB_TotSec32
    per_cluster = bpb.BPB_SecPerClus
    rules = {
        "signature": sector[BOOT_SIGNATURE_OFFSET:] == BOOT_SIGNATURE,
        "BS_jmpBoot": bpb.BS_jmpBoot[:1] in {b"\xeb", b"\xe9"},
        "BPB_BytsPerSec": bpb.BPB_BytsPerSec in SECTOR_SIZES,
        "BPB_SecPerClus": per_cluster > 0 and not per_cluster & (per_cluster - 1),
        "BPB_RsvdSecCnt": bpb.BPB_RsvdSecCnt > 0,
        "BPB_NumFATs": bpb.BPB_NumFATs in {1, 2},
        "BPB_Media": bpb.BPB_Media == 0xF0 or bpb.BPB_Media >= 0xF8,
        "BPB_FATSz": fat_sectors > 0,
    }
    for name, fine in rules.items():
        if not fine:
            raise CorruptError(f"not a FAT file system: impossible {name}", offset=0)
    size = bpb.BPB_BytsPerSec
    root_sectors = -(-bpb.BPB_RootEntCnt * DirectoryEntry.SIZE // size)
    data = sectors - bpb.BPB_RsvdSecCnt - bpb.BPB_NumFATs * fat_sectors - root_sectors
    clusters = data // per_cluster
    if clusters < 1:
        raise CorruptError("not a FAT file system: no room for data", offset=0, actual=f"{sectors} sectors")
    kind = _type(clusters, bpb)
    wide = kind is FatType.FAT32
    held = fat_sectors * size * 8 // kind - FIRST_CLUSTER
    if held < clusters:
        raise CorruptError("the FAT is too small", offset=0, expected=f"{clusters} entries", actual=held)
    return Geometry(
        type=kind,
        sector_size=size,
        cluster_size=per_cluster * size,
        reserved=bpb.BPB_RsvdSecCnt * size,
        fats=bpb.BPB_NumFATs,
        fat_size=fat_sectors * size,
        root_size=root_sectors * size,
        clusters=clusters,
        size=sectors * size,
        root_cluster=bpb32.BPB_RootClus if wide else 0,
        fsinfo_sector=bpb32.BPB_FSInfo if wide else 0,
        backup_sector=bpb32.BPB_BkBootSec if wide else 0,
        media=bpb.BPB_Media,
    )


def _type(clusters: int, bpb: Bpb) -> FatType:
    if not bpb.BPB_FATSz16:  # Linux decides by this field too
        return FatType.FAT32
    return FatType.FAT12 if clusters <= MAX_FAT12_CLUSTERS else FatType.FAT16


def read_table(data: bytes, geometry: Geometry) -> Sequence[int]:
    """Decode a FAT: entry ``n`` tells what follows cluster ``n``. Missing bytes read as free."""
    count = geometry.clusters + FIRST_CLUSTER
    needed = -(-count * geometry.type // 8)
    data = data[:needed].ljust(needed, b"\0")
    if geometry.type is FatType.FAT16:
        return struct.unpack_from(f"<{count}H", data)
    if geometry.type is FatType.FAT32:
        return [value & FAT32_MASK for value in struct.unpack_from(f"<{count}I", data)]
    pairs = data.ljust(-(-needed // 3) * 3, b"\0")
    values: list[int] = []
    for low, middle, high in zip(pairs[::3], pairs[1::3], pairs[2::3], strict=True):
        values += (low | (middle & 0xF) << 8, middle >> 4 | high << 4)
    return values[:count]
