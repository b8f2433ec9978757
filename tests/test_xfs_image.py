"""XFS images made by mkfs.xfs and the kernel, with every form of everything; and the cover property over them."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import FileSource
from rehydrator.fs.place import Kind, Place
from rehydrator.fs.xfs.owner import XfsFilesystem

VARIANTS = {
    "coreos": ["-d", "agcount=2", "-i", "nrext64=0"],
    "large": ["-s", "size=4096", "-m", "rmapbt=1", "-i", "nrext64=1"],
    "blocks": ["-b", "size=1024", "-n", "size=8192", "-m", "rmapbt=1"],
    "plain": ["-m", "finobt=0,reflink=0", "-i", "sparse=0,nrext64=0", "-m", "bigtime=0,inobtcount=0"],
}
SIZE = 320 << 20
_NEEDED = ("mkfs.xfs", "xfs_db", "xfs_io", "xfs_logprint", "xfs_repair", "mount")


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a program and return what it prints; a failure is the test's."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def db(image: Path, *commands: str) -> str:
    """Run xfs_db commands."""
    return run("xfs_db", "-r", *(part for command in commands for part in ("-c", command)), image)


@contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """Mount an image through the kernel."""
    point = image.with_suffix(".mnt")
    point.mkdir(exist_ok=True)
    run("mount", "-t", "xfs", "-o", ",".join(("loop", "nouuid", *options)), image, point)
    try:
        yield point
    finally:
        run("umount", point)


def _many_extents(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for index in range(count):
            file.seek(index * 8192)
            file.write(b"%4096d" % index)
            if index % 50 == 0:
                os.fsync(file.fileno())


def _attributes(root: Path) -> None:
    for name, count, size in (("few", 2, 20), ("leaf", 20, 60), ("remote", 2, 20000), ("node", 300, 200)):
        path = root / f"attributes-{name}"
        path.write_bytes(name.encode())
        for index in range(count):
            os.setxattr(path, f"user.{name}-{index}", bytes([index % 256]) * size)


def _directories(root: Path) -> None:
    for name, count in (("short", 3), ("block", 25), ("leaf", 250), ("node", 2500)):
        directory = root / f"directory-{name}"
        directory.mkdir()
        for index in range(count):
            (directory / f"entry-{index:05}-{'x' * 20}").symlink_to(f"../{index}")
    for index in range(0, 2500, 3):
        (root / "directory-node" / f"entry-{index:05}-{'x' * 20}").unlink()


def _special(root: Path) -> None:
    (root / "local-link").symlink_to("etc/hostname")
    (root / "remote-link").symlink_to("x/" * 500)
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (root / "empty").touch()
    (root / "sub" / "ütf" / "deep").mkdir(parents=True)
    (root / "sub" / "ütf" / "deep" / "file").write_text("hello")
    (root / "ostree" / "repo").mkdir(parents=True)
    (root / "ostree" / "repo" / "aa.file").write_bytes(b"object" * 1000)
    (root / "usr").mkdir()
    os.link(root / "ostree" / "repo" / "aa.file", root / "usr" / "program")


def _fragment(root: Path) -> None:
    """Leave no room for a whole inode chunk, so that the next ones are sparse."""
    filler = root / "filler"
    block = 16384
    room = os.statvfs(root)
    size = (room.f_bavail * room.f_frsize - (24 << 20)) // block * block
    run("xfs_io", "-f", "-c", f"falloc 0 {size}", filler)
    rest = root / "rest"
    for step in (1 << 20, 1 << 16, 1 << 14):
        while True:
            at = rest.stat().st_size if rest.exists() else 0
            command = ["xfs_io", "-f", "-c", f"falloc {at} {step}", str(rest)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode or "No space" in result.stderr:
                break
    # Seven blocks hold an aligned half chunk of four wherever they begin, but never a whole chunk of eight.
    punches = "".join(f"fpunch {at} {7 * 4096}\n" for at in range(0, min(size, 64 << 20), 1 << 16))
    run("xfs_io", filler, text=punches)
    os.sync()
    # What the kernel had kept in reserve is still in one piece: large requests take it first.
    for step in range(20):
        run("xfs_io", "-f", "-c", f"falloc {step << 20} {1 << 20}", root / "reserve")
    for index in range(1500):
        (root / f"sparse-{index}").touch()


def _populate(root: Path, reflink: bool, sparse: bool) -> None:
    for index in range(300):
        (root / f"file-{index:03}").write_bytes(os.urandom(100 + index * 37))
    for index in range(0, 300, 7):
        (root / f"file-{index:03}").unlink()
    _many_extents(root / "many-extents", 600)
    _many_extents(root / "some-extents", 5)
    _attributes(root)
    _directories(root)
    _special(root)
    run("xfs_io", "-f", "-c", "pwrite 0 5000", "-c", "falloc 65536 262144", root / "preallocated")
    if reflink:
        (root / "original").write_bytes(os.urandom(1 << 20))
        run("cp", "--reflink=always", root / "original", root / "copy")
        with (root / "copy").open("r+b") as file:
            file.seek(300_000)
            file.write(b"changed" * 1000)
    os.sync()
    if sparse:
        _fragment(root)


@lru_cache
def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="xfs-images-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@lru_cache
def image_of(variant: str) -> Path:
    """Make (once) and return the image of a variant; read-only. Needs root."""
    image = _directory() / f"{variant}.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
    run("mkfs.xfs", "-q", *VARIANTS[variant], image)
    with mounted(image) as root:
        _populate(root, reflink=variant != "plain", sparse=variant == "coreos")
    with mounted(image) as root:  # the second mount stamps the log
        (root / "empty").touch()
    return image


def copy_of(variant: str, path: Path) -> Path:
    """Return a copy for a test to change."""
    run("cp", "--sparse=always", image_of(variant), path)
    return path


@lru_cache
def filesystem_of(variant: str) -> XfsFilesystem:
    """Open and map (once) the image of a variant."""
    return XfsFilesystem(FileSource(image_of(variant)))


def require(need: Callable[..., None]) -> None:
    """Skip where XFS images can't be made."""
    for program in _NEEDED:
        if shutil.which(program) is None:
            pytest.skip(f"missing: {program}, in package xfsprogs")
    need("mount", root=True)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, need: Callable[..., None]) -> str:
    require(need)
    return str(request.param)


def assert_covers(places: list[Place], ranges: list[Extent]) -> None:
    """The places cover exactly the ranges, in order."""
    pieces = iter(places)
    for wanted in ranges:
        at = wanted.offset
        while at < wanted.end:
            place = next(pieces)
            assert place.extent.offset == at
            assert place.extent.length > 0
            assert place.start <= at
            at = place.extent.end
        assert at == wanted.end
    assert next(pieces, None) is None


def test_places_cover_the_whole_image_with_names(variant: str) -> None:
    filesystem = filesystem_of(variant)
    places = list(filesystem.places([Extent(0, filesystem.size)]))
    assert_covers(places, [Extent(0, filesystem.size)])
    assert {place.kind for place in places} >= {
        Kind.SUPERBLOCK, Kind.BACKUP_SUPERBLOCK, Kind.AGF, Kind.AGI, Kind.AGFL, Kind.BTREE_BLOCK, Kind.INODE,
        Kind.DIRECTORY, Kind.XATTR_BLOCK, Kind.SYMLINK, Kind.FILE_DATA, Kind.SLACK, Kind.FREE, Kind.LOG_HEADER,
        Kind.LOG_PAYLOAD, Kind.LOG_STALE,
    }  # fmt: skip
    assert not [place for place in places if place.kind is Kind.UNKNOWN]


def test_fields_lie_within_their_structure_and_do_not_overlap(variant: str) -> None:
    filesystem = filesystem_of(variant)
    for place in filesystem.places([Extent(0, filesystem.size)]):
        end = 0
        for span in place.fields:
            assert span.offset >= end, (place.name, span)
            end = span.offset + span.size
        assert end <= max(place.extent.end - place.start, 65536)


@given(data=st.data())
def test_places_cover_any_ranges(data: st.DataObject, need: Callable[..., None]) -> None:
    require(need)
    filesystem = filesystem_of("coreos")
    borders = data.draw(st.lists(st.integers(0, filesystem.size), min_size=2, max_size=20).map(sorted))
    ranges = [Extent(start, end - start) for start, end in zip(borders[::2], borders[1::2], strict=False)]
    ranges = [extent for extent in ranges if extent.length < 1 << 22]
    assert_covers(list(filesystem.places(ranges)), ranges)


def test_a_clean_image_is_healthy(variant: str) -> None:
    assert list(filesystem_of(variant).health()) == []
