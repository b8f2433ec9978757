"""Real ext4 images for the tests: made by mke2fs from a tree, and by the kernel on a loop device.

Each image is built once per test run; ``wanted`` says which exist. The tests here only prove that the images hold
what the others rely on.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehydrator.disk.source import FileSource
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.ext4.segments import Tag

MIB = 1 << 20
TOOLS = ("mke2fs", "debugfs", "dumpe2fs", "e2fsck")
_ENV = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}
MISSING = [tool for tool in TOOLS if shutil.which(tool, path=_ENV["PATH"]) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"e2fsprogs is not complete: {MISSING}")


@dataclass(frozen=True)
class Recipe:
    """How an image is made: options of mke2fs and its size in MiB."""

    options: tuple[str, ...]
    size: int = 48
    kernel: bool = False


RECIPES = {
    "1k": Recipe(("-b", "1024", "-O", "metadata_csum_seed,orphan_file")),
    "2k": Recipe(("-b", "2048", "-O", "metadata_csum,mmp")),
    "4k": Recipe(("-b", "4096", "-O", "metadata_csum_seed")),
    "narrow": Recipe(("-b", "1024", "-O", "^64bit,metadata_csum", "-N", "4096")),
    "ext3": Recipe(("-b", "1024", "-O", "^extents,^metadata_csum,^64bit,uninit_bg,^flex_bg,^huge_file")),
    "plain": Recipe(("-b", "1024", "-I", "128", "-O", "^extents,^metadata_csum,^64bit,^uninit_bg,^has_journal")),
    "inline": Recipe(("-b", "4096", "-O", "inline_data,metadata_csum")),
    "meta_bg": Recipe(("-b", "1024", "-O", "meta_bg,^resize_inode,metadata_csum"), size=260),
    "kernel-1k": Recipe(("-b", "1024", "-O", "metadata_csum_seed,orphan_file"), size=64, kernel=True),
    "kernel-2k": Recipe(("-b", "2048", "-O", "metadata_csum"), size=64, kernel=True),
    "kernel-4k": Recipe(("-b", "4096", "-g", "8192", "-O", "metadata_csum_seed"), size=96, kernel=True),
    "kernel-ext3": Recipe(("-b", "1024", "-O", "^extents,^metadata_csum,^64bit"), size=64, kernel=True),
    "kernel-64bit": Recipe(("-b", "1024", "-O", "^metadata_csum,64bit"), size=64, kernel=True),
    "tiny": Recipe(("-b", "1024", "-N", "64", "-J", "size=1", "-O", "metadata_csum,orphan_file"), size=3),
}
FROM_TREE = tuple(name for name, recipe in RECIPES.items() if not recipe.kernel and name != "tiny")
FROM_KERNEL = tuple(name for name, recipe in RECIPES.items() if recipe.kernel)
BLOCK_SIZES = ("1k", "2k", "4k")


def tool(*command: str | Path, ok: tuple[int, ...] = (0,)) -> str:
    """Run a tool of e2fsprogs and return what it prints."""
    result = subprocess.run([str(part) for part in command], env=_ENV, capture_output=True, check=False)
    assert result.returncode in ok, (command, result.stdout[-2000:], result.stderr[-2000:])
    return result.stdout.decode("utf-8", "backslashreplace")


@functools.cache
def workspace() -> Path:
    """Directory of the images, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="rehydrator-ext4-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def can_mount() -> str:
    """Why the kernel can't be asked to make an image; empty when it can."""
    if os.geteuid() != 0:
        return "needs root to mount a loop device"
    image, where = workspace() / "probe.img", workspace() / "probe"
    where.mkdir()
    tool("mke2fs", "-q", "-t", "ext4", image, "4M")
    mounted = subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, check=False)
    if mounted.returncode:
        return f"the kernel does not mount ext4 here: {mounted.stderr.decode().strip()}"
    subprocess.run(["umount", where], check=True)
    return ""


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount an image read-write for a while."""
    where = Path(tempfile.mkdtemp(dir=workspace(), prefix="mnt-"))
    subprocess.run(["mount", "-o", "loop", image, where], check=True, capture_output=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True, capture_output=True)


@functools.cache
def tree() -> Path:
    """A directory tree with what file systems store in different ways."""
    root = workspace() / "tree"
    (root / "dir" / "nested").mkdir(parents=True)
    (root / "many").mkdir()
    for index in range(700):
        (root / "many" / f"{index:04}-with-a-rather-long-name-to-fill-blocks").write_bytes(b"%d" % index)
    (root / "small.txt").write_text("hello\n")
    (root / "tiny").write_bytes(b"x")
    (root / "empty").write_bytes(b"")
    (root / "big.bin").write_bytes(hashlib.shake_128(b"big").digest(600_001))
    (root / "dir" / "nested" / "deep.txt").write_text("deep\n" * 500)
    os.link(root / "small.txt", root / "dir" / "hard-link")
    (root / "fast").symlink_to("dir/nested/deep.txt")
    (root / "slow").symlink_to("./" * 40 + "dir/nested/deep.txt")
    (root / "loop").symlink_to("loop")
    (root / "absolute").symlink_to("/dir/nested")
    os.mkfifo(root / "fifo")
    with (root / "sparse").open("wb") as file:
        for index in range(0, 120, 2):
            file.seek(index * 16384)
            file.write(b"part %d" % index)
    return root


@functools.cache
def image(name: str) -> Path:
    """Build the named image, or skip the test that wants it."""
    if MISSING:
        pytest.skip(f"e2fsprogs is not complete: {MISSING}")
    recipe = RECIPES[name]
    if recipe.kernel and can_mount():
        pytest.skip(can_mount())
    path = workspace() / f"{name}.img"
    source = [] if recipe.kernel else ["-d", str(tree() if name != "tiny" else tiny_tree())]
    tool("mke2fs", "-q", "-t", "ext4", *recipe.options, *source, path, f"{recipe.size}M")
    if recipe.kernel:
        fill(path)
    else:
        tool("e2fsck", "-fyD", path, ok=(0, 1))  # builds the indexes of large directories
    return path


@functools.cache
def tiny_tree() -> Path:
    """Very little, for images that are damaged thousands of times."""
    root = workspace() / "tiny-tree"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_bytes(b"content" * 300)
    (root / "link").symlink_to("dir/file")
    for index in range(40):
        (root / "dir" / f"{index:02}{'-long-name' * 8}").symlink_to("x")
    return root


def fill(path: Path) -> None:
    """Let the kernel write all kinds of structures, in several transactions and two mounts."""
    with mounted(path) as top:
        _first_files(top)
        flush(top)
        shutil.rmtree(top / "gone")  # revokes the directory's blocks in the log
        for index in range(1500):  # each second block: one extent each, in a tree of several levels
            with (top / "fragmented").open("r+b" if index else "wb") as file:
                file.seek(index * 2 * 4096)
                file.write(b"fragment %d" % index)
        flush(top)
    with mounted(path) as top:
        (top / "second").write_text("second mount\n")
        flush(top)
        (top / "second").rename(top / "renamed")
        (top / "victim").unlink()
        flush(top)


def flush(top: Path) -> None:
    """Write all data of one file system and commit its transaction."""
    subprocess.run(["sync", "--file-system", top], check=True)


def _first_files(top: Path) -> None:
    (top / "many").mkdir()
    for index in range(1200):
        (top / "many" / f"{index:04}-with-a-rather-long-name-to-fill-blocks").touch()
    (top / "gone").mkdir()
    for index in range(100):
        (top / "gone" / f"{index:04}{'-name' * 20}").write_text("gone")
    (top / "victim").write_text("victim\n" * 1000)
    (top / "text").write_text("text\n" * 5000)
    (top / "fast").symlink_to("text")
    (top / "slow").symlink_to("many/" + "./" * 60 + "../text")
    for index in range(8):
        os.setxattr(top / "text", f"user.name{index}", b"value" * 10)
    os.setxattr(top / "many", "user.small", b"in the inode")
    with (top / "preallocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 200_000)
        file.write(b"the start is written")
    os.mknod(top / "device", 0o020600, os.makedev(1, 3))


def opened(name: str) -> Ext4Filesystem:
    """Open the named image."""
    return Ext4Filesystem(FileSource(image(name)))


@functools.cache
def pending() -> Path:
    """An image whose journal has to be replayed: copied while the kernel had it mounted."""
    recipe = RECIPES["kernel-1k"]
    if MISSING or can_mount():
        pytest.skip(can_mount() or "e2fsprogs is not complete")
    path, copy = workspace() / "pending-source.img", workspace() / "pending.img"
    tool("mke2fs", "-q", "-t", "ext4", *recipe.options, path, f"{recipe.size}M")
    with mounted(path) as top:
        for index in range(3):
            (top / f"file{index}").write_text("x" * 5000)
            (top / f"directory{index}").mkdir()
            handle = os.open(top / f"file{index}", os.O_RDWR)
            os.fsync(handle)
            os.close(handle)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        shutil.copyfile(path, copy)
    return copy


@pytest.mark.parametrize("name", FROM_KERNEL)
def test_kernel_images_hold_every_structure(name: str) -> None:
    filesystem = opened(name)
    tags = {Tag(filesystem.segments[index].tag) for index in range(len(filesystem.segments))}
    wanted = {Tag.DIRECTORY, Tag.DATA, Tag.SYMLINK, Tag.XATTR, Tag.JOURNAL}
    wanted.add(Tag.EXTENT_BLOCK if name != "kernel-ext3" else Tag.INDIRECT_BLOCK)
    assert wanted <= tags
    journal = filesystem.journal
    assert journal is not None
    assert len(journal.transactions) > 2
    assert any(transaction.revokes for transaction in journal.transactions)


@pytest.mark.parametrize("name", [*FROM_TREE, *FROM_KERNEL, "tiny"])
def test_images_are_clean(name: str) -> None:
    tool("e2fsck", "-fn", image(name))
    assert list(opened(name).health()) == []
