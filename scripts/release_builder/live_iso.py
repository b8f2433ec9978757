"""The live ISO: its tree, what makes it bootable, and the minimal ISO that it holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cdboot, miniso
from .content import Content
from .disk import MIB
from .live_config import EMBED_AREA_END, KARGS_MARK
from .ostree import Deployment
from .platforms import NAME
from .rawimage import Kit

_IGNITION_AREA = 256 * 1024
_EXCLUDED_KARGS = {"$ignition_firstboot", "console", "ignition.platform.id", "ostree"}
_VENDOR = "fedora"
_INITRD_ADDRESS = 0x02000000  # where the firmware of s390x puts the initramfs


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


FEATURES = _json(
    {
        "installer-config": True,
        "installer-config-directives": {"append-karg": True, "dest-device": True, "ignition-file": True},
        "live-initrd-network": True,
    }
)


@dataclass(frozen=True)
class Source:
    """What the ISO is made from, beside kernel, initramfs and rootfs, which lie in its tree."""

    content: Content
    deployment: Deployment
    build_id: str
    arch: str

    @property
    def name(self) -> str:
        """The full name of the volume set."""
        return f"{NAME}-{self.build_id}"

    @property
    def volume_id(self) -> str:
        """The name of the volume, by which the live system finds it."""
        return self.name[:32]


@dataclass(frozen=True)
class Layout:
    """An architecture's way to boot: `prepare` completes the tree, `make` makes an image of it."""

    prepare: Callable[[Kit, Source, Path], None]
    make: Callable[[Kit, Source, Path, Path], None]


def kernel_name(arch: str) -> str:
    """Return what the kernel is called in the ISO."""
    return "kernel.img" if arch == "s390x" else "vmlinuz"


def build(kit: Kit, source: Source, work: Path) -> Path:
    """Make the ISO of the tree `work/iso` and return it; the rootfs is moved to `work`."""
    layout = _LAYOUTS[source.arch]
    tree = work / "iso"
    with kit.steps.step("live: ISO"):
        _write(tree / "coreos/features.json", FEATURES)
        layout.prepare(kit, source, tree)
        data_file = tree / "coreos/miniso.dat"
        data_file.write_bytes(bytes(miniso.DATA_FILE_SIZE))
        full, minimal = work / "live.iso", work / "minimal.iso"
        layout.make(kit, source, tree, full)
        (tree / "images/pxeboot/rootfs.img").rename(work / "rootfs.img")
        data_file.unlink()
        layout.make(kit, source, tree, minimal)
        miniso.pack(full, minimal)
        minimal.unlink()
    return full


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# -- kernel arguments


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


def _arguments(source: Source) -> str:
    entry = next((source.deployment.tree / "boot/loader/entries").glob("*.conf")).read_text(encoding="utf-8")
    return live_arguments(entry, source.volume_id)


def _templates(source: Source) -> dict[str, str]:
    top = source.content.root / "usr/share/coreos-assembler/live"
    return {
        path.relative_to(top).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


# -- x86_64


def _prepare_pc(kit: Kit, source: Source, tree: Path) -> None:
    arguments = _arguments(source)
    files, size = [], 0
    for path, template in _templates(source).items():
        text, offset, size = embed_area(template, arguments)
        _write(tree / path, text)
        files.append({"path": path, "offset": offset, "pad": "#", "end": "\n"})
    _write(tree / "coreos/kargs.json", _json({"default": arguments, "files": files, "size": size}))
    _write(tree / "coreos/igninfo.json", _json({"file": "images/ignition.img"}))
    (tree / "images/ignition.img").write_bytes(bytes(_IGNITION_AREA))
    support = source.content.support
    shutil.copyfile(support / "usr/lib/ISOLINUX/isolinux.bin", tree / "isolinux/isolinux.bin")
    for module in ("ldlinux.c32", "libcom32.c32", "libutil.c32", "vesamenu.c32"):
        shutil.copyfile(support / "usr/lib/syslinux/modules/bios" / module, tree / "isolinux" / module)
    _efiboot(kit, source, tree.parent / "efi", tree / "images/efiboot.img")


def _efiboot(kit: Kit, source: Source, tree: Path, output: Path) -> None:
    """Make the FAT image for UEFI: the EFI programs and a configuration that leads to the ISO's own."""
    shutil.copytree(source.content.esp, tree)
    _write(
        tree / "EFI/BOOT/grub.cfg",
        f'search --label "{source.volume_id}" --set root --no-floppy\nset prefix=($root)/EFI/{_VENDOR}\n'
        'echo "Booting via ESP..."\nconfigfile $prefix/grub.cfg\nboot\n',
    )
    size = sum(path.stat().st_size + 1024 for path in tree.rglob("*")) + 2 * MIB
    output.touch()
    os.truncate(output, size // 512 * 512)
    kit.runner.run("mkfs.fat", "-I", "--mbr=n", "-n", "EFI-SYSTEM", output)
    kit.runner.run("mcopy", "-s", "-m", "-i", output, tree / "EFI", "::", env={"MTOOLS_SKIP_CHECK": "1"})


def _make_pc(kit: Kit, source: Source, tree: Path, output: Path) -> None:
    kit.runner.run(
        "genisoimage", "-verbose", "-V", source.volume_id, "-volset", source.name, "-rational-rock", "-J",
        "-joliet-long", "-eltorito-boot", "isolinux/isolinux.bin", "-eltorito-catalog", "isolinux/boot.cat",
        "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot",
        "-efi-boot", "images/efiboot.img", "-no-emul-boot", "-o", output, tree,
    )  # fmt: skip
    kit.runner.run("isohybrid", "--uefi", output)


# -- s390x


def _prepare_ipl(_kit: Kit, source: Source, tree: Path) -> None:
    """Write what a machine, its firmware or z/VM start from: all of them take kernel, initramfs and parameters."""
    arguments = _arguments(source)
    parameters = _templates(source)["zipl.prm"].replace(KARGS_MARK, arguments)
    images, pxeboot = tree / "images", tree / "images/pxeboot"
    kernel, initrd = (pxeboot / name for name in (kernel_name(source.arch), "initrd.img"))
    for name in ("cdboot.prm", "generic.prm", "genericdvd.prm"):
        _write(images / name, parameters)
    (images / "initrd.addrsize").write_bytes(cdboot.address_and_size(_INITRD_ADDRESS, initrd.stat().st_size))
    lines = {kernel: 0, initrd: _INITRD_ADDRESS, images / "genericdvd.prm": cdboot.PARAMETERS_AT,
             images / "initrd.addrsize": cdboot.INITRD_POINTER_AT}  # fmt: skip
    text = "".join(f"{path.relative_to(tree)} {address:#010x}\n" for path, address in lines.items())
    _write(tree / "generic.ins", f"* {source.name}\n{text}")
    image = cdboot.build(kernel.read_bytes(), initrd.read_bytes() + bytes(_IGNITION_AREA), parameters)
    (images / "cdboot.img").write_bytes(image.data)
    place = {"path": "images/cdboot.img", "offset": cdboot.PARAMETERS_AT, "pad": "\0", "end": "\0"}
    size = cdboot.PARAMETERS_SIZE
    _write(tree / "coreos/kargs.json", _json({"default": parameters.strip(), "files": [place], "size": size}))
    area = image.initrd_at + initrd.stat().st_size
    info = {"file": "images/cdboot.img", "offset": area, "length": _IGNITION_AREA}
    _write(tree / "coreos/igninfo.json", _json(info))


def _make_ipl(kit: Kit, source: Source, tree: Path, output: Path) -> None:
    kit.runner.run(
        "xorriso", "-as", "mkisofs", "-verbose", "-volid", source.volume_id, "-volset", source.name, "-rational-rock",
        "-J", "-joliet-long", "-no-emul-boot", "-eltorito-boot", "images/cdboot.img", "-o", output, tree,
    )  # fmt: skip


_LAYOUTS = {"x86_64": Layout(_prepare_pc, _make_pc), "s390x": Layout(_prepare_ipl, _make_ipl)}
