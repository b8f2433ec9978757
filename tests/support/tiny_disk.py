"""A disk of some megabytes that is set up for a platform, so that any container around it costs little."""

from __future__ import annotations

import subprocess
from pathlib import Path

from release_builder import bootconfig
from tests.support.cli import fine
from tests.support.compressible import compressible
from tests.support.disks import MIB, with_gpt
from tests.support.releases import ReleaseMaker

KIB = 1 << 10
BOOT = (1 * KIB, 7 * KIB)  # first and last byte in KiB
ROOT = (7 * KIB, 10 * KIB)
SIZE = 11 * MIB
OPTIONS = "rw $ignition_firstboot mitigations=auto,nosmt ostree=/ostree/boot.1/fedora-coreos/0"
ENTRY = f"""\
title CoreOS-like
version 1
options {OPTIONS} ignition.platform.id=metal
linux /boot/vmlinuz
initrd /boot/initramfs.img
"""
GRUB = "search --label boot\n{}set timeout=1\n"
ERAS = ("three files", "marks in grub.cfg", "entry only")
_MKFS = ("mkfs.ext4", "-q", "-b", "1024", "-L", "boot", "-O", "metadata_csum_seed", "-J", "size=1")
_FIXED = ("-U", "96d15588-3596-4b3c-adca-a2ff7279ea63", "-E", "hash_seed=b1f4a9c8-0c1e-4b7a-9d53-2a6e1f0c7d42")
_MADE = "1659397331"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _boot_tree(tree: Path, era: str) -> None:
    """Lay the boot partition's files out as images of an era have them; only the first two have console settings."""
    settings = bootconfig.console_cfg(())
    _write(tree / "loader.1/entries/ostree-1-fedora-coreos.conf", ENTRY)
    (tree / "loader").symlink_to("loader.1")
    _write(tree / "grub2/grub.cfg", GRUB.format(settings if era == "marks in grub.cfg" else ""))
    if era == "three files":
        _write(tree / "grub2/console.cfg", settings)
    if era != "entry only":
        _write(tree / "coreos/platforms.json", bootconfig.platforms_json(bootconfig.X86_64_CONSOLES))


def tiny_disk(work: Path, era: str = ERAS[0], *, filled: int = 0) -> bytes:
    """Return metal's disk; needs ``mkfs.ext4``.

    Its parts are left in ``work``. ``era`` is one of :data:`ERAS`; a file of ``filled`` bytes takes space in /boot.
    """
    tree, boot = work / "tree", work / "boot"
    _boot_tree(tree, era)
    _write(tree / "filler", "x" * filled)
    with boot.open("wb") as stream:
        stream.truncate((BOOT[1] - BOOT[0]) * KIB)
    argv: list[str | Path] = [*_MKFS, *_FIXED, "-d", tree, boot]
    subprocess.run(argv, check=True, env={"E2FSPROGS_FAKE_TIME": _MADE, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
    content = bytearray(SIZE)
    content[BOOT[0] * KIB : BOOT[1] * KIB] = boot.read_bytes()
    content[ROOT[0] * KIB : ROOT[1] * KIB] = compressible(7, (ROOT[1] - ROOT[0]) * KIB)
    return with_gpt(bytes(content), [(3, "boot", *BOOT), (4, "root", *ROOT)])


def store_of(disk: bytes, work: Path) -> Path:
    """Return a store below ``work`` of a release that has nothing but this disk, as metal's."""
    maker = ReleaseMaker(work / "release")
    maker.add("metal", "raw.xz", disk)
    fine("build", "dehydrate", maker.finish(), work / "store", "--no-compressed", "--level", "1", "--progress", "none")
    return work / "store"
