"""The disk for IBM Secure Execution (qemu-secex): encrypted for one machine, and checked while it is read.

It is made as coreos-assembler's `platform.qemu-secex.ipp.yaml` and `secex-genprotimgvm-scripts` make it: file systems
of its own, hash trees of boot and root by dm-verity, and on the partition `se` the image that zipl makes bootable. That
image would come from genprotimg, which Debian does not package and which needs the host key document of a real machine;
see `_protected_image` for what stands in its place.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from . import disk, stage
from .architectures import BOOT, BOOT_HASH, ROOT, ROOT_HASH, SE, SECEX_PARTITIONS
from .content import Content
from .disk import Extent, Image
from .ostree import Deployment
from .rawimage import Kit, run_on_disk
from .tools import BuildError

_LOADER = "usr/share/s390-tools/pvimg/stage3a.bin"
_LOADER_AT = 0x10000  # where zipl takes the start of an image from
_PAGE = 4096
_VERITY_BLOCK = 512


def disk_size(content_bytes: int) -> int:
    """Return the size of the disk before it is enlarged, in bytes."""
    return disk.disk_size(SECEX_PARTITIONS, disk.root_size(content_bytes))


def make_secex(
    kit: Kit, content: Content, deployment: Deployment, image: Image, platform: str, size: int | None
) -> None:
    """Make the disk, enlarged to `size`. Its zipl is that of the content. Raises BuildError where there is none."""
    if content.zipl is None:
        raise BuildError("an image for Secure Execution needs zipl")
    root_mib = disk.root_size(deployment.content_bytes)
    specs = tuple(replace(spec, size_mib=root_mib) if spec.name == ROOT else spec for spec in SECEX_PARTITIONS)
    parts = disk.partition_disk(kit.runner, kit.loops, image, disk_size(deployment.content_bytes), specs)
    disk.make_filesystems(kit.runner, kit.loops, image, parts, ())
    run_on_disk(kit, image, "copy", source=str(deployment.tree))
    run_on_disk(kit, image, "chattr")
    run_on_disk(kit, image, "secex-mkdir")
    if size is not None:
        os.truncate(image.path, size)
    run_on_disk(kit, image, "platform", platform=platform)
    for data, tree in ((BOOT, BOOT_HASH), (ROOT, ROOT_HASH)):
        _hash_tree(kit, image, parts[data], parts[tree])
    protected = kit.work / "sdboot"
    protected.write_bytes(_protected_image(content.zipl, deployment.tree))
    _install(kit, image, parts[SE], content.zipl, protected)
    protected.unlink()


def _hash_tree(kit: Kit, image: Image, data: Extent, tree: Extent) -> None:
    """Write the hashes of a partition's blocks to another one; salt and UUID are random."""
    with ExitStack() as stack:
        devices = [stack.enter_context(kit.loops.attach(image.path, image.sector_size, part)) for part in (data, tree)]
        kit.runner.run("veritysetup", "format", *devices, "--data-block-size", str(_VERITY_BLOCK))
    disk.flush(image.path)


def _protected_image(zipl: Path, tree: Path) -> bytes:
    """Return what stands for genprotimg's output: its loader, and random bytes for what it would encrypt.

    Those are kernel, initramfs and command line under keys that only one machine can unwrap: without them nobody tells
    them from random bytes, and no build has the same ones as another.
    """
    boot = tree / "boot"
    encrypted = [path.stat().st_size for pattern in ("vmlinuz-*", "initramfs-*") for path in boot.rglob(pattern)]
    pages = sum(-(-size // _PAGE) for size in [*encrypted, _PAGE])
    loader = (zipl / _LOADER).read_bytes()
    return bytes(_LOADER_AT) + loader.ljust(-(-len(loader) // _PAGE) * _PAGE, b"\0") + os.urandom(pages * _PAGE)


def _install(kit: Kit, image: Image, se: Extent, zipl: Path, protected: Path) -> None:
    with ExitStack() as stack:
        whole = stack.enter_context(kit.loops.attach(image.path, image.sector_size))
        device = stack.enter_context(kit.loops.attach(image.path, image.sector_size, se))
        request = stage.Request(
            "secex", str(device), source=str(zipl), output=str(protected), device=str(whole),
            location=se.offset // image.sector_size,
        )  # fmt: skip
        stage.run_stage(kit.runner, request)
    disk.flush(image.path)
