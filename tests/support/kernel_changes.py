"""Changes of a file system that the kernel makes: what ordinary programs do to files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


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


def directories(tree: Path) -> None:
    (tree / "one/two/three").mkdir(parents=True)
    (tree / "one/two/file").write_text("deep\n")
    sync(tree)
    (tree / "one/two/three").rmdir()


def many_names(tree: Path, count: int) -> None:
    """Let a directory grow until it has an index."""
    (tree / "many").mkdir()
    for number in range(count):
        (tree / "many" / f"a-rather-long-name-of-a-file-{number:04}").touch()


def links(tree: Path, length: int) -> None:
    """Make a hard link and two symbolic ones, the longer with ``length`` bytes more than a path."""
    (tree / "short").symlink_to("etc/file0")
    (tree / "long").symlink_to("etc/" + "x" * length)
    (tree / "hard").hardlink_to(tree / "etc/file3")


def extents(tree: Path, count: int) -> None:
    """Make a file of more extents than an inode holds."""
    with (tree / "holes").open("wb") as stream:
        for number in range(count):
            stream.seek(number * 16384)
            stream.write(b"piece %d" % number)
