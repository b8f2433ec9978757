"""What the kernel's ext4 does to files is told without literal bytes and replayed exactly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.edits.blocks import Blocks
from tests.support import kernel_changes as kernel
from tests.support.boot_disk import make_boot_disk
from tests.support.kernel_changes import (
    append,
    create,
    directories,
    modes,
    remove,
    rename,
    replace,
    small_xattr,
    sync,
    truncate,
)
from tests.support.mounted import make_files
from tests.support.one_partition import copied, literals, mounted_partition, partition_file, told

FORMATS = {
    "1k": ["-b", "1024", "-O", "metadata_csum_seed"],
    "4k": ["-b", "4096"],
    "nocsum": ["-b", "1024", "-O", "^metadata_csum"],
}


# The kernel may commit in between; then the first transaction has states that are gone later.
_STATES = 400


def large_xattr(tree: Path) -> None:
    os.setxattr(tree / "etc/file0", "user.large", bytes(range(1, 251)) * 3)


def links(tree: Path) -> None:
    kernel.links(tree, 200)


def many_names(tree: Path) -> None:
    kernel.many_names(tree, 150)


def extents(tree: Path) -> None:
    kernel.extents(tree, 40)


def revoked(tree: Path) -> None:
    """Free blocks of metadata that the journal has: they are revoked."""
    many_names(tree)
    sync(tree)
    for path in (tree / "many").iterdir():
        path.unlink()
    (tree / "many").rmdir()
    sync(tree)


# What happens, what `info` says of it, and how many literal bytes are left at most, with their owner.
CASES: dict[Callable[[Path], None], tuple[str, dict[str, int]]] = {
    create: ("/etc/new.conf created", {}),
    append: ("/etc/file3 from byte", {}),
    truncate: ("inode time", {}),
    rename: ("/etc/file1 renamed to /etc/renamed", {}),
    replace: ("/etc/file4 replaced", {}),
    remove: ("/etc/file6 removed", {}),
    modes: ("other inode change", {}),
    small_xattr: ("other inode change", {}),
    large_xattr: ("other inode change", {}),
    links: ("/short created", {}),
    # What a block held when it was freed is nowhere else; nor are copies of states between the first and the last.
    directories: ("/one created", {"p3 boot, free space": 60, "ext4.journal": 300}),
    # Behind the end of a name up to three bytes of what lay there before stay.
    many_names: ("/many created", {"p3 boot, directory block": 100}),
    extents: ("/holes created", {}),
    revoked: ("journal", {"p3 boot, free space": 12_000, "ext4.journal": 20_000}),
}


@pytest.mark.oracle
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_edits_by_the_kernel(options: list[str], tmp_path: Path, need: Callable[..., None]) -> None:
    need("losetup", "mkfs.ext4", "sfdisk", "e2fsck", root=True)
    base = tmp_path / "base.raw"
    make_boot_disk(base, options)
    with mounted_partition(base) as tree:
        make_files(tree)
    problems = []
    for change, (words, allowed) in CASES.items():
        target = copied(base, "target.raw")
        with mounted_partition(target) as tree:
            change(tree)
        edits = told(base, target)
        text = ", ".join(edit.describe() for edit in edits if not isinstance(edit, Blocks))
        left = literals(edits)
        if words not in text:
            problems.append(f"{change.__name__}: not said: {words}: {text}")
        if any(size > ({"ext4.journal": _STATES} | allowed).get(owner, 0) for owner, size in left.items()):
            problems.append(f"{change.__name__}: literal bytes {left}")
        fsck = subprocess.run(["e2fsck", "-fn", partition_file(target)], capture_output=True, text=True, check=False)
        if fsck.returncode:
            problems.append(f"{change.__name__}: {fsck.stdout}")
    assert not problems, "\n".join(problems)
