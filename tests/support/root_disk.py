"""A small disk that has nothing but an XFS root partition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mounted import make_files
from tests.support.one_partition import MIB, make_disk, mounted_partition

SIZE = 320 * MIB  # about the least that mkfs.xfs takes


def make_root_disk(path: Path, options: list[str]) -> None:
    """Make a disk with an XFS partition that has a few files."""
    make_disk(path, "4 root", SIZE, ["mkfs.xfs", "-q", "-d", "agcount=2", *options])
    with mounted_root(path) as tree:
        make_files(tree)


@contextmanager
def mounted_root(path: Path) -> Iterator[Path]:
    """Mount the partition, also beside another one with the same UUID."""
    with mounted_partition(path, "nouuid") as tree:
        yield tree
