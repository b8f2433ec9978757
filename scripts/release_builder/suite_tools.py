"""Programs of other Debian suites, run with the C library of their suite: other versions than the host has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import foreign, packages
from .tools import BuildError, Runner

_LIBRARIES = ("libc6", "libgcc-s1", "zlib1g", "liblzma5", "libzstd1", "liblz4-1")


@dataclass(frozen=True)
class Package:
    """A package with programs, and the libraries that it needs beside the usual ones."""

    name: str
    libraries: tuple[str, ...]


SQUASHFS_TOOLS = Package("squashfs-tools", ("liblzo2-2",))
EROFS_UTILS = Package("erofs-utils", ("libdeflate0", "libpcre2-8-0", "libselinux1", "libuuid1"))


@dataclass(frozen=True)
class Tree:
    """An unpacked package with its libraries."""

    root: Path

    def command(self, program: str) -> list[str | Path]:
        """Return how a program of the tree is started. Raises BuildError where the tree has none of this name."""
        places = (self.root / directory / program for directory in ("usr/bin", "usr/sbin", "bin", "sbin"))
        found = next(filter(Path.exists, places), None)
        loader = next(self.root.glob("lib*/**/ld-linux*.so.*"), None)
        if found is None or loader is None:
            raise BuildError(f"no {program} in {self.root}")
        libraries = [path for top in ("lib", "usr/lib") for path in self.root.glob(f"{top}/*-linux-gnu*")]
        return [loader, "--library-path", ":".join(map(str, libraries)), found]


def tree_of(package: Package, suite: str, runner: Runner) -> Tree:
    """Return a suite's package, downloaded and unpacked in the cache when first asked for. Raises BuildError."""
    cache = packages.cache_directory()
    root = cache / f"{package.name}-{suite}"
    if not (root / "ready").exists():
        collection = foreign.Collection(packages.host_architecture(runner), suite)
        files = foreign.fetch(runner, collection, [package.name, *_LIBRARIES, *package.libraries], cache)
        shutil.rmtree(root, ignore_errors=True)
        _unpack(runner, list(files.values()), root)
        (root / "ready").touch()
    return Tree(root)


def _unpack(runner: Runner, files: Sequence[Path], root: Path) -> None:
    root.mkdir(parents=True)
    for name in ("lib", "lib64"):  # some suites have the loader in one of them, others below usr
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for file in files:
        packages.unpack(runner, file, root)
