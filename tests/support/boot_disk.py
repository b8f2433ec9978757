"""A small disk that has nothing but an ext4 boot partition."""

from __future__ import annotations

from pathlib import Path

from tests.support.one_partition import MIB, make_disk


def make_boot_disk(path: Path, options: list[str], size: int = 32 * MIB) -> None:
    """Make a disk with an ext4 partition of ``size`` bytes."""
    make_disk(path, "3 boot", size, ["mkfs.ext4", "-q", *options])
