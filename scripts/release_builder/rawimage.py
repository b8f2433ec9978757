"""raw-image: the unreleased parent of all platforms, and the edit that makes a platform of it."""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from . import bootloaders, disk, stage
from .architectures import BOOT, ESP, ROOT, Architecture
from .content import Content
from .disk import Image, Loops
from .ostree import Deployment
from .stage import ZIPL_SECTOR
from .tools import Runner, Steps


@dataclass(frozen=True)
class Kit:
    """What every step of the build needs."""

    runner: Runner
    loops: Loops
    steps: Steps
    work: Path


def run_on_disk(
    kit: Kit,
    image: Image,
    action: str,
    *,
    platform: str = "",
    source: str = "",
    output: str = "",
    arguments: tuple[str, ...] = (),
) -> None:
    """Attach root and boot of a disk image for one mount cycle and run a stage on them."""
    parts = disk.read_partitions(image.path, image.sector_size)
    with ExitStack() as stack:
        root = stack.enter_context(kit.loops.attach(image.path, image.sector_size, parts[ROOT]))
        boot = stack.enter_context(kit.loops.attach(image.path, image.sector_size, parts[BOOT]))
        stage.run_stage(
            kit.runner, stage.Request(action, str(root), str(boot), platform, source, output, arguments=arguments)
        )
    disk.flush(image.path)


def build_raw_image(
    kit: Kit,
    architecture: Architecture,
    content: Content,
    deployment: Deployment,
    image: Image,
    size: int | None = None,
    arguments: tuple[str, ...] = (),
) -> None:
    """Make the partition table and the filesystems and fill them, each step in its own mount cycle.

    A disk of another `size` than metal's has a root partition of the same size. `arguments` are the kernel's, besides
    those of the deployment.
    """
    metal_size = disk.metal_size(architecture, deployment.content_bytes)
    root_mib = disk.root_size(deployment.content_bytes)
    specs = tuple(replace(item, size_mib=root_mib) if item.name == ROOT else item for item in architecture.partitions)
    partitions = architecture.partitions if size is None else specs
    parts = disk.partition_disk(kit.runner, kit.loops, image, size or metal_size, partitions)
    if architecture.random_ids:
        disk.make_filesystems(kit.runner, kit.loops, image, parts, (), ())
    else:
        disk.make_filesystems(kit.runner, kit.loops, image, parts, ("-d", "agcount=2"))
    for action in ("mkdir", "selinux-root", "selinux-boot"):
        run_on_disk(kit, image, action)
    run_on_disk(kit, image, "copy", source=str(deployment.tree), arguments=arguments)
    if content.esp.exists():
        with kit.loops.attach(image.path, image.sector_size, parts[ESP]) as device:
            # mtools instead of a mount: not every kernel has the vfat driver.
            kit.runner.run("mcopy", "-s", "-m", "-i", device, content.esp / "EFI", "::", env={"MTOOLS_SKIP_CHECK": "1"})
    if content.boot_config.exists():
        run_on_disk(kit, image, "bootloader", source=str(content.boot_config))
    work = image.path.with_suffix(".boot")  # disks are made side by side
    work.mkdir()
    bootloaders.install(kit.runner, image, content.support, work)
    shutil.rmtree(work)
    run_on_disk(kit, image, "chattr")


def build_own_disk(
    kit: Kit,
    architecture: Architecture,
    content: Content,
    deployment: Deployment,
    image: Image,
    size: int | None,
    arguments: tuple[str, ...],
) -> None:
    """Make a disk that is no sibling of others, bootable; its zipl is told the disk's true sector size."""
    build_raw_image(kit, architecture, content, deployment, image, size, arguments)
    if content.zipl:
        run_zipl(kit, image, content.zipl, sector=image.sector_size)


def make_sibling(
    kit: Kit, parent: Image, name: str, platform: str, size: int | None = None, zipl: Path | None = None
) -> Image:
    """Copy raw-image, enlarge the copy if it is for a cloud, and make it one of `platform`, bootable by `zipl`."""
    child = Image(kit.work / f"{name}.raw", parent.sector_size)
    disk.copy_sparse(kit.runner, parent.path, child.path, size)
    run_on_disk(kit, child, "platform", platform=platform)
    if zipl:
        run_zipl(kit, child, zipl)
    return child


def run_zipl(
    kit: Kit, image: Image, zipl: Path, action: str = "zipl", *, platform: str = "", sector: int = ZIPL_SECTOR
) -> None:
    """Run zipl in a mount cycle of its own, on the whole disk's device, with what else the stage `action` does.

    Like the image builder this counts the partition's start in the disk's sectors, and yet tells zipl that sectors
    have 512 bytes unless `sector` is given: disks with larger ones get a boot record that leads nowhere.
    """
    parts = disk.read_partitions(image.path, image.sector_size)
    with ExitStack() as stack:
        whole = stack.enter_context(kit.loops.attach(image.path, image.sector_size))
        root = stack.enter_context(kit.loops.attach(image.path, image.sector_size, parts[ROOT]))
        boot = stack.enter_context(kit.loops.attach(image.path, image.sector_size, parts[BOOT]))
        location = parts[BOOT].offset // image.sector_size
        stage.run_stage(
            kit.runner,
            stage.Request(
                action,
                str(root),
                str(boot),
                platform,
                str(zipl),
                sector_size=sector,
                device=str(whole),
                location=location,
            ),
        )
    disk.flush(image.path)
