"""What the kernel's ext4 does to files is told without literal bytes and replayed exactly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.edits.blocks import Blocks
from tests.support.boot_disk import copied, literals, make_boot_disk, mounted_boot, told
from tests.support.mounted import make_files

FORMATS = {
    "1k": ["-b", "1024", "-O", "metadata_csum_seed"],
    "4k": ["-b", "4096"],
    "nocsum": ["-b", "1024", "-O", "^metadata_csum"],
}


# The kernel may commit in between; then the first transaction has states that are gone later.
_STATES = 400


def sync(tree: Path) -> None:
    subprocess.run(["sync", "-f", tree], check=True)


def create(tree: Path) -> None:
    (tree / "etc/new.conf").write_text("a new file\n")
    (tree / "etc/binary").write_bytes(bytes(range(256)) * 40)


def append(tree: Path) -> None:
    with (tree / "etc/file3").open("a") as stream:
        stream.write("more\n" * 500)


def truncate(tree: Path) -> None:
    os.truncate(tree / "etc/file5", 100)
    os.truncate(tree / "big", 0)


def rename(tree: Path) -> None:
    (tree / "etc/file1").rename(tree / "etc/renamed")
    (tree / "etc/file2").rename(tree / "moved")


def replace(tree: Path) -> None:
    temporary = tree / "etc/file4.tmp"
    temporary.write_text("replaced\n" * 30)
    temporary.rename(tree / "etc/file4")


def remove(tree: Path) -> None:
    (tree / "etc/file6").unlink()
    (tree / "big").unlink()


def modes(tree: Path) -> None:
    (tree / "etc/file0").chmod(0o600)
    os.chown(tree / "etc/file1", 5, 6)


def small_xattr(tree: Path) -> None:
    os.setxattr(tree / "etc/file0", "user.small", b"value")


def large_xattr(tree: Path) -> None:
    os.setxattr(tree / "etc/file0", "user.large", bytes(range(1, 251)) * 3)


def links(tree: Path) -> None:
    (tree / "short").symlink_to("etc/file0")
    (tree / "long").symlink_to("etc/" + "x" * 200)
    (tree / "hard").hardlink_to(tree / "etc/file3")


def directories(tree: Path) -> None:
    (tree / "one/two/three").mkdir(parents=True)
    (tree / "one/two/file").write_text("deep\n")
    sync(tree)
    (tree / "one/two/three").rmdir()


def many_names(tree: Path) -> None:
    """Let a directory grow until it has an index."""
    (tree / "many").mkdir()
    for number in range(150):
        (tree / "many" / f"a-rather-long-name-of-a-file-{number:04}").touch()


def extents(tree: Path) -> None:
    """Make a file of more extents than an inode holds."""
    with (tree / "holes").open("wb") as stream:
        for number in range(40):
            stream.seek(number * 16384)
            stream.write(b"piece %d" % number)


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
    directories: ("/one created", {"p3 boot, free space": 60, "journal": 300}),
    # Behind the end of a name up to three bytes of what lay there before stay.
    many_names: ("/many created", {"p3 boot, directory block": 100}),
    extents: ("/holes created", {}),
    revoked: ("journal", {"p3 boot, free space": 12_000, "journal": 20_000}),
}


@pytest.mark.oracle
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_edits_by_the_kernel(options: list[str], tmp_path: Path, need: Callable[..., None]) -> None:
    need("losetup", "mkfs.ext4", "sfdisk", "e2fsck", root=True)
    base = tmp_path / "base.raw"
    make_boot_disk(base, options)
    with mounted_boot(base) as tree:
        make_files(tree)
    problems = []
    for change, (words, allowed) in CASES.items():
        target = copied(base, "target.raw")
        with mounted_boot(target) as tree:
            change(tree)
        edits = told(base, target)
        text = ", ".join(edit.describe() for edit in edits if not isinstance(edit, Blocks))
        left = literals(edits)
        if words not in text:
            problems.append(f"{change.__name__}: not said: {words}: {text}")
        if any(size > ({"journal": _STATES} | allowed).get(owner, 0) for owner, size in left.items()):
            problems.append(f"{change.__name__}: literal bytes {left}")
        fsck = subprocess.run(
            ["e2fsck", "-fn", target.with_suffix(".boot")], capture_output=True, text=True, check=False
        )
        if fsck.returncode:
            problems.append(f"{change.__name__}: {fsck.stdout}")
    assert not problems, "\n".join(problems)
