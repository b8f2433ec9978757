"""Partition tables, loop devices and the making of filesystems."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .architectures import BOOT, ESP, ROOT, SE, Architecture, PartitionSpec
from .tools import BuildError, Runner

MIB = 1024 * 1024
LABEL_ID = "00000000-0000-4000-a000-000000000001"
BOOT_UUID = "96d15588-3596-4b3c-adca-a2ff7279ea63"
ROOT_UUID = "910678ff-f77e-4a7d-8d53-86f2ac47a823"
ESP_VOLUME_ID = "7B7795E7"

_GPT_HEADER_TABLE = struct.Struct("<QII")  # partition_entry_lba, num_partition_entries, sizeof_partition_entry
_GPT_HEADER_TABLE_AT = 72
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")


@dataclass(frozen=True)
class Extent:
    """A partition's place on the disk, in bytes."""

    offset: int
    size: int


# mkfs.xfs refuses less than 300 MB; some room for its log.
MIN_ROOT_MIB = 320


def root_size(content_bytes: int) -> int:
    """Return the MiB of a root partition: the content and 35 % more."""
    return max(MIN_ROOT_MIB, -(-content_bytes * 135 // (100 * MIB)) + 64)


def disk_size(partitions: tuple[PartitionSpec, ...], root_mib: int) -> int:
    """Return the size of a disk in bytes: the partitions, and a MiB before and after them."""
    return (1 + sum(root_mib if spec.name == ROOT else spec.size_mib or 0 for spec in partitions) + 1) * MIB


def metal_size(architecture: Architecture, content_bytes: int) -> int:
    """Return the size of the metal disk in bytes."""
    return disk_size(architecture.partitions, root_size(content_bytes))


def sfdisk_script(partitions: tuple[PartitionSpec, ...], sector_size: int) -> str:
    """Return the text for sfdisk; partition GUIDs are left to it, so they are random."""
    lines = ["label: gpt", f"label-id: {LABEL_ID}", "unit: sectors", ""]
    for spec in partitions:
        fields = [] if spec.size_mib is None else [f"size={spec.size_mib * MIB // sector_size}"]
        fields += [f"type={spec.type_guid}", f'name="{spec.name}"']
        if spec.bootable:
            fields.append("bootable")
        number = "" if spec.number is None else f"{spec.number}: "
        lines.append(number + ", ".join(fields))
    return "\n".join(lines) + "\n"


def read_partitions(image: Path, sector_size: int) -> dict[str, Extent]:
    """Read the GPT of a disk image: partition name to its place."""
    with image.open("rb") as disk:
        header = os.pread(disk.fileno(), sector_size, sector_size)
        if header[:8] != b"EFI PART":
            raise BuildError(f"{image}: no GPT at sector 1 of {sector_size} bytes")
        table_lba, count, entry_size = _GPT_HEADER_TABLE.unpack_from(header, _GPT_HEADER_TABLE_AT)
        table = os.pread(disk.fileno(), count * entry_size, table_lba * sector_size)
    found = {}
    for index in range(count):
        type_guid, _guid, first, last, _attributes, name = _GPT_ENTRY.unpack_from(table, index * entry_size)
        if any(type_guid):
            label = name.decode("utf-16-le").rstrip("\0")
            found[label] = Extent(first * sector_size, (last - first + 1) * sector_size)
    return found


@dataclass(frozen=True)
class Image:
    """A disk image with its sector size."""

    path: Path
    sector_size: int = 512


class Loops:
    """Attaches loop devices and detaches exactly those that it attached."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @contextmanager
    def attach(
        self, image: Path, sector_size: int, extent: Extent | None = None, *, read_only: bool = False
    ) -> Iterator[Path]:
        """Attach a disk image, or the part of it that `extent` names, and detach it at the end.

        Partitions get a loop device each, since not every kernel scans partitions of loop devices.
        """
        argv = ["losetup", "--find", "--show", "--sector-size", str(sector_size)]
        if extent:
            argv += ["--offset", str(extent.offset), "--sizelimit", str(extent.size)]
        if read_only:
            argv.append("--read-only")
        device = Path(self._runner.run(*argv, image, protected=True).decode().strip())
        try:
            yield device
        finally:
            self._runner.run("losetup", "--detach", device, protected=True)
            flush(image)


def flush(path: Path) -> None:
    """Force a file's data to the disk, as the image builder does after it releases a loop device."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def partition_disk(
    runner: Runner, loops: Loops, image: Image, size: int, partitions: tuple[PartitionSpec, ...]
) -> dict[str, Extent]:
    """Create an empty disk image with this partition table."""
    with image.path.open("wb") as disk:
        disk.truncate(size)
    with loops.attach(image.path, image.sector_size) as device:
        script = sfdisk_script(partitions, image.sector_size)
        runner.run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device, stdin=script.encode())
    return read_partitions(image.path, image.sector_size)


def make_filesystems(
    runner: Runner,
    loops: Loops,
    image: Image,
    parts: dict[str, Extent],
    root_options: tuple[str, ...],
    esp_options: tuple[str, ...] = ("-i", ESP_VOLUME_ID),
) -> None:
    """Make the filesystems of the partitions that have one, each on a loop device of its own."""
    commands: dict[str, tuple[str, ...]] = {
        ESP: ("mkfs.fat", "-I", *esp_options, "-n", "EFI-SYSTEM"),
        BOOT: ("mkfs.ext4", "-q", "-U", BOOT_UUID, "-L", "boot", "-O", "metadata_csum_seed"),
        ROOT: ("mkfs.xfs", "-q", "-m", f"uuid={ROOT_UUID}", "-L", "root", *root_options),
        SE: ("mkfs.ext4", "-q", "-L", "se"),
    }
    for name, argv in commands.items():
        if name not in parts:
            continue
        with loops.attach(image.path, image.sector_size, parts[name]) as device:
            runner.run(*argv, device)


def copy_sparse(runner: Runner, source: Path, target: Path, size: int | None = None) -> None:
    """Copy a disk image with its holes, then make it larger."""
    runner.run("cp", "--sparse=auto", "--reflink=auto", source, target)
    if size is not None:
        os.truncate(target, size)
