"""Small disks with real file systems, changed by the kernel's own drivers."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
BOOT_START, BOOT_SIZE = 1 * MIB, 64 * MIB
ROOT_START, ROOT_SIZE = 65 * MIB, 320 * MIB
DISK_SIZE = ROOT_START + ROOT_SIZE + 1 * MIB
# The journal begins a new transaction after five seconds unless told otherwise, and a kernel thread writes what mkfs
# left out of the inode tables: on a slow machine it would be left to chance what the journal holds.
STEADY_EXT4 = "commit=3600,noinit_itable"
_TABLE = """label: gpt
3: start={}, size={}, name=boot
4: start={}, size={}, name=root
"""


@dataclass(frozen=True)
class Mounted:
    """The two mounted file systems of a disk."""

    boot: Path
    root: Path


def make_disk(path: Path, ext4_options: list[str], sector: int = 512) -> None:
    """Make a disk with an ext4 boot and an XFS root partition, each with a few files."""
    with path.open("wb") as stream:
        stream.truncate(DISK_SIZE)
    with loop_device(path, 0, DISK_SIZE, sector) as device:
        table = _TABLE.format(*(size // sector for size in (BOOT_START, BOOT_SIZE, ROOT_START, ROOT_SIZE)))
        subprocess.run(["sfdisk", "--quiet", "--no-reread", device], input=table, text=True, check=True)
    with loop_device(path, BOOT_START, BOOT_SIZE) as device:
        subprocess.run(["mkfs.ext4", "-q", "-L", "boot", *ext4_options, device], check=True)
    with loop_device(path, ROOT_START, ROOT_SIZE) as device:
        subprocess.run(["mkfs.xfs", "-q", "-L", "root", "-d", "agcount=2", device], check=True)
    with mounted(path) as trees:
        for tree in (trees.boot, trees.root):
            make_files(tree)


def make_files(tree: Path) -> None:
    """Make a few files below ``tree``."""
    (tree / "etc").mkdir()
    for number in range(8):
        (tree / "etc" / f"file{number}").write_text(f"file {number}\n" * (number * 40 + 1))
    (tree / "big").write_bytes(bytes(range(256)) * 2000)


@contextmanager
def mounted(path: Path, *, read_only: bool = False) -> Iterator[Mounted]:
    """Mount both file systems of a disk; ``read_only`` also for the drivers, which write to a device that lets them."""
    mode = "ro" if read_only else "rw"
    where = path.with_name(path.name + ".mnt")
    trees = Mounted(where / "boot", where / "root")
    with (
        loop_device(path, BOOT_START, BOOT_SIZE, read_only=read_only) as boot,
        loop_device(path, ROOT_START, ROOT_SIZE, read_only=read_only) as root,
    ):
        try:
            for device, tree, options in ((boot, trees.boot, STEADY_EXT4), (root, trees.root, "nouuid")):
                tree.mkdir(parents=True)
                subprocess.run(["mount", "-o", f"{mode},{options}", device, tree], check=True)
            yield trees
        finally:
            for tree in (trees.boot, trees.root):
                subprocess.run(["umount", tree], check=False, capture_output=True)
            shutil.rmtree(where, ignore_errors=True)


@contextmanager
def loop_device(path: Path, start: int, size: int, sector: int = 512, *, read_only: bool = False) -> Iterator[str]:
    """Attach ``size`` bytes of a file from ``start`` on."""
    place = ["--offset", str(start), "--sizelimit", str(size), "--sector-size", str(sector)]
    if read_only:
        place.append("--read-only")
    found = subprocess.run(
        ["losetup", "--find", "--show", *place, path],
        capture_output=True,
        text=True,
        check=True,
    )
    device = found.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


def random_edits(tree: Path, seed: int, count: int = 12, xattr_sizes: Sequence[int] = ()) -> None:
    """Make random changes below ``tree``: create, rename, append, truncate, chmod, unlink, symlink, mkdir, sync.

    With ``xattr_sizes`` files also get extended attributes of one of these sizes.
    """
    choice = random.Random(seed)
    for number in range(count):
        files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
        file = choice.choice(files)
        match choice.randrange(10 if xattr_sizes else 9):
            case 0:
                (file.parent / f"new{number}").write_bytes(choice.randbytes(choice.choice([10, 1000, 50_000])))
            case 1:
                file.rename(file.with_name(f"renamed{number}"))
            case 2:
                with file.open("ab") as stream:
                    stream.write(b"appended\n" * choice.randrange(1, 300))
            case 3:
                with file.open("r+b") as stream:
                    stream.truncate(choice.randrange(2000))
            case 4:
                file.chmod(0o600 | choice.randrange(64))
            case 5 if len(files) > 4:
                file.unlink()
            case 6:
                (file.parent / f"link{number}").symlink_to(file.name)
            case 7:
                (file.parent / f"dir{number}").mkdir()
            case 8 if xattr_sizes:
                os.setxattr(file, f"user.{number}", choice.randbytes(choice.choice(xattr_sizes)))
            case _:
                subprocess.run(["sync", "-f", tree], check=True)
