"""Disks with an ostree repository, and the osmet files that an independent packer makes of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import msgspec

from release_builder import osmet as packer
from release_builder.disk import Extent
from tests.support import mounted
from tests.support.disks import MIB

DESCRIPTION = "Fedora CoreOS 44"
ARCHITECTURE = "x86_64"


class Made(msgspec.Struct, frozen=True):
    """A disk and the osmet file that an independent packer made of it."""

    disk: Path
    osmet: Path


def object_path(root: Path, name: str, kind: str = "file") -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()
    path = root / "ostree/repo/objects" / digest[:2] / f"{digest[2:]}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fill(trees: mounted.Mounted) -> None:
    """Make objects of all shapes, and files of the boot partition that are some of them."""
    kernel = os.urandom(3 * MIB + 77)
    for number in range(40):
        object_path(trees.root, f"text{number}").write_text(f"{number}\n" * number * 100)
    object_path(trees.root, "kernel").write_bytes(kernel)
    object_path(trees.root, "tail").write_bytes(os.urandom(4097))
    object_path(trees.root, "small").write_bytes(b"s" * 1000)
    object_path(trees.root, "other").write_bytes(b"o" * 5000)
    object_path(trees.root, "link").symlink_to("target")
    object_path(trees.root, "tree", "dirtree").write_bytes(os.urandom(9000))
    with object_path(trees.root, "sparse").open("wb") as stream:
        stream.write(b"begin")
        stream.seek(5 * MIB)
        stream.write(b"end")
    # Extents that two objects share; in a directory of its own the later one has the lower name.
    shared = trees.root / "ostree/repo/objects/aa"
    shared.mkdir(exist_ok=True)
    first, second = shared / f"{'f' * 62}.file", shared / f"{'0' * 62}.file"
    first.write_bytes(os.urandom(50_000))
    subprocess.run(["cp", "--reflink=always", first, second], check=True)
    (trees.boot / "ostree").mkdir()
    (trees.boot / "ostree/vmlinuz").write_bytes(kernel)
    (trees.boot / "small").write_bytes(b"s" * 1000)
    (trees.boot / "same size").write_bytes(b"x" * 5000)
    with (trees.boot / "pieces").open("wb") as pieces, (trees.boot / "between").open("wb") as between:
        for number in range(30):
            for stream in (pieces, between):
                stream.write(bytes([number]) * 8192)
                stream.flush()
                os.fsync(stream.fileno())
        between.write(b"longer")
    object_path(trees.root, "pieces").write_bytes((trees.boot / "pieces").read_bytes())


def make(work: Path, sector: int = 512) -> Made:
    """Make disk and osmet file below ``work``; needs root, ``mkfs.ext4``, ``mkfs.xfs`` and ``sfdisk``."""
    disk = work / "metal.raw"
    mounted.make_disk(disk, ["-b", "4096" if sector == 4096 else "1024"], sector=sector)
    with mounted.mounted(disk) as trees:
        fill(trees)
    with mounted.mounted(disk, read_only=True) as trees:
        source = packer.Disk(
            disk, sector, trees.root, trees.boot,
            Extent(mounted.ROOT_START, mounted.ROOT_SIZE), Extent(mounted.BOOT_START, mounted.BOOT_SIZE),
        )  # fmt: skip
        packer.pack(source, DESCRIPTION, ARCHITECTURE, work / "osmet", preset=0)
    return Made(disk, work / "osmet")
