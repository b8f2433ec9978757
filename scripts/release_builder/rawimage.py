"""raw-image: the unreleased parent of all platforms, and the edit that makes a platform of it."""

import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import disk, stage
from .content import Content
from .disk import Loops
from .ostree import Deployment
from .tools import Runner, Steps

# Enough for GRUB to find and read /boot.
_GRUB_MODULES = ("biosdisk", "part_gpt", "ext2", "normal", "configfile", "search", "search_label", "test", "linux")
_KERNEL_SECTOR_AT = 0x5C  # in boot.img: LBA of the core image, u64
_DRIVE_CHECK_AT = 0x66  # in boot.img: a jump that keeps the BIOS's drive number, made a no-op for hard disks
_BLOCKLIST = struct.Struct("<QHH")  # at the end of the core image's first sector: LBA, sectors, segment
_BLOCKLIST_SEGMENT = 0x820
_SECTOR = 512


@dataclass(frozen=True)
class RawImage:
    """A disk image with its sector size."""

    path: Path
    sector_size: int = 512


@dataclass(frozen=True)
class Kit:
    """What every step of the build needs."""

    runner: Runner
    loops: Loops
    steps: Steps
    work: Path


def run_on_disk(
    kit: Kit, image: RawImage, action: str, *, platform: str = "", source: str = "", output: str = ""
) -> None:
    """Attach root and boot of a disk image for one mount cycle and run a stage on them."""
    parts = disk.read_partitions(image.path, image.sector_size)
    with ExitStack() as stack:
        root = stack.enter_context(kit.loops.attach(image.path, image.sector_size, parts[disk.ROOT]))
        boot = stack.enter_context(kit.loops.attach(image.path, image.sector_size, parts[disk.BOOT]))
        stage.run_stage(kit.runner, stage.Request(action, str(root), str(boot), platform, source, output))
    disk.flush(image.path)


def build_raw_image(kit: Kit, content: Content, deployment: Deployment, image: RawImage) -> None:
    """Make the partition table and the filesystems and fill them, each step in its own mount cycle."""
    size = disk.metal_size(deployment.content_bytes)
    parts = disk.partition_disk(kit.runner, kit.loops, image.path, size, image.sector_size)
    disk.make_filesystems(kit.runner, kit.loops, image.path, image.sector_size, parts)
    for action in ("mkdir", "selinux-root", "selinux-boot"):
        run_on_disk(kit, image, action)
    run_on_disk(kit, image, "copy", source=str(deployment.tree))
    with kit.loops.attach(image.path, image.sector_size, parts[disk.ESP]) as device:
        # mtools instead of a mount: not every kernel has the vfat driver.
        kit.runner.run("mcopy", "-s", "-m", "-i", device, content.esp / "EFI", "::", env={"MTOOLS_SKIP_CHECK": "1"})
    run_on_disk(kit, image, "bootloader", source=str(content.boot_config))
    if image.sector_size == _SECTOR:
        _install_bios_grub(kit, content.support / "usr/lib/grub/i386-pc", image.path, parts[disk.BIOS_BOOT])
    run_on_disk(kit, image, "chattr")


def _install_bios_grub(kit: Kit, modules: Path, image: Path, partition: disk.Extent) -> None:
    """Write GRUB into the boot record and the BIOS boot partition, as grub-install does."""
    core_path = kit.work / "core.img"
    kit.runner.run("grub-mkimage", "-O", "i386-pc", "-d", modules, "-o", core_path, "-p", "(,gpt3)/grub2",
                   *_GRUB_MODULES)  # fmt: skip
    core = bytearray(core_path.read_bytes())
    first = partition.offset // _SECTOR
    sectors = -(-len(core) // _SECTOR) - 1
    _BLOCKLIST.pack_into(core, _SECTOR - _BLOCKLIST.size, first + 1, sectors, _BLOCKLIST_SEGMENT)
    boot = bytearray((modules / "boot.img").read_bytes()[:440])
    struct.pack_into("<Q", boot, _KERNEL_SECTOR_AT, first)
    boot[_DRIVE_CHECK_AT : _DRIVE_CHECK_AT + 2] = b"\x90\x90"
    with image.open("r+b") as target:
        # Only the code area of the boot record: the protective partition table stays.
        target.write(boot)
        target.seek(partition.offset)
        target.write(core)
    disk.flush(image)


def make_sibling(kit: Kit, parent: RawImage, name: str, platform: str, size: int | None = None) -> RawImage:
    """Copy raw-image, enlarge the copy if it is for a cloud, and make it one of `platform`."""
    child = RawImage(kit.work / f"{name}.raw", parent.sector_size)
    disk.copy_sparse(kit.runner, parent.path, child.path, size)
    run_on_disk(kit, child, "platform", platform=platform)
    return child
