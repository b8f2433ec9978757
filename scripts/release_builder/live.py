"""The live artifacts: PXE kernel, initramfs and rootfs, and the ISO that holds all three."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import miniso, stage
from .architectures import BOOT, ROOT
from .content import Content
from .disk import MIB, Image, copy_sparse, read_partitions
from .live_config import EMBED_AREA_END, KARGS_MARK
from .metadata import Artifact, digest_file
from .ostree import Deployment
from .platforms import NAME, artifact_name
from .rawimage import Kit, run_on_disk
from .tools import BuildError
from .wrap import Target

_IGNITION_AREA = 256 * 1024
_STREAM_HASH_CHUNK = 2 * MIB
_SQUASHFS_OFFSET = 124  # newc header and name of the first member; the live system mounts it from there
_EXCLUDED_KARGS = {"$ignition_firstboot", "console", "ignition.platform.id", "ostree"}
_FEATURES = {
    "installer-config": True,
    "installer-config-directives": {"append-karg": True, "dest-device": True, "ignition-file": True},
    "live-initrd-network": True,
}
_VENDOR = "fedora"


@dataclass(frozen=True)
class LiveInput:
    """What the live artifacts are made from."""

    content: Content
    deployment: Deployment
    metal: Image
    metal4k: Image


def build_live(kit: Kit, target: Target, source: LiveInput) -> list[Artifact]:
    """Make the four live artifacts."""
    work = kit.work / "live"
    pxeboot = work / "iso/images/pxeboot"
    pxeboot.mkdir(parents=True)
    modules = source.content.root / "usr/lib/modules" / source.content.kernel_version
    for name, copy in {"vmlinuz": "vmlinuz", "initramfs.img": "initrd.img"}.items():
        shutil.copyfile(modules / name, pxeboot / copy)
    rootfs = pxeboot / "rootfs.img"
    _build_rootfs(kit, target, source, work / "rootfs", rootfs)
    _extend_initramfs(kit, target, work / "initrd", rootfs, pxeboot / "initrd.img")
    iso = _build_iso(kit, target, source, work)
    names = {
        "live-iso": (iso, "iso", "disk", "iso"),
        "live-kernel": (pxeboot / "vmlinuz", "pxe", "kernel", ""),
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
                sector_size=image.sector_size, description=f"CoreOS-like test release {target.build_id}",
            )  # fmt: skip
            stage.run_stage(kit.runner, request)


def _squashfs(kit: Kit, source: LiveInput, output: Path) -> None:
    with kit.steps.step("live: mksquashfs"):
        image = Image(kit.work / "live-metal.raw")
        copy_sparse(kit.runner, source.metal.path, image.path)
        run_on_disk(kit, image, "squashfs", source=str(source.content.esp), output=str(output))
        image.path.unlink()


def _extend_initramfs(kit: Kit, target: Target, top: Path, rootfs: Path, initramfs: Path) -> None:
    """Append what makes an initramfs a live one; it also names the rootfs that belongs to it."""
    _write(top / "etc/coreos-live-initramfs", f"{target.build_id}\n")
    _write(top / "etc/coreos/features.json", _json(_FEATURES))
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


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def live_arguments(entry: str, volume_id: str) -> str:
    """Return the live system's kernel arguments, from a boot loader entry of the metal disk."""
    options = next(line for line in entry.splitlines() if line.startswith("options ")).split()[1:]
    kept = [option for option in options if option.split("=")[0] not in _EXCLUDED_KARGS]
    return " ".join([*kept, f"coreos.liveiso={volume_id}"])


def embed_area(template: str, arguments: str) -> tuple[str, int, int]:
    """Fill in a boot configuration; return it with offset and size of the area for kernel arguments."""
    start = template.index(KARGS_MARK)
    text = template.replace(KARGS_MARK, arguments)
    return text, start, text.index(EMBED_AREA_END) - start


def _boot_configs(source: LiveInput, iso: Path, volume_id: str) -> None:
    entry = next((source.deployment.tree / "boot/loader/entries").glob("*.conf")).read_text(encoding="utf-8")
    arguments = live_arguments(entry, volume_id)
    top = source.content.root / "usr/share/coreos-assembler/live"
    files, size = [], 0
    for template in sorted(path for path in top.rglob("*") if path.is_file()):
        path = template.relative_to(top).as_posix()
        text, offset, size = embed_area(template.read_text(encoding="utf-8"), arguments)
        _write(iso / path, text)
        files.append({"path": path, "offset": offset, "pad": "#", "end": "\n"})
    _write(iso / "coreos/kargs.json", _json({"default": arguments, "files": files, "size": size}))
    _write(iso / "coreos/igninfo.json", _json({"file": "images/ignition.img"}))
    _write(iso / "coreos/features.json", _json(_FEATURES))


def _efiboot(kit: Kit, source: LiveInput, volume_id: str, work: Path, output: Path) -> None:
    """Make the FAT image for UEFI: the EFI programs and a configuration that leads to the ISO's own."""
    tree = work / "efi"
    shutil.copytree(source.content.esp, tree)
    _write(
        tree / "EFI/BOOT/grub.cfg",
        f'search --label "{volume_id}" --set root --no-floppy\nset prefix=($root)/EFI/{_VENDOR}\n'
        'echo "Booting via ESP..."\nconfigfile $prefix/grub.cfg\nboot\n',
    )
    size = sum(path.stat().st_size + 1024 for path in tree.rglob("*")) + 2 * MIB
    output.touch()
    os.truncate(output, size // 512 * 512)
    kit.runner.run("mkfs.fat", "-I", "--mbr=n", "-n", "EFI-SYSTEM", output)
    kit.runner.run("mcopy", "-s", "-m", "-i", output, tree / "EFI", "::", env={"MTOOLS_SKIP_CHECK": "1"})


def _build_iso(kit: Kit, target: Target, source: LiveInput, work: Path) -> Path:
    iso = work / "iso"
    name_version = f"{NAME}-{target.build_id}"
    volume_id = name_version[:32]
    _boot_configs(source, iso, volume_id)
    (iso / "images/ignition.img").write_bytes(bytes(_IGNITION_AREA))
    support = source.content.support
    shutil.copyfile(support / "usr/lib/ISOLINUX/isolinux.bin", iso / "isolinux/isolinux.bin")
    for module in ("ldlinux.c32", "libcom32.c32", "libutil.c32", "vesamenu.c32"):
        shutil.copyfile(support / "usr/lib/syslinux/modules/bios" / module, iso / "isolinux" / module)
    _efiboot(kit, source, volume_id, work, iso / "images/efiboot.img")

    def make(output: Path) -> None:
        kit.runner.run(
            "genisoimage", "-verbose", "-V", volume_id, "-volset", name_version, "-rational-rock", "-J",
            "-joliet-long", "-eltorito-boot", "isolinux/isolinux.bin", "-eltorito-catalog", "isolinux/boot.cat",
            "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot",
            "-efi-boot", "images/efiboot.img", "-no-emul-boot", "-o", output, iso,
        )  # fmt: skip
        kit.runner.run("isohybrid", "--uefi", output)

    with kit.steps.step("live: ISO"):
        data_file = iso / "coreos/miniso.dat"
        data_file.write_bytes(bytes(miniso.DATA_FILE_SIZE))
        full, minimal = work / "live.iso", work / "minimal.iso"
        make(full)
        (iso / "images/pxeboot/rootfs.img").rename(work / "rootfs.img")
        data_file.unlink()
        make(minimal)
        miniso.pack(full, minimal)
        minimal.unlink()
    return full
