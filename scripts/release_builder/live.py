"""The live artifacts: PXE kernel, initramfs and rootfs, and the ISO that holds all three."""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import live_iso, stage
from .architectures import BOOT, ROOT
from .content import Content
from .disk import MIB, Image, copy_sparse, read_partitions
from .metadata import Artifact, digest_file
from .ostree import Deployment
from .platforms import artifact_name
from .rawimage import Kit, run_on_disk
from .tools import BuildError
from .wrap import Target

_STREAM_HASH_CHUNK = 2 * MIB
_SQUASHFS_OFFSET = 124  # newc header and name of the first member; the live system mounts it from there


@dataclass(frozen=True)
class LiveInput:
    """What the live artifacts are made from."""

    content: Content
    deployment: Deployment
    metal: Image
    metal4k: Image
    options: tuple[str, ...]  # mksquashfs's


def build_live(kit: Kit, target: Target, source: LiveInput) -> list[Artifact]:
    """Make the four live artifacts."""
    work = kit.work / "live"
    pxeboot = work / "iso/images/pxeboot"
    pxeboot.mkdir(parents=True)
    modules = source.content.root / "usr/lib/modules" / source.content.kernel_version
    kernel = pxeboot / live_iso.kernel_name(target.arch)
    for name, copy in {"vmlinuz": kernel, "initramfs.img": pxeboot / "initrd.img"}.items():
        shutil.copyfile(modules / name, copy)
    rootfs = pxeboot / "rootfs.img"
    _build_rootfs(kit, target, source, work / "rootfs", rootfs)
    _extend_initramfs(kit, target, work / "initrd", rootfs, pxeboot / "initrd.img")
    tree = live_iso.Source(source.content, source.deployment, target.build_id, target.arch)
    iso = live_iso.build(kit, tree, work)
    names = {
        "live-iso": (iso, "iso", "disk", "iso"),
        "live-kernel": (kernel, "pxe", "kernel", ""),
        "live-initramfs": (pxeboot / "initrd.img", "pxe", "initramfs", "img"),
        "live-rootfs": (work / "rootfs.img", "pxe", "rootfs", "img"),
    }
    artifacts = []
    for key, (path, stream_format, role, suffix) in names.items():
        final = target.directory / artifact_name(target.build_id, key, target.arch, suffix)
        shutil.move(path, final)
        artifacts.append(Artifact(key, "metal", stream_format, role, final.name, digest_file(final)))
    shutil.rmtree(work)
    return artifacts


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _archive(kit: Kit, top: Path, output: Path) -> None:
    """Write a newc archive in the order of the directory, the root filesystem first."""
    names = kit.runner.run("find", ".", "-mindepth", "1", "-print0", cwd=top).split(b"\0")
    first = b"./root.squashfs"
    if first in names:
        names.remove(first)
        names.insert(0, first)
    kit.runner.run("cpio", "-o", "-H", "newc", "-R", "root:root", "--quiet", "--reproducible", "--force-local",
                   "--null", "-D", top, stdin=b"\0".join(names), stdout=output)  # fmt: skip


def _pad4(path: Path) -> None:
    """Pad to four bytes, where the kernel expects the next archive."""
    os.truncate(path, -(-path.stat().st_size // 4) * 4)


def _build_rootfs(kit: Kit, target: Target, source: LiveInput, top: Path, output: Path) -> None:
    top.mkdir()
    _write(top / "etc/coreos-live-rootfs", f"{target.build_id}\n")
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_osmet, kit, target, image, top) for image in (source.metal, source.metal4k)]
        jobs.append(pool.submit(_squashfs, kit, source, top / "root.squashfs"))
        for job in jobs:
            job.result()
    _archive(kit, top, output)
    _pad4(output)
    with output.open("rb") as archive:
        archive.seek(_SQUASHFS_OFFSET)
        if archive.read(4) != b"hsqs":
            raise BuildError("the squashfs is not where the live system looks for it")
    shutil.rmtree(top)


def _osmet(kit: Kit, target: Target, image: Image, directory: Path) -> None:
    name = artifact_name(target.build_id, image.path.stem, target.arch, "raw.osmet")
    with kit.steps.step(f"live: osmet of {image.path.stem}"):
        parts = read_partitions(image.path, image.sector_size)
        with (
            kit.loops.attach(image.path, image.sector_size, parts[ROOT], read_only=True) as root,
            kit.loops.attach(image.path, image.sector_size, parts[BOOT], read_only=True) as boot,
        ):
            request = stage.Request(
                "osmet", str(root), str(boot), source=str(image.path), output=str(directory / name),
                sector_size=image.sector_size, architecture=target.arch,
                description=f"CoreOS-like test release {target.build_id}",
            )  # fmt: skip
            stage.run_stage(kit.runner, request)


def _squashfs(kit: Kit, source: LiveInput, output: Path) -> None:
    with kit.steps.step("live: mksquashfs"):
        image = Image(kit.work / "live-metal.raw")
        copy_sparse(kit.runner, source.metal.path, image.path)
        esp = source.content.esp
        run_on_disk(kit, image, "squashfs", source=str(esp) if esp.exists() else "", output=str(output),
                    arguments=source.options)  # fmt: skip
        image.path.unlink()


def _extend_initramfs(kit: Kit, target: Target, top: Path, rootfs: Path, initramfs: Path) -> None:
    """Append what makes an initramfs a live one; it also names the rootfs that belongs to it."""
    _write(top / "etc/coreos-live-initramfs", f"{target.build_id}\n")
    _write(top / "etc/coreos/features.json", live_iso.FEATURES)
    lines = [f"stream-hash sha256 {_STREAM_HASH_CHUNK}"]
    with rootfs.open("rb") as data:
        while chunk := data.read(_STREAM_HASH_CHUNK):
            lines.append(hashlib.sha256(chunk).hexdigest())
    _write(top / "etc/coreos-live-want-rootfs", "\n".join(lines) + "\n")
    archive = top.parent / "initrd.cpio"
    _archive(kit, top, archive)
    with initramfs.open("ab") as target_file:
        target_file.write(kit.runner.run("gzip", "-9", stdin=archive.read_bytes()))
    _pad4(initramfs)
    archive.unlink()
    shutil.rmtree(top)
