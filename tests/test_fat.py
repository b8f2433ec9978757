"""FAT against mkfs.fat, mtools, fsck.fat and pyfatfs, and with flipped bits."""

from __future__ import annotations

import random
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import Extent
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Padded, Window
from rehydrator.errors import CorruptError
from rehydrator.fs.fat.c_fat import Bpb, DirectoryEntry
from rehydrator.fs.fat.fat import short_checksum
from rehydrator.fs.fat.owner import FatFilesystem
from rehydrator.fs.place import Kind, Place

FORMATS = {
    "fat12": (2 << 20, ["-F", "12"]),
    "fat16": (8 << 20, ["-F", "16", "-s", "1"]),
    "fat32": (40 << 20, ["-F", "32"]),
    "4096": (20 << 20, ["-F", "16", "-S", "4096", "-s", "1"]),
}
FILES = {
    "/EFI/BOOT/BOOTX64.EFI": bytes(range(256)) * 300,
    "/EFI/fedora/grub.cfg": b"set prefix=($root)/grub2\n",
    "/EFI/fedora/a rather long name with ünïcode.efi": b"long" * 5000,
    "/EMPTY": b"",
    "/fragmented.bin": b"fragment" * 2000,
}


def run(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    for program, package in (("mkfs.fat", "dosfstools"), ("mcopy", "mtools")):
        if shutil.which(program) is None:
            pytest.skip(f"missing: {program}, in package {package}")
    directory = tmp_path_factory.mktemp("fat")
    result: dict[str, Path] = {}
    for name, (size, options) in FORMATS.items():
        image = result[name] = directory / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(size)
        run("mkfs.fat", *options, "-n", "EFI-SYSTEM", "-i", "7b7795e7", image)
        run("mmd", "-i", image, "::/EFI", "::/EFI/BOOT", "::/EFI/fedora")
        for path, content in FILES.items():
            if path != "/fragmented.bin":
                _copy_in(image, directory, path, content)
        _fill(image, directory)
        _copy_in(image, directory, "/fragmented.bin", FILES["/fragmented.bin"])
    return result


def _fill(image: Path, directory: Path) -> None:
    """Leave only small holes, so that the next file gets several runs."""
    for index in range(12):
        _copy_in(image, directory, f"/filler-{index}", bytes(3000))
    reader = opened(image).reader
    free = sum(1 for value in reader.table if not value) * reader.geometry.cluster_size
    _copy_in(image, directory, "/filler-large", bytes(free - 8192))
    for index in range(0, 12, 2):
        run("mdel", "-i", image, f"::/filler-{index}")


def _copy_in(image: Path, directory: Path, path: str, content: bytes) -> None:
    local = directory / "local"
    local.write_bytes(content)
    run("mcopy", "-i", image, "-o", local, f"::{path}")


@pytest.fixture(params=FORMATS)
def image(request: pytest.FixtureRequest, images: dict[str, Path]) -> Path:
    return images[request.param]


def opened(image: Path) -> FatFilesystem:
    return FatFilesystem(FileSource(image))


_mapped = lru_cache(opened)


def covers(filesystem: FatFilesystem, ranges: list[Extent]) -> list[Place]:
    """Check that places cover ``ranges`` exactly, in order, and return them."""
    places = list(filesystem.places(ranges))
    pieces = iter(places)
    for wanted in ranges:
        at = wanted.offset
        while at < wanted.end:
            piece = next(pieces)
            assert piece.extent.offset == at
            assert piece.extent.length > 0
            at = piece.extent.end
        assert at == wanted.end
    assert next(pieces, None) is None
    return places


def test_every_byte_has_a_name(image: Path) -> None:
    filesystem = opened(image)
    places = covers(filesystem, [Extent(0, filesystem.size)])
    kinds = {place.kind for place in places}
    assert kinds >= {Kind.BOOT_SECTOR, Kind.FAT, Kind.DIRECTORY, Kind.FILE_DATA, Kind.SLACK, Kind.FREE}
    assert Kind.UNKNOWN not in kinds
    assert list(filesystem.health()) == []
    assert filesystem.type == {"4096": "fat16"}.get(image.stem, image.stem)


def test_content_and_offsets(image: Path) -> None:
    filesystem = opened(image)
    source = FileSource(image)
    found: dict[str, bytes] = {}
    for place in filesystem.places([Extent(0, filesystem.size)]):
        if place.kind is Kind.FILE_DATA:
            before = found.get(place.path, b"")
            assert place.file_offset == len(before) or place.path.startswith("/fragmented")
            pieces = before[: place.file_offset].ljust(place.file_offset, b"\0"), bytes(source.read(*place.extent))
            found[place.path] = b"".join(pieces) + before[place.file_offset + place.extent.length :]
    for path, content in FILES.items():
        node = filesystem.reader.lookup(path)
        assert node is not None
        assert filesystem.reader.content(node) == content
        assert found.get(path, b"") == content
    fragmented = filesystem.reader.lookup("/fragmented.bin")
    assert fragmented is not None
    assert len(fragmented.runs) > 1
    assert filesystem.reader.lookup("/efi/boot/bootx64.efi") is not None
    assert filesystem.reader.lookup("/nothing") is None


@pytest.mark.oracle
def test_mtools_and_fsck_agree(image: Path) -> None:
    if shutil.which("fsck.fat"):
        run("fsck.fat", "-n", image)
    listed = {line.removeprefix("::").rstrip("/") for line in run("mdir", "-i", image, "-/", "-b", "::").split("\n")}
    ours = set(opened(image).reader.nodes) - {"/"}
    assert ours == listed - {""}


@pytest.mark.oracle
def test_pyfatfs_agrees(images: dict[str, Path]) -> None:
    """It reads FAT12 and FAT16 as we do; names compare without case, since it ignores NTRes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyfat = pytest.importorskip("pyfatfs.PyFat")
    for name in ("fat12", "fat16", "fat32"):
        filesystem = opened(images[name])
        theirs = pyfat.PyFat(encoding="utf-8")
        theirs.open(str(images[name]), read_only=True)
        seen: dict[str, tuple[int, list[int]]] = {}
        for _, _, files in theirs.root_dir.walk():
            for file in files:
                path = "/" + file.get_full_path().strip("/").lower()
                clusters = list(theirs.get_cluster_chain(file.get_cluster())) if file.filesize else []
                seen[path] = (file.filesize, clusters)
        geometry = filesystem.reader.geometry
        ours = {
            node.path.lower(): (
                node.size,
                [
                    (at - geometry.data_offset) // geometry.cluster_size + 2
                    for run in node.runs
                    for at in range(run.start, run.start + run.length, geometry.cluster_size)
                ],
            )
            for node in filesystem.reader.nodes.values()
            if not node.directory
        }
        assert {path: value for path, value in ours.items() if path.isascii()} == {
            path: value for path, value in seen.items() if path.isascii()
        }
        assert len(ours) == len(seen)
        theirs.close()


def test_fields_are_named(image: Path) -> None:
    filesystem = opened(image)
    source = FileSource(image)
    (boot,) = filesystem.places([Extent(0, 512)])
    serial = next(span for span in boot.fields if span.name == "BS_VolID")
    assert bytes(source.read(serial.offset, serial.size)) == bytes.fromhex("e795777b")
    places = [place for place in filesystem.places([Extent(0, filesystem.size)]) if place.kind is Kind.DIRECTORY]
    entry = next(place for place in places if place.path == "/EFI/fedora/grub.cfg" and "directory entry" in place.name)
    data = bytes(source.read(entry.start, DirectoryEntry.SIZE))
    assert DirectoryEntry.parse(data).DIR_FileSize == len(FILES["/EFI/fedora/grub.cfg"])
    assert entry.fields == DirectoryEntry.FIELDS
    assert any(place.name == "volume label in /" for place in places)
    geometry = filesystem.reader.geometry
    (first,) = filesystem.places([Extent(geometry.reserved, 4)])
    assert first.fields[0].name.startswith("FAT[0]")


@given(data=st.data())
def test_places_cover_any_ranges(data: st.DataObject, images: dict[str, Path]) -> None:
    filesystem = _mapped(images[data.draw(st.sampled_from(["fat12", "fat32"]))])
    borders = data.draw(st.lists(st.integers(0, filesystem.size), min_size=2, max_size=20).map(sorted))
    covers(filesystem, [Extent(a, b - a) for a, b in zip(borders[::2], borders[1::2], strict=False)])


@pytest.mark.parametrize("name", ["fat12", "fat16", "fat32"])
def test_flipped_bits_never_crash(name: str, images: dict[str, Path]) -> None:
    source = FileSource(images[name])
    original = opened(images[name])
    metadata = [
        place
        for place in original.places([Extent(0, original.size)])
        if place.kind in {Kind.BOOT_SECTOR, Kind.SUPERBLOCK, Kind.FAT, Kind.DIRECTORY}
    ]
    random_ = random.Random(3)
    for number in range(15 if name == "fat32" else 60):
        overlay = Overlay(source)
        for _ in range(1 + number % 8):
            place = random_.choice(metadata[: 40 + number])
            at = place.extent.offset + random_.randrange(min(place.extent.length, 64))
            overlay.write(at, bytes([random_.choice((0, 0xFF, random_.randrange(256)))]))
        try:
            filesystem = FatFilesystem(overlay)
        except CorruptError:
            continue
        covers(filesystem, [Extent(0, filesystem.size)])
        list(filesystem.health())


def _damage(image: Path, offset: int, data: bytes) -> Iterator[str]:
    overlay = Overlay(FileSource(image))
    overlay.write(offset, data)
    return (f"{problem.name}: {problem.problem}" for problem in FatFilesystem(overlay).health())


def test_damage_is_named(images: dict[str, Path]) -> None:
    image = images["fat32"]
    reader = opened(image).reader
    geometry = reader.geometry
    assert any("differs from FAT 1" in text for text in _damage(image, geometry.reserved + geometry.fat_size, b"\1"))
    assert any("FSInfo" in text for text in _damage(image, geometry.sector_size, b"X"))
    assert any("backup boot sector" in text for text in _damage(image, geometry.backup_sector * 512 + 3, b"X"))
    node = reader.lookup("/fragmented.bin")
    assert node is not None
    cluster = (node.runs[0].start - geometry.data_offset) // geometry.cluster_size + 2
    loop = cluster.to_bytes(4, "little")
    problems = list(_damage(image, geometry.reserved + 4 * cluster, loop))
    assert any("/fragmented.bin" in text and "twice" in text for text in problems)
    assert any("in use by nobody" in text for text in problems)


def test_truncated_and_padded_images(image: Path) -> None:
    source = FileSource(image)
    for size in (source.size - 512, 5000, 700):
        filesystem = FatFilesystem(Window(source, 0, size))
        covers(filesystem, [Extent(0, size)])
        assert "truncated" in next(iter(filesystem.health())).problem
    filesystem = FatFilesystem(Padded(source, source.size + 100))
    assert covers(filesystem, [Extent(source.size, 100)])[0].kind is Kind.SLACK


@pytest.mark.parametrize("data", [b"", bytes(512), bytes(1 << 16), b"\xeb<\x90" + bytes(507) + b"\x55\xaa"])
def test_anything_else_is_not_fat(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not a FAT"):
        FatFilesystem(BytesSource(data))


def test_short_checksum_and_sizes() -> None:
    assert short_checksum(bytes(11)) == 0
    assert short_checksum(bytes(10) + b"\x7f") == 0x7F
    assert Bpb.SIZE == 36
    assert DirectoryEntry.SIZE == 32


def test_a_real_esp_is_named(release_dir: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    """The ESP of the committed release: second partition, 127 MiB from 2 MiB on."""
    need("xz")
    archives = sorted(release_dir.glob("builds/*/x86_64/*-metal.x86_64.raw.xz"))
    if not archives:
        pytest.skip("no release in fixtures")
    raw = tmp_path / "metal.raw"
    with raw.open("wb") as file:
        subprocess.run(["xz", "-dc", archives[0]], stdout=file, check=True)
    filesystem = FatFilesystem(Window(FileSource(raw), 2 << 20, 127 << 20))
    covers(filesystem, [Extent(0, filesystem.size)])
    assert list(filesystem.health()) == []
    assert any(path.lower().startswith("/efi/") for path in filesystem.reader.nodes)
