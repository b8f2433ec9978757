"""The boot record and bootmap of a disk, with the files of its ext4 boot partition that they refer to."""

from __future__ import annotations

import msgspec

from rehydrator.boot.zipl.c_zipl import BootmapHeader, SignatureTrailer
from rehydrator.boot.zipl.parts import Parts
from rehydrator.boot.zipl.pointers import FileRun, Span, file_spans, without_signature
from rehydrator.boot.zipl.read import BootmapFile, read_parts
from rehydrator.errors import CorruptError
from rehydrator.fs.ext4.ext4 import Ext4

BOOTMAP_PATH = "/bootmap"
MAX_BOOTMAP = 16 << 20


class Installed(msgspec.Struct, frozen=True):
    """A bootmap as it is on a disk: the boot record that leads to it, its inode, file and parts."""

    boot_record: bytes
    inode: int
    file: BootmapFile
    parts: Parts


def bootmap_inode(fs: Ext4) -> int | None:
    """Return the inode of the bootmap, None where there is none."""
    return fs.lookup(BOOTMAP_PATH)


def file_blocks(fs: Ext4, inode: int) -> list[int]:
    """Return the file system block of each block of a file, 0 for holes."""
    found: list[int] = []
    for run in fs.block_map(fs.inode(inode)).runs:
        if run.logical + run.count > MAX_BOOTMAP // fs.geometry.block_size:
            raise CorruptError("the bootmap is too large", actual=f"block {run.logical}")
        found += [0] * (run.logical - len(found))
        found += range(run.physical, run.physical + run.count)
    return found


def read_installed(sector: bytes, fs: Ext4) -> Installed:
    """Take the bootmap apart that ``sector`` (0 of the disk) leads to. Raises CorruptError."""
    inode = bootmap_inode(fs)
    if inode is None:
        raise CorruptError("the boot partition has no bootmap", expected=BOOTMAP_PATH)
    file = BootmapFile(fs.read_file(inode, MAX_BOOTMAP), file_blocks(fs, inode), fs.geometry.block_size)
    return Installed(sector, inode, file, read_parts(sector, file))


def component_spans(fs: Ext4, inode: int, parts: Parts) -> list[Span]:
    """Return the sectors that zipl writes down for a kernel or ramdisk as the file lies now."""
    info = fs.inode(inode)
    runs = [FileRun(run.logical, run.physical, run.count) for run in fs.block_map(info).runs]
    window = BootmapHeader.parse(parts.header).version != 0
    spans = file_spans(runs, info.size, parts.grid, block_window=window)
    return without_signature(spans, _tail(fs, inode), parts.grid.sector)


def _tail(fs: Ext4, inode: int) -> bytes:
    info = fs.inode(inode)
    block_size = fs.geometry.block_size
    first = max(info.size - SignatureTrailer.SIZE, 0) // block_size
    count = -(-info.size // block_size) - first
    data = fs.block_reader(fs.block_map(info).runs)(first, count) if count else b""
    return data[: info.size - first * block_size][-SignatureTrailer.SIZE :]
