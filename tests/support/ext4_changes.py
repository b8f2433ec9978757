"""Random sequences of changes of an ext4 file system, made by the kernel."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

FORMATS = {
    "1k": ["-b", "1024", "-O", "metadata_csum_seed"],
    "4k": ["-b", "4096"],
    "orphan file": ["-b", "1024", "-O", "orphan_file"],
    "small journal": ["-b", "1024", "-J", "size=1"],
}


def fill(tree: Path) -> None:
    """Make what the changes begin with."""
    (tree / "etc/deep/deeper").mkdir(parents=True)
    for number in range(12):
        (tree / "etc" / f"file{number}").write_text(f"file {number}\n" * (number * 40 + 1))
    (tree / "big").write_bytes(bytes(range(256)) * 600)
    (tree / "etc/link").symlink_to("file1")


class Changes:
    """One sequence; the same seed gives the same calls."""

    def __init__(self, tree: Path, seed: int) -> None:
        self.tree = tree
        self.random = random.Random(seed)
        self.open: list[int] = []
        self.number = 0

    def run(self, count: int) -> None:
        """Make ``count`` changes."""
        for self.number in range(count):
            self.random.choice(_CHANGES)(self)

    def close(self) -> None:
        """Close files that were removed while open."""
        for file in self.open:
            os.close(file)
        self.open.clear()

    def file(self) -> Path:
        """Return one of the files."""
        files = [path for path in self.tree.rglob("*") if path.is_file() and not path.is_symlink()]
        return self.random.choice(sorted(files))

    def directory(self) -> Path:
        """Return one of the directories."""
        found = [path for path in self.tree.rglob("*") if path.is_dir() and path.name != "lost+found"]
        return self.random.choice(sorted(found))

    def create(self) -> None:
        size = self.random.choice([0, 10, 3000, 50_000])
        (self.directory() / f"new{self.number}").write_bytes(self.random.randbytes(size))

    def rename(self) -> None:
        self.file().rename(self.directory() / f"renamed{self.number}")

    def replace(self) -> None:
        file = self.file()
        temporary = file.with_name(f"{file.name}.tmp")
        temporary.write_text("replaced\n" * self.random.randrange(1, 300))
        temporary.rename(file)

    def truncate(self) -> None:
        file = self.file()
        os.truncate(file, self.random.choice([0, 5, 2000, file.stat().st_size]))

    def append(self) -> None:
        with self.file().open("ab") as stream:
            stream.write(b"appended\n" * self.random.randrange(1, 900))

    def chmod(self) -> None:
        self.file().chmod(0o600 | self.random.randrange(64))

    def chown(self) -> None:
        os.chown(self.file(), self.random.randrange(9), self.random.randrange(9))

    def small_attribute(self) -> None:
        os.setxattr(self.file(), f"user.a{self.random.randrange(3)}", b"v" * self.random.randrange(1, 30))

    def large_attribute(self) -> None:
        os.setxattr(self.file(), f"user.b{self.random.randrange(2)}", self.random.randbytes(150))

    def unlink(self) -> None:
        self.file().unlink()
        self.create()

    def mkdir(self) -> None:
        (self.directory() / f"dir{self.number}").mkdir()

    def rmdir(self) -> None:
        path = self.directory() / f"gone{self.number}"
        path.mkdir()
        if self.random.random() < 0.5:
            self.sync()
        path.rmdir()

    def remove_tree(self) -> None:
        path = self.directory()
        if path.parent != self.tree:
            shutil.rmtree(path)

    def symlink(self) -> None:
        length = self.random.choice([5, 100])
        (self.directory() / f"link{self.number}").symlink_to("t" * length)

    def hard_link(self) -> None:
        (self.directory() / f"hard{self.number}").hardlink_to(self.file())

    def sync(self) -> None:
        subprocess.run(["sync", "-f", self.tree], check=True)

    def orphan(self) -> None:
        path = self.directory() / f"orphan{self.number}"
        path.write_bytes(b"orphan" * 900)
        self.open.append(os.open(path, os.O_RDONLY))
        path.unlink()

    def many_names(self) -> None:
        """Let a directory grow until it has an index."""
        directory = self.directory()
        for number in range(self.random.choice([20, 60, 120])):
            (directory / f"a-rather-long-name-of-a-file-{self.number:03}-{number:04}").touch()

    def pieces(self) -> None:
        """Make a file of more extents than an inode holds."""
        with (self.directory() / f"pieces{self.number}").open("wb") as stream:
            for number in range(self.random.choice([3, 6, 40])):
                stream.seek(number * 16384)
                stream.write(b"piece %d" % number)

    def fallocate(self) -> None:
        path = self.directory() / f"room{self.number}"
        subprocess.run(["fallocate", "-l", "100000", path], check=True)
        with path.open("r+b") as stream:
            for _ in range(3):
                stream.seek(self.random.randrange(90_000))
                stream.write(b"written")

    def punch(self) -> None:
        start = self.random.randrange(8) * 4096
        subprocess.run(["fallocate", "-p", "-o", str(start), "-l", "8192", self.file()], check=True)


_CHANGES: list[Callable[[Changes], None]] = [
    Changes.create, Changes.rename, Changes.replace, Changes.truncate, Changes.append, Changes.chmod, Changes.chown,
    Changes.small_attribute, Changes.large_attribute, Changes.unlink, Changes.mkdir, Changes.rmdir,
    Changes.remove_tree, Changes.symlink, Changes.hard_link, Changes.sync, Changes.orphan, Changes.many_names,
    Changes.pieces, Changes.fallocate, Changes.punch,
]  # fmt: skip
