"""osmet files: how a live system rebuilds the metal disk from the files that it has anyway.

The file lists where each ostree object lies on the disk and holds everything else, xz-compressed.
"""

import fcntl
import lzma
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .bincode import VARIABLE, Encoding
from .disk import Extent
from .metadata import digest_file

INSTALLER_VERSION = "0.26.0"

_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP = struct.Struct("<QQIIII")  # fm_start, fm_length, fm_flags, fm_mapped_extents, fm_extent_count, fm_reserved
_FIEMAP_EXTENT = struct.Struct("<QQQ16xI12x")  # fe_logical, fe_physical, fe_length, fe_flags
_FIEMAP_COUNT = 32
_FIEMAP_EXTENT_LAST = 0x1
# UNKNOWN, DELALLOC, ENCODED, NOT_ALIGNED, UNWRITTEN, MERGED: the disk does not simply hold the file's bytes there.
_FIEMAP_UNUSABLE = 0x2 | 0x4 | 0x8 | 0x100 | 0x800 | 0x1000
_MIN_BOOT_FILE = 1024
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Mapping:
    """One extent of an object; `physical` counts from the start of the partition."""

    logical: int
    physical: int
    length: int
    object_id: bytes


@dataclass(frozen=True)
class Disk:
    """A mounted disk to pack."""

    image: Path
    sector_size: int
    root: Path
    boot: Path
    root_extent: Extent
    boot_extent: Extent


def file_extents(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield (logical, physical, length) of a file's extents."""
    with path.open("rb") as handle:
        start = 0
        while True:
            request = bytearray(_FIEMAP.size + _FIEMAP_COUNT * _FIEMAP_EXTENT.size)
            _FIEMAP.pack_into(request, 0, start, (1 << 64) - 1, 0, 0, _FIEMAP_COUNT, 0)
            fcntl.ioctl(handle.fileno(), _FS_IOC_FIEMAP, request)
            mapped = _FIEMAP.unpack_from(request)[3]
            if not mapped:
                return
            flags = 0
            for index in range(mapped):
                logical, physical, length, flags = _FIEMAP_EXTENT.unpack_from(
                    request, _FIEMAP.size + index * _FIEMAP_EXTENT.size
                )
                if flags & _FIEMAP_UNUSABLE:
                    raise ValueError(f"{path}: extent with flags {flags:#x}")
                yield logical, physical, length
                start = logical + length
            if flags & _FIEMAP_EXTENT_LAST:
                return


def canonicalize(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Sort by place and cut off overlaps (shared extents)."""
    result: list[Mapping] = []
    end = 0
    for item in sorted(mappings, key=lambda item: (item.physical, -item.length)):
        stop = item.physical + item.length
        if stop <= end:
            continue
        cut = max(0, end - item.physical)
        result.append(Mapping(item.logical + cut, item.physical + cut, item.length - cut, item.object_id))
        end = stop
    return result


def _objects(repo: Path) -> Iterator[tuple[Path, bytes]]:
    for directory, _names, files in os.walk(repo / "objects"):
        for name in files:
            path = Path(directory, name)
            if path.suffix == ".file" and not path.is_symlink():
                yield path, bytes.fromhex(path.parent.name + path.stem)


def _map_files(disk: Disk) -> tuple[list[Mapping], list[Mapping]]:
    """Return the mappings of boot and of root; a file on boot counts if an object has the same content."""
    on_boot: dict[int, Path] = {}
    for directory, _names, files in os.walk(disk.boot):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink() and path.stat().st_size > _MIN_BOOT_FILE:
                on_boot.setdefault(path.stat().st_size, path)
    boot, root = [], []
    for path, object_id in _objects(disk.root / "ostree/repo"):
        extents = list(file_extents(path))
        root += [Mapping(*extent, object_id) for extent in extents]
        candidate = on_boot.get(path.stat().st_size) if extents else None
        if candidate and digest_file(candidate) == digest_file(path):
            boot += [Mapping(*extent, object_id) for extent in file_extents(candidate)]
            del on_boot[path.stat().st_size]
    return canonicalize(boot), canonicalize(root)


def _encode_header(disk: Disk, description: str, architecture: str, code: Encoding) -> bytes:
    parts = [b"OSMET\0\0\0", code.u32(1), code.string(INSTALLER_VERSION), code.u32(disk.sector_size)]
    return b"".join([*parts, code.string(description), code.string(architecture)])


def _encode_partition(extent: Extent, mappings: list[Mapping], code: Encoding) -> bytes:
    parts = [code.u64(extent.offset), code.u64(extent.offset + extent.size), code.u64(len(mappings))]
    for item in mappings:
        parts += [code.u64(item.logical), code.u64(item.physical), code.u64(item.length), item.object_id]
    return b"".join(parts)


def _compress_rest(source: BinaryIO, size: int, skipped: Iterable[Extent], target: BinaryIO, preset: int) -> None:
    compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, preset=preset)
    position = 0
    for extent in (*skipped, Extent(size, 0)):
        source.seek(position)
        remaining = extent.offset - position
        while remaining:
            chunk = source.read(min(remaining, _CHUNK))
            target.write(compressor.compress(chunk))
            remaining -= len(chunk)
        position = extent.offset + extent.size
    target.write(compressor.flush())


def pack(
    disk: Disk, description: str, architecture: str, output: Path, *, preset: int = 9, code: Encoding = VARIABLE
) -> None:
    """Write the osmet file of a disk whose filesystems are mounted read-only; `preset` is xz's, 0 for `--fast`."""
    boot, root = _map_files(disk)
    partitions = ((disk.boot_extent, boot), (disk.root_extent, root))
    checksum = digest_file(disk.image)
    with disk.image.open("rb") as source, output.open("wb") as target:
        target.write(_encode_header(disk, description, architecture, code) + code.u64(len(partitions)))
        for extent, mappings in partitions:
            target.write(_encode_partition(extent, mappings, code))
        target.write(bytes.fromhex(checksum.sha256) + code.u64(checksum.size))
        skipped = [
            Extent(extent.offset + item.physical, item.length) for extent, mappings in partitions for item in mappings
        ]
        _compress_rest(source, checksum.size, skipped, target, preset)
