"""Disks that real zipl makes bootable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rehydrator.boot.c_programs import S390_EP_OFFSET, S390_EP_STRING
from tests.support.mounted import BOOT_START, mounted

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from release_builder import packages
from release_builder import zipl as roots
from release_builder.tools import BuildError, Runner

ENTRY = """title Test
version 1
options {options}
linux /vmlinuz
initrd /initrd
"""
_MAX_PARMLINE_AT = 0x10430


def find_zipl(suite: str) -> roots.Zipl:
    """Return the zipl of a Debian suite; skip the test where it can't be had."""
    try:
        return roots.zipl_of(suite, packages.cache_directory(), Runner())
    except BuildError as error:
        pytest.skip(f"no zipl of {suite}: {error}")


def options_of(platform: str) -> str:
    """Return the kernel arguments of a platform's boot loader entry."""
    return f"rw ostree=/ostree/boot.1/test ignition.platform.id={platform}"


def write_files(image: Path) -> None:
    """Write what zipl needs: something like a kernel, and an initramfs."""
    with mounted(image) as trees:
        kernel = bytearray(bytes(range(1, 255)) * 4000)
        kernel[S390_EP_OFFSET : S390_EP_OFFSET + len(S390_EP_STRING)] = S390_EP_STRING
        kernel[_MAX_PARMLINE_AT : _MAX_PARMLINE_AT + 8] = (4096).to_bytes(8, "big")
        (trees.boot / "vmlinuz").write_bytes(kernel)
        (trees.boot / "initrd").write_bytes(b"ramdisk " * 90_000)


def write_entry(image: Path, options: str) -> None:
    """Write the boot loader entry."""
    with mounted(image) as trees:
        entries = trees.boot / "loader/entries"
        entries.mkdir(parents=True, exist_ok=True)
        (entries / "test.conf").write_text(ENTRY.format(options=options))


def run_zipl(
    image: Path, zipl: roots.Zipl, parmline: str, block_size: int, sector: int | None = None, image_only: str = ""
) -> None:
    """Run zipl with blocks of ``block_size``; the partition's start is counted in sectors of the disk, ``sector``.

    With ``image_only``, the name of a file, zipl gets that instead of kernel, initramfs and command line.

    Runs on equal file systems put the bootmap into the same blocks.
    """
    loop = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True)
    device = loop.stdout.strip()
    try:
        with mounted(image) as trees:
            target = roots.Target(device, block_size, BOOT_START // (sector or block_size))
            with _one_cpu():
                if image_only:
                    zipl.run(target, trees.boot, trees.boot / image_only)
                else:
                    zipl.run(target, trees.boot, trees.boot / "vmlinuz", trees.boot / "initrd", parmline)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Keep the programs started meanwhile on one CPU.

    ext4 reserves blocks for small files per CPU (``ext4_mb_new_group_pa``): a zipl that the scheduler moves would go on
    writing its bootmap elsewhere.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def change_files(image: Path, change: Callable[[Path], None]) -> None:
    """Change the boot partition's files without running zipl."""
    with mounted(image) as trees:
        change(trees.boot)
