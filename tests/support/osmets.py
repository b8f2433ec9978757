"""Disks with an ostree repository, and the osmet files that an independent packer makes of them."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import msgspec

from release_builder import osmet as packer
from release_builder.bincode import VARIABLE, Encoding
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
    """Make objects of all shapes, the same ones always, and files of the boot partition that are some of them."""
    noise = random.Random(1)
    kernel = noise.randbytes(3 * MIB + 77)
    for number in range(40):
        object_path(trees.root, f"text{number}").write_text(f"{number}\n" * number * 100)
    object_path(trees.root, "kernel").write_bytes(kernel)
    object_path(trees.root, "tail").write_bytes(noise.randbytes(4097))
    object_path(trees.root, "small").write_bytes(b"s" * 1000)
    object_path(trees.root, "other").write_bytes(b"o" * 5000)
    object_path(trees.root, "link").symlink_to("target")
    object_path(trees.root, "tree", "dirtree").write_bytes(noise.randbytes(9000))
    with object_path(trees.root, "sparse").open("wb") as stream:
        stream.write(b"begin")
        stream.seek(5 * MIB)
        stream.write(b"end")
    # Extents that two objects share; in a directory of its own the later one has the lower name.
    shared = trees.root / "ostree/repo/objects/aa"
    shared.mkdir(exist_ok=True)
    first, second = shared / f"{'f' * 62}.file", shared / f"{'0' * 62}.file"
    first.write_bytes(noise.randbytes(50_000))
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


def make(work: Path, sector: int = 512, code: Encoding = VARIABLE) -> Made:
    """Make disk and osmet file below ``work``; needs root, ``mkfs.ext4``, ``mkfs.xfs`` and ``sfdisk``."""
    disk = work / f"{sector}.raw"
    mounted.make_disk(disk, ["-b", "4096" if sector == 4096 else "1024"], sector=sector)
    with mounted.mounted(disk) as trees:
        fill(trees)
    with mounted.mounted(disk, read_only=True) as trees:
        source = packer.Disk(
            disk, sector, trees.root, trees.boot,
            Extent(mounted.ROOT_START, mounted.ROOT_SIZE), Extent(mounted.BOOT_START, mounted.BOOT_SIZE),
        )  # fmt: skip
        packer.pack(source, DESCRIPTION, ARCHITECTURE, work / f"{sector}.osmet", preset=0, code=code)
    return Made(disk, work / f"{sector}.osmet")


def root_squashfs(made: Made, target: Path, *options: str) -> Path:
    """Make the live root file system of a disk, which is that of its root partition; needs ``mksquashfs``."""
    with mounted.mounted(made.disk, read_only=True) as trees:
        command: list[str | Path] = [
            "mksquashfs",
            trees.root,
            target,
            "-quiet",
            "-no-progress",
            "-comp",
            "gzip",
            *options,
        ]
        subprocess.run(command, check=True, capture_output=True)
    return target


def rootfs_image(directory: Path, root: Path, others: dict[str, bytes]) -> bytes:
    """Archive a live root file system with other members, as rootfs.img has them; needs ``cpio``."""
    directory.mkdir()
    shutil.copyfile(root, directory / root.name)
    for name, data in others.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(data)
    names = "\n".join([root.name, *others]).encode()
    command = ["cpio", "-o", "-H", "newc", "--quiet", "-D", str(directory)]
    return subprocess.run(command, input=names, check=True, capture_output=True).stdout
