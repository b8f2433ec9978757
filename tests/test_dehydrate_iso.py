"""Stores made of nothing but a live ISO: the disks come out of it as the kernel and the real tools had made them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator.codecs.bincode import Integers
from rehydrator.disk.source import BytesSource
from rehydrator.errors import CorruptError
from rehydrator.osmet.c_osmet import Mapping, OsmetPartition
from rehydrator.osmet.table import pack, read_osmet
from rehydrator.osmet.unpack import Stored, unpacked
from release_builder.bincode import FIXED
from tests.support import isos, osmets
from tests.support.cli import fails, fine
from tests.support.disks import MIB
from tests.test_osmet import PATH, table_of

BUILD = "44.20260707.3.1"
NAME = f"fedora-coreos-{BUILD}"
ROOTFS = "images/pxeboot/rootfs.img"


class Live(msgspec.Struct, frozen=True):
    """Two disks with the same objects, their live root file system, and the parts of a live image."""

    disks: dict[str, osmets.Made]
    root: Path
    members: dict[str, bytes]
    iso: Path


@pytest.fixture(scope="module")
def build(need: Callable[..., None]) -> Callable[[Path, Path, dict[str, bytes]], Path]:
    """Return a function that makes a live ISO below a directory, of a root file system and other members."""
    need("mkfs.ext4", "mkfs.xfs", "sfdisk", "mksquashfs", "cpio", "genisoimage", root=True)

    def make(work: Path, root: Path, members: dict[str, bytes]) -> Path:
        files = isos.FILES | {ROOTFS: osmets.rootfs_image(work / "rootfs", root, members)}
        image = isos.build(need, "aarch64", work, files)
        return image.rename(work / f"{NAME}-live-iso.x86_64.iso")

    return make


@pytest.fixture(scope="module")
def live(build: Callable[[Path, Path, dict[str, bytes]], Path], tmp_path_factory: pytest.TempPathFactory) -> Live:
    work = tmp_path_factory.mktemp("live")
    disks = {"metal": osmets.make(work), "metal4k": osmets.make(work, 4096, FIXED)}
    root = osmets.root_squashfs(disks["metal"], work / "root.squashfs")
    members = {"etc/coreos-live-rootfs": f"{BUILD}\n".encode()}
    members |= {f"{NAME}-{key}.x86_64.raw.osmet": made.osmet.read_bytes() for key, made in disks.items()}
    return Live(disks, root, members, build(work, root, members))


@pytest.mark.oracle
def test_everything_comes_of_the_iso_alone(live: Live, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    said = fine("build", "dehydrate", "--iso", live.iso, store, "--level", "1").err
    assert f"no metadata tells the sha256 of {live.iso.name}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    listed = json.loads(fine("list", "--json", "--store", store).text)["artifacts"]
    found = {item["name"]: (item["format"], item["role"], item["rung"], item["release"]) for item in listed}
    assert found == {
        f"{NAME}-metal.x86_64.raw": ("raw", "disk", "edits", BUILD),
        f"{NAME}-metal4k.x86_64.raw": ("4k.raw", "disk", "relocated", BUILD),
        f"{NAME}-live-iso.x86_64.iso": ("iso", "disk", "relocated", BUILD),
        f"{NAME}-live-kernel.x86_64": ("pxe", "kernel", "stored", BUILD),  # noise that is no object
        f"{NAME}-live-initramfs.x86_64.img": ("pxe", "initramfs", "stored", BUILD),
        f"{NAME}-live-rootfs.x86_64.img": ("pxe", "rootfs", "relocated", BUILD),
    }
    fine("rehydrate", out, "--disk", "metal", "--disk", "metal4k", "--iso", "--store", store)
    for key, made in live.disks.items():
        assert (out / f"{NAME}-{key}.x86_64.raw").read_bytes() == made.disk.read_bytes()
    assert (out / live.iso.name).read_bytes() == live.iso.read_bytes()
    size = sum(file.stat().st_size for file in (store / "blobs").rglob("*") if file.is_file())
    assert size < live.iso.stat().st_size / 2


@pytest.mark.oracle
def test_architectures_that_are_not_wanted(live: Live, tmp_path: Path) -> None:
    fails(
        2,
        ["no input for architecture s390x"],
        "build",
        "dehydrate",
        "--iso",
        live.iso,
        tmp_path / "s",
        "--arch",
        "s390x",
    )
    fails(2, ["no input", "--iso"], "build", "dehydrate", tmp_path / "s")
    assert not list(tmp_path.iterdir())


def _without_osmet(live: Live) -> dict[str, bytes]:
    return {name: data for name, data in live.members.items() if not name.endswith(".osmet")}


def _changed(live: Live, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    name = f"{NAME}-metal.x86_64.raw.osmet"
    return live.members | {name: change(live.members[name])}


def _other_digest(data: bytes) -> bytes:
    found = read_osmet(BytesSource(data), PATH)
    return pack(msgspec.structs.replace(found, checksum=bytes(32))) + data[found.xz_offset :]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        (_without_osmet, 3, ["holds no osmet file", "with the metal disk itself"]),
        (lambda live: {k: v for k, v in live.members.items() if k.startswith(NAME)}, 3, ["does not tell its build"]),
        (lambda live: live.members | {"etc/coreos-live-rootfs": b"\xff"}, 1, ["tells no build"]),
        (lambda live: _changed(live, _other_digest), 1, ["does not come out as its osmet file promises", "0" * 64]),
        (lambda live: _changed(live, lambda data: data[:-9]), 1, ["xz footer is not there"]),
        (lambda live: _changed(live, lambda data: data[:100]), 1, ["the file ends within a value"]),
    ],
)
def test_members_that_make_no_disk(
    live: Live,
    build: Callable[[Path, Path, dict[str, bytes]], Path],
    tmp_path: Path,
    members: Callable[[Live], dict[str, bytes]],
    code: int,
    words: list[str],
) -> None:
    (tmp_path / "work").mkdir()
    iso = build(tmp_path / "work", live.root, members(live))
    said = fails(code, words, "build", "dehydrate", "--iso", iso, tmp_path / "store")
    assert iso.name in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


@pytest.mark.oracle
def test_images_that_are_none(
    live: Live, build: Callable[[Path, Path, dict[str, bytes]], Path], need: Callable[..., None], tmp_path: Path
) -> None:
    def check(code: int, words: list[str], iso: Path) -> None:
        fails(code, words, "build", "dehydrate", "--iso", iso, tmp_path / "store")
        assert not list(tmp_path.glob("*store*"))

    check(2, ["cannot be opened"], tmp_path / "no.iso")
    (tmp_path / "text").write_text("no image\n" * 9999)
    check(2, ["is no ISO 9660 image"], tmp_path / "text")
    cut = tmp_path / "cut.iso"
    cut.write_bytes(live.iso.read_bytes()[: 1 * MIB])
    check(1, ["beyond the end of the image"], cut)
    files = {name: data for name, data in isos.FILES.items() if name != ROOTFS}
    plain = isos.build(need, "aarch64", tmp_path, files)
    check(3, ["holds no live root file system"], plain)
    smaller = osmets.root_squashfs(live.disks["metal"], tmp_path / "root.squashfs", "-e", "ostree/repo/objects/aa")
    (tmp_path / "smaller").mkdir()
    check(1, ["lacks an object", "/ostree/repo/objects/aa/"], build(tmp_path / "smaller", smaller, live.members))
    need("mkfs.erofs")
    erofs = tmp_path / "root.erofs"
    (tmp_path / "tree").mkdir()
    subprocess.run(["mkfs.erofs", erofs, tmp_path / "tree"], check=True, capture_output=True)
    (tmp_path / "other").mkdir()
    check(3, ["is not read here", "squashfs", "erofs"], build(tmp_path / "other", erofs, live.members))


# -- the disk of its parts


class Objects(msgspec.Struct, frozen=True):
    """Objects that lie in ``content``, by their checksum; those that are missing are zeros."""

    content: BytesSource
    places: dict[bytes, Stored]

    def find(self, name: bytes) -> Stored | None:
        return self.places.get(name)


A, B, C = (bytes([number]) * 32 for number in range(3))
OBJECTS = Objects(BytesSource(b"-" * 10 + b"a" * 5000 + b"b" * 3000), {A: Stored(10, 5000), B: Stored(5010, 3000)})


def test_pieces_of_objects_and_the_rest() -> None:
    """Mappings begin within an object, end behind it, and are of zeros only; the rest is what lies between."""
    mappings = [Mapping(0, 0, 4096, B), Mapping(4096, 8192, 4096, A), Mapping(0, 12288, 4096, C)]
    osmet = msgspec.structs.replace(
        table_of([[]], Integers.VARIABLE), partitions=[OsmetPartition(4096, 32768, mappings)]
    )
    osmet = msgspec.structs.replace(osmet, size=40960)
    rest = b"1" * 4096 + b"2" * 4096 + bytes(4096) + b"3" * 16384
    disk = bytearray(40960)
    for piece in unpacked(osmet, BytesSource(rest), OBJECTS):
        disk[piece.at : piece.at + len(piece.data)] = piece.data
    parts = [b"1" * 4096, (b"b" * 3000).ljust(4096, b"\0"), b"2" * 4096, (b"a" * 904).ljust(4096, b"\0"), bytes(4096)]
    assert bytes(disk) == b"".join(parts) + bytes(4096) + b"3" * 16384


@pytest.mark.parametrize(
    ("mapping", "rest", "words"),
    [
        (Mapping(5001, 0, 4096, A), 64 * MIB * 3 - 4096, "lies behind its object"),
        (Mapping(0, 0, 4096, A), 64 * MIB, "another part of the disk"),
    ],
)
def test_parts_that_do_not_fit(mapping: Mapping, rest: int, words: str) -> None:
    with pytest.raises(CorruptError, match=words):
        list(unpacked(table_of([[mapping]], Integers.VARIABLE), BytesSource(bytes(rest)), OBJECTS))
