"""Files that hold files: what changed in an ISO is told by its path in the archives and file systems in it."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard

from rehydrator.codecs.streams import content, end_of
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource
from rehydrator.errors import CorruptError
from rehydrator.explain import text
from rehydrator.explain.causes import Cause
from rehydrator.explain.explain import Options
from rehydrator.explain.tree import FileChange, Part
from rehydrator.fs.cpio.owner import CpioFilesystem
from rehydrator.fs.place import Kind
from tests.support import isos
from tests.support.explaining import check_account, compare_files

NOISE = isos.content("noise", 40_000)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "zstd without sizes": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
}


def tree(top: Path, files: dict[str, bytes]) -> Path:
    """Write files, all of one time."""
    for name, data in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path in (*top.rglob("*"), top):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return top


def cpio(directory: Path, names: list[str]) -> bytes:
    """Pack files with the real cpio."""
    command = ["cpio", "-o", "-H", "newc", "-R", "root:root", "--reproducible", "--quiet"]
    listed = "\n".join(names).encode()
    return subprocess.run(command, input=listed, cwd=directory, check=True, capture_output=True).stdout


def rootfs(directory: Path, files: dict[str, bytes]) -> bytes:
    """Make rootfs.img: a squashfs in a cpio archive, and a file behind it."""
    top = tree(directory / "root", {"etc/motd": b"welcome\n", "etc/other": b"other\n" * 9, "usr/large": NOISE} | files)
    tree(directory, {"etc/coreos-live-rootfs": b"44\n"})
    options = ["-noappend", "-no-progress", "-mkfs-time", "0", "-all-root", "-comp", "zstd"]
    subprocess.run(["mksquashfs", top, directory / "root.squashfs", *options], check=True, capture_output=True)
    os.utime(directory / "root.squashfs", (1_700_000_000, 1_700_000_000))
    return cpio(directory, ["root.squashfs", "etc", "etc/coreos-live-rootfs"])


def initramfs(directory: Path, files: dict[str, bytes], compression: str = "zstd") -> bytes:
    """Make an initramfs: a plain archive, a compressed one, and one that was appended, compressed by gzip."""
    tree(directory, {"early/kernel": b"microcode", "main/init": b"#!/bin/sh\n" * 99, "more/etc/live": b"44\n"} | files)
    early, main, more = (
        cpio(top, sorted(path.relative_to(top).as_posix() for path in top.rglob("*")))
        for top in (directory / name for name in ("early", "main", "more"))
    )
    made = early + COMPRESS[compression](main) + COMPRESS["gzip"](more)
    return made + bytes(-len(made) % 4)


def efiboot(directory: Path, files: dict[str, bytes], volume: str = "12345678") -> bytes:
    """Make efiboot.img with dosfstools and mtools."""
    top = tree(directory / "esp", {"EFI/BOOT/BOOTX64.EFI": NOISE, "EFI/fedora/grub.cfg": b"search\n" * 9} | files)
    image = directory / "efiboot.img"
    subprocess.run(["mkfs.fat", "-C", "-i", volume, image, "1440"], check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-m", "-i", image, top / "EFI", "::"], check=True, env=os.environ | {"TZ": "UTC"})
    return image.read_bytes()


def image(need: Callable[..., None], directory: Path, **changed: dict[str, bytes]) -> Path:
    """Build an ISO whose initramfs, rootfs.img and efiboot.img have files in them."""
    need("cpio", "mksquashfs", "mkfs.fat", "mcopy")
    for name in ("i", "r", "e"):
        (directory / name).mkdir(parents=True)
    files = isos.FILES | {
        "images/pxeboot/initrd.img": initramfs(directory / "i", changed.get("initramfs", {})),
        "images/pxeboot/rootfs.img": rootfs(directory / "r", changed.get("rootfs", {})),
        "images/efiboot.img": efiboot(directory / "e", changed.get("efiboot", {})),
    }
    return isos.build(need, "aarch64", directory, files | changed.get("iso", {}))


@pytest.fixture(scope="module")
def plain(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image that others are changes of; read-only."""
    return image(need, tmp_path_factory.mktemp("plain"))


ROOTFS = "/images/pxeboot/rootfs.img: /root.squashfs: "


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("where", "files", "expected"),
    [
        ("rootfs", {"etc/motd": b"WELCOME\n"}, f"{ROOTFS}/etc/motd"),
        ("rootfs", {"etc/motd": b"a longer welcome\n"}, f"{ROOTFS}/etc/motd"),
        ("rootfs", {"usr/large": NOISE[:-1] + b"!"}, f"{ROOTFS}/usr/large"),
        ("rootfs", {"etc/new": b""}, f"{ROOTFS}/etc/new"),
        ("initramfs", {"main/init": b"#!/bin/bash\n"}, "/images/pxeboot/initrd.img: /archive 2 (zstd): /init"),
        ("initramfs", {"more/etc/live": b"45\n"}, "/images/pxeboot/initrd.img: /archive 3 (gzip): /etc/live"),
        ("initramfs", {"early/kernel": b"MICROCODE"}, "/images/pxeboot/initrd.img: /kernel"),
        ("efiboot", {"EFI/fedora/grub.cfg": b"SEARCH\n" * 9}, "/images/efiboot.img: /EFI/fedora/grub.cfg"),
        ("iso", {"images/pxeboot/vmlinuz": isos.content("other", 73_728)}, "/images/pxeboot/vmlinuz"),
    ],
)
def test_one_changed_file_is_one_name(
    need: Callable[..., None], plain: Path, tmp_path: Path, where: str, files: dict[str, bytes], expected: str
) -> None:
    report = compare_files(plain, image(need, tmp_path, **{where: files}), Options(patch=True))
    check_account(report)
    assert report.total.unexplained == 0
    assert [name for part in report.parts for item in part.files for name in item.changed] == [expected]
    lines = [line.split() for line in text.render(report, text.TextOptions())]
    assert len([words for words in lines if words[:1] in (["M"], ["A"]) and words[1] in expected.split(": ")[-1:]]) == 1


def _inside(found: list[FileChange], *paths: str) -> Part:
    (item,) = [item for item in found if item.path == paths[0]]
    (part,) = item.inside
    return _inside(part.files, *paths[1:]) if paths[1:] else part


@pytest.mark.oracle
def test_structures_of_fat_in_an_image(need: Callable[..., None], plain: Path, tmp_path: Path) -> None:
    """Another volume number, another time and a longer file: boot sector, directory entries, both tables, content."""
    other = image(need, tmp_path)
    (tmp_path / "later").mkdir()
    boot = efiboot(tmp_path / "later", {"EFI/fedora/grub.cfg": b"search\n" * 200}, "87654321")
    os.utime(tmp_path / "later/esp/EFI/BOOT/BOOTX64.EFI", (1_800_000_000, 1_800_000_000))
    files = isos.FILES | {"images/efiboot.img": boot}
    del files["images/pxeboot/initrd.img"], files["images/pxeboot/rootfs.img"]
    for name, data in files.items():
        (tmp_path / "tree-aarch64" / name).write_bytes(data)
    isos.BUILDERS["aarch64"](tmp_path / "tree-aarch64", other)
    report = compare_files(plain, other)
    check_account(report)
    part = _inside(report.parts[0].files, "/images/efiboot.img")
    assert part.filesystem == "fat12"
    assert [item.path for item in part.files] == ["/EFI/fedora/grub.cfg"]
    fields = {(item.cause, item.structure): set(item.fields) for item in part.changes}
    assert fields[Cause.SUPERBLOCK_STAMP, Kind.BOOT_SECTOR] == {"BS_VolID"}
    assert fields[Cause.FILE_METADATA, Kind.DIRECTORY] == {"DIR_FileSize"}
    (tables,) = [item for item in part.changes if item.structure == Kind.FAT]
    assert tables.names == ["FAT 1", "FAT 2"]
    assert Cause.FILE_CONTENT in {item.cause for item in part.changes}


@pytest.mark.oracle
@pytest.mark.parametrize("compression", COMPRESS)
def test_archives_of_an_initramfs(need: Callable[..., None], tmp_path: Path, compression: str) -> None:
    """All bytes have an owner, and each archive ends where it ends."""
    need("cpio")
    data = initramfs(tmp_path, {}, compression)
    filesystem = CpioFilesystem(BytesSource(data))
    name = compression.partition(" ")[0]
    assert list(filesystem.nodes) == ["/kernel", f"/archive 2 ({name})", "/archive 3 (gzip)"]
    places = list(filesystem.places([Extent(0, len(data))]))
    assert [place.extent.offset for place in places] == [0, *(place.extent.end for place in places[:-1])]
    assert places[-1].extent.end == len(data)
    assert not [place for place in places if place.kind is Kind.UNKNOWN]
    packed = filesystem.content(filesystem.nodes["/archive 3 (gzip)"])
    with gzip.open(io.BytesIO(bytes(packed.read(0, packed.size)))) as stream:
        assert b"".join(content(packed)) == stream.read()
    assert list(filesystem.health()) == []


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_streams_end_where_they_end(compression: str, size: int) -> None:
    data = bytes(size // 2) + isos.content("stream", size - size // 2)
    packed = COMPRESS[compression](data)
    for behind in (b"", b"\0\0", COMPRESS["gzip"](b"more")):
        source = BytesSource(b"in front" + packed + behind)
        assert end_of(source, 8) == 8 + len(packed)
        assert b"".join(content(source, 8)) == data


@pytest.mark.parametrize("compression", COMPRESS)
def test_damaged_streams(compression: str) -> None:
    packed = COMPRESS[compression](NOISE)
    for broken in (packed[: len(packed) // 2], packed[:8]):
        source = BytesSource(broken)
        with pytest.raises(CorruptError):
            end_of(source)
        with pytest.raises(CorruptError):
            list(content(source))


def test_a_damaged_archive_is_told_as_far_as_it_goes(need: Callable[..., None], tmp_path: Path) -> None:
    need("cpio")
    data = initramfs(tmp_path, {})
    (tmp_path / "one.img").write_bytes(data)
    (tmp_path / "two.img").write_bytes(data[:-40] + b"no archive".ljust(40, b"!"))
    report = compare_files(tmp_path / "one.img", tmp_path / "two.img")
    check_account(report)
    assert [item.path for item in report.parts[0].files] == ["/archive 3 (gzip)"]
    assert report.health[0].structure == "disk: archive 3"


def test_files_that_say_that_they_hold_files(tmp_path: Path) -> None:
    """What looks like an archive, but is none, is a file."""
    report_of = msgspec.json.encode  # JSON of the whole tree has to work as well
    for number, end in enumerate((b"a", b"b")):
        (tmp_path / f"{number}.img").write_bytes(b"070701" + b"0" * 200 + end)
    report = compare_files(tmp_path / "0.img", tmp_path / "1.img")
    check_account(report, 1)
    assert report_of(report)
