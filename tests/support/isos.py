"""Small ISO images by the real builders, laid out as those of CoreOS are."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from release_builder import cdboot, miniso

ISOLINUX = "/usr/lib/ISOLINUX/isolinux.bin"
GRUB_MODULES = "/usr/lib/grub/i386-pc/moddep.lst"
KARGS = "ignition.platform.id=metal coreos.liveiso=fedora-coreos-44 quiet"
KARGS_ROOM = 200
IGNITION_ROOM = 8192


def content(name: str, size: int) -> bytes:
    """Return what a file of this name holds: noise that no compressor shortens."""
    return random.Random(name).randbytes(size)


FILES = {
    "images/pxeboot/vmlinuz": content("vmlinuz", 73_728),
    "images/pxeboot/initrd.img": content("initrd", 30_000),
    "images/pxeboot/rootfs.img": content("rootfs", 100_352),
    "images/efiboot.img": content("efiboot", 20_480),
    "images/ignition.img": bytes(IGNITION_ROOM),
    "a directory/A file with a long name, and spaces.txt": b"text\n",
    "empty": b"",
}


def grub_config() -> bytes:
    """Return a boot configuration with an embed area for kernel arguments."""
    area = f"{KARGS}\n".ljust(KARGS_ROOM, "#")
    return f"linux /images/pxeboot/vmlinuz {area}# COREOS_KARG_EMBED_AREA\n".encode()


def make_tree(top: Path, files: dict[str, bytes] | None = None, documents: dict[str, bytes] | None = None) -> Path:
    """Write the files of a live ISO, with its own documents but for those given; return ``top``."""
    config = grub_config()
    kargs = {
        "default": KARGS,
        "files": [{"path": "EFI/fedora/grub.cfg", "offset": config.index(KARGS.encode()), "pad": "#", "end": "\n"}],
        "size": KARGS_ROOM,
    }
    usual = {
        "EFI/fedora/grub.cfg": config,
        "coreos/kargs.json": json.dumps(kargs, indent=2, sort_keys=True).encode() + b"\n",
        "coreos/igninfo.json": b'{\n  "file": "images/ignition.img"\n}\n',
        "coreos/miniso.dat": bytes(16384),
    }
    for name, data in ((FILES if files is None else files) | usual | (documents or {})).items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return top


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def x86_64(tree: Path, image: Path) -> None:
    """Build as coreos-assembler does for x86_64: genisoimage, then isohybrid."""
    (tree / "isolinux").mkdir(exist_ok=True)
    shutil.copyfile(ISOLINUX, tree / "isolinux/isolinux.bin")
    _genisoimage(
        tree, image, "-eltorito-boot", "isolinux/isolinux.bin", "-eltorito-catalog", "isolinux/boot.cat",
        "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot",
    )  # fmt: skip
    _run("isohybrid", "--uefi", image)


def aarch64(tree: Path, image: Path) -> None:
    """Build for aarch64: genisoimage for UEFI alone."""
    _genisoimage(tree, image)


def _genisoimage(tree: Path, image: Path, *options: str) -> None:
    _run(
        "genisoimage", "-V", "fedora-coreos-44", "-volset", "fedora-coreos-44", "-rational-rock", "-J", "-joliet-long",
        *options, "-efi-boot", "images/efiboot.img", "-no-emul-boot", "-o", image, tree,
    )  # fmt: skip


def s390x(tree: Path, image: Path) -> None:
    """Build for s390x: xorriso, with an image of kernel, initramfs and parameters that the firmware boots."""
    kernel, initramfs = (tree / "images/pxeboot" / name for name in ("vmlinuz", "initrd.img"))
    made = cdboot.build(kernel.read_bytes(), initramfs.read_bytes() + bytes(IGNITION_ROOM), KARGS)
    (tree / "images/cdboot.img").write_bytes(made.data)
    _run(
        "xorriso", "-as", "mkisofs", "-V", "fedora-coreos-44", "-rational-rock", "-J", "-joliet-long", "-no-emul-boot",
        "-eltorito-boot", "images/cdboot.img", "-o", image, tree,
    )  # fmt: skip


def ppc64le(tree: Path, image: Path) -> None:
    """Build as for ppc64le: grub-mkrescue, with the modules of a PC, which every Debian has."""
    _run("grub-mkrescue", "-d", Path(GRUB_MODULES).parent, "-o", image, tree, "--", "-volid", "fedora-coreos-44")


BUILDERS: dict[str, Callable[[Path, Path], None]] = {
    "x86_64": x86_64, "aarch64": aarch64, "s390x": s390x, "ppc64le": ppc64le,
}  # fmt: skip
PROGRAMS = {
    "x86_64": ("genisoimage", "isohybrid", ISOLINUX),
    "aarch64": ("genisoimage",),
    "s390x": ("xorriso",),
    "ppc64le": ("grub-mkrescue", "xorriso", "mcopy", GRUB_MODULES),
}


def build(
    need: Callable[..., None],
    kind: str,
    directory: Path,
    files: dict[str, bytes] | None = None,
    documents: dict[str, bytes] | None = None,
) -> Path:
    """Build an image of a kind, or skip the test where its builder is missing; return its path."""
    need(*PROGRAMS[kind])
    tree = make_tree(directory / f"tree-{kind}", files, documents)
    image = directory / f"{kind}.iso"
    BUILDERS[kind](tree, image)
    return image


def with_minimal(
    need: Callable[..., None], kind: str, directory: Path, documents: dict[str, bytes] | None = None
) -> tuple[Path, Path]:
    """Build an image that holds its minimal one, as the release builder packs it; return both."""
    full = build(need, kind, directory, documents=documents)
    tree = directory / f"tree-{kind}"
    for name in ("images/pxeboot/rootfs.img", "coreos/miniso.dat"):
        (tree / name).unlink()
    minimal = directory / f"{kind}-minimal.iso"
    BUILDERS[kind](tree, minimal)
    miniso.pack(full, minimal)
    return full, minimal
