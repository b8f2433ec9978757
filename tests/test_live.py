"""What CoreOS keeps in live images: embed areas, and how explain tells an image that a user customised."""

from __future__ import annotations

import json
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehydrator.disk.c_gpt import GptHeader, Mbr
from rehydrator.disk.source import BytesSource
from rehydrator.explain.causes import Cause
from rehydrator.explain.tree import Report
from rehydrator.fs.iso9660.c_hfsplus import Block0, ExtentDescriptor, ForkData, Partition, VolumeHeader
from rehydrator.fs.iso9660.c_iso9660 import SYSTEM_AREA
from rehydrator.fs.iso9660.iso9660 import Iso9660
from rehydrator.fs.place import Kind
from rehydrator.live.c_embed import (
    IGNITION_HEADER_AT,
    IGNITION_MAGIC,
    KARGS_HEADER_AT,
    KARGS_MAGIC,
    IgnitionHeader,
    KargsHeader,
)
from rehydrator.live.embed import (
    AREA_HEADER,
    BOOT_IMAGE,
    BOOT_PARAMETERS,
    IGNITION_AREA,
    KARGS_AREA,
    EmbedAreas,
)
from tests.support import isos
from tests.support.explaining import change, check_account, compare_files

CONFIG = lzma.compress(b"070701 config.ign {}" * 9, lzma.FORMAT_XZ, lzma.CHECK_CRC32, 9)
USER_KARGS = f"{isos.KARGS} console=ttyS0"


@pytest.fixture(scope="module")
def images(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Images by kind, each built once."""
    made: dict[str, Path] = {}

    def image(kind: str) -> Path:
        if kind not in made:
            made[kind] = isos.build(need, kind, tmp_path_factory.mktemp("live"))
        return made[kind]

    return image


def areas_of(data: bytes) -> EmbedAreas:
    source = BytesSource(data)
    return EmbedAreas(source, Iso9660(source))


def customised(image: Path, target: Path, *, kargs: str = "", config: bytes = b"") -> Path:
    """Write what ``coreos-installer iso customize`` writes: other bytes in the rooms of an image, found by content."""
    data = bytearray(image.read_bytes())
    if kargs:
        old = f"{isos.KARGS}\n".ljust(isos.KARGS_ROOM, "#").encode()
        at = data.index(old)
        data[at : at + len(old)] = f"{kargs}\n".ljust(isos.KARGS_ROOM, "#").encode()
    if config:
        at = Iso9660(BytesSource(bytes(data))).nodes["/images/ignition.img"].extents[0].offset
        data[at : at + len(config)] = config
    target.write_bytes(data)
    return target


@pytest.mark.oracle
@pytest.mark.parametrize("kind", isos.BUILDERS)
def test_a_customised_image_is_told_as_such(images: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    image = images(kind)
    other = customised(image, tmp_path / "mine.iso", kargs=USER_KARGS, config=CONFIG)
    report = compare_files(image, other)
    check_account(report)
    assert report.verdict == f"mine is {kind}, customised: other {KARGS_AREA} and {IGNITION_AREA}"
    assert {item.path: item.meaning for item in report.parts[0].files} == {
        "/EFI/fedora/grub.cfg": ["+console=ttyS0"],
        "/images/ignition.img": [f"Ignition config: none -> {len(CONFIG)} bytes, compressed"],
    }
    assert change(report, Cause.FILE_CONTENT, KARGS_AREA).names == ["kernel arguments in /EFI/fedora/grub.cfg"]
    assert change(report, Cause.FILE_CONTENT, IGNITION_AREA).names == ["Ignition config in /images/ignition.img"]
    assert (report.total.unexplained, report.health) == (0, [])
    assert compare_files(image, image).verdict == "A and B are identical"


@pytest.mark.oracle
def test_more_than_settings_is_no_customised_image(images: Callable[[str], Path], tmp_path: Path) -> None:
    image = images("aarch64")
    other = customised(image, tmp_path / "mine.iso", kargs=USER_KARGS)
    data = bytearray(other.read_bytes())
    data[data.index(isos.FILES["images/pxeboot/rootfs.img"]) + 5000] ^= 0xFF
    other.write_bytes(data)
    report = compare_files(image, other)
    check_account(report)
    assert report.verdict == "mine differs from aarch64 only in: /EFI/fedora/grub.cfg, /images/pxeboot/rootfs.img"


S390X_AT = 73_728 + 30_000  # behind kernel and initramfs in cdboot.img
S390X_DOCUMENTS = {
    "coreos/kargs.json": json.dumps(
        {
            "default": isos.KARGS,
            "files": [{"path": "images/cdboot.img", "offset": 66688, "pad": "\0", "end": "\0"}],
            "size": 896,
        }
    ).encode(),
    "coreos/igninfo.json": json.dumps(
        {"file": "images/cdboot.img", "offset": S390X_AT, "length": isos.IGNITION_ROOM}
    ).encode(),
}


def _cpio(directory: Path, *names: str) -> bytes:
    for name in names:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("{}")
    command = ["cpio", "-o", "-H", "newc", "--quiet"]
    return subprocess.run(
        command, input="\n".join(names).encode(), cwd=directory, check=True, capture_output=True
    ).stdout  # fmt: skip


@pytest.mark.oracle
def test_a_customised_image_of_s390x(need: Callable[..., None], tmp_path: Path) -> None:
    """Both rooms are in cdboot.img: arguments in the kernel's own place, the config behind the initramfs."""
    need("cpio")
    image = isos.build(need, "s390x", tmp_path, documents=S390X_DOCUMENTS)
    archive = _cpio(tmp_path, "config.ign", "coreos-installer-network/eth0.nmconnection")
    config = lzma.compress(archive, lzma.FORMAT_XZ, lzma.CHECK_CRC32, 9)
    data = bytearray(image.read_bytes())
    at = Iso9660(BytesSource(bytes(data))).nodes["/images/cdboot.img"].extents[0].offset
    data[at + 66688 : at + 66688 + len(USER_KARGS)] = USER_KARGS.encode()
    data[at + S390X_AT : at + S390X_AT + len(config)] = config
    (tmp_path / "mine.iso").write_bytes(data)
    report = compare_files(image, tmp_path / "mine.iso")
    check_account(report)
    assert report.verdict == f"mine is s390x, customised: other {KARGS_AREA} and {IGNITION_AREA}"
    assert {item.path: item.meaning for item in report.parts[0].files} == {
        "/images/cdboot.img": [
            "+console=ttyS0",
            "Ignition config: none -> config.ign, coreos-installer-network/eth0.nmconnection, "
            f"{len(config)} bytes, compressed",
        ]
    }


@pytest.mark.oracle
def test_parts_of_the_boot_image_of_s390x(need: Callable[..., None], tmp_path: Path) -> None:
    """Where the release builder put kernel, parameters and initramfs, they are told; the address of the latter too."""
    image = isos.build(need, "s390x", tmp_path, documents=S390X_DOCUMENTS)
    data = bytearray(image.read_bytes())
    at = Iso9660(BytesSource(bytes(data))).nodes["/images/cdboot.img"].extents[0].offset
    for place in (5, 70_000, 73_728, S390X_AT - 1):
        data[at + place] ^= 0xFF
    data[at + 66568 + 15] ^= 0x10  # the initramfs is 16 bytes shorter
    (tmp_path / "mine.iso").write_bytes(data)
    report = compare_files(image, tmp_path / "mine.iso")
    check_account(report, 5)
    parts = change(report, Cause.FILE_CONTENT, BOOT_IMAGE)
    assert (parts.bytes, parts.names) == (4, ["kernel in /images/cdboot.img", "initramfs in /images/cdboot.img"])
    assert change(report, Cause.BOOTMAP, BOOT_PARAMETERS).fields == ["initrd_size"]
    for broken in (b"\xff" * 8, bytes(8)):  # an address that leads nowhere: the file is a file
        data[at + 66568 : at + 66576] = broken
        assert BOOT_IMAGE not in {item.structure for item in areas_of(bytes(data)).areas}


def _structures(report: Report) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part in report.parts:
        for item in part.changes:
            found.setdefault(item.structure, set()).update(item.fields)
    return found


@pytest.mark.oracle
def test_the_partition_table_around_an_image(images: Callable[[str], Path], tmp_path: Path) -> None:
    """isohybrid draws identifiers anew each time."""
    data = bytearray(images("x86_64").read_bytes())
    backup = len(data) - 512
    for at in (Mbr.offset_of("UniqueMBRDiskSignature"), 512 + GptHeader.offset_of("DiskGUID"), 1024 + 16, backup + 56):
        data[at] ^= 0xFF
    (tmp_path / "mine.iso").write_bytes(data)
    report = compare_files(images("x86_64"), tmp_path / "mine.iso")
    check_account(report, 4)
    assert report.verdict.startswith("mine differs from x86_64 only in: partition table")
    assert _structures(report) == {
        "MBR partition table": {"UniqueMBRDiskSignature"},
        "GPT header": {"DiskGUID"},
        "GPT partition entry": {"UniquePartitionGUID"},
        "backup GPT header": {"DiskGUID"},
    }
    assert {note.image for note in report.health} == {"mine"}, "its checksums are wrong now"


def _with_headers(data: bytes, *, kargs_length: int = isos.KARGS_ROOM) -> bytes:
    """Return an image as those of 2021 are: no documents, two headers at the end of the system area."""
    made = bytearray(data)
    config = made.index(f"{isos.KARGS}\n".encode())
    ignition = Iso9660(BytesSource(data)).nodes["/images/ignition.img"].extents[0].offset
    for name in (b"KARGS.JSO", b"IGNINFO.JSO"):
        while name in made:
            made[made.index(name) : made.index(name) + 1] = b"X"
    offsets = {f"Offset{number}": 0 for number in range(6)} | {"Offset0": config}
    made[KARGS_HEADER_AT:IGNITION_HEADER_AT] = KargsHeader(
        Magic=KARGS_MAGIC, Length=kargs_length, DefaultOffset=0, **offsets
    ).pack()
    made[IGNITION_HEADER_AT:SYSTEM_AREA] = IgnitionHeader(
        Magic=IGNITION_MAGIC, Offset=ignition, Length=isos.IGNITION_ROOM
    ).pack()
    return bytes(made)


@pytest.mark.oracle
def test_headers_of_older_images(images: Callable[[str], Path]) -> None:
    areas = areas_of(_with_headers(images("aarch64").read_bytes()))
    found = {(item.structure, item.path): item.extent.length for item in areas.areas}
    assert found == {
        (AREA_HEADER, ""): 24,
        (KARGS_AREA, "/EFI/fedora/grub.cfg"): isos.KARGS_ROOM,
        (IGNITION_AREA, "/images/ignition.img"): isos.IGNITION_ROOM,
    }
    assert [item.extent.length for item in areas.areas if item.structure == AREA_HEADER] == [72, 24]
    assert areas.kernel_arguments("/EFI/fedora/grub.cfg") == isos.KARGS
    assert areas.ignition_config("/images/ignition.img") == b""
    assert (areas.kernel_arguments("/x"), areas.ignition_config("/x")) == (None, None)
    assert KARGS_AREA not in {
        item.structure for item in areas_of(_with_headers(images("aarch64").read_bytes(), kargs_length=1 << 40)).areas
    }


@pytest.mark.oracle
def test_settings_of_s390x(need: Callable[..., None], tmp_path: Path) -> None:
    """Both areas lie in the image that the firmware boots, as ``igninfo.json`` and ``kargs.json`` say."""
    at = len(isos.FILES["images/pxeboot/vmlinuz"]) + len(isos.FILES["images/pxeboot/initrd.img"])
    kargs = {"path": "images/cdboot.img", "offset": 66688, "pad": "\0", "end": "\0"}
    documents = {
        "coreos/kargs.json": {"default": isos.KARGS, "files": [kargs], "size": 896},
        "coreos/igninfo.json": {"file": "images/cdboot.img", "offset": at, "length": isos.IGNITION_ROOM},
    }
    encoded = {name: json.dumps(document).encode() for name, document in documents.items()}
    image = isos.build(need, "s390x", tmp_path, documents=encoded)
    areas = areas_of(image.read_bytes())
    assert areas.kernel_arguments("/images/cdboot.img") == isos.KARGS
    assert areas.ignition_config("/images/cdboot.img") == b""
    data = bytearray(image.read_bytes())
    start = Iso9660(BytesSource(bytes(data))).nodes["/images/cdboot.img"].extents[0].offset
    data[start + at : start + at + len(CONFIG)] = CONFIG
    (tmp_path / "mine.iso").write_bytes(data)
    report = compare_files(image, tmp_path / "mine.iso")
    assert report.verdict == f"mine is s390x, customised: other {IGNITION_AREA}"


@pytest.mark.oracle
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"default": "a", "files": [{"path": "EFI/fedora/grub.cfg", "offset": -5}], "size": 20}',
        b'{"default": "a", "files": [{"path": "EFI/fedora/grub.cfg", "offset": 5}], "size": 20000}',
        b'{"default": "a", "files": [{"path": "EFI/fedora/grub.cfg", "offset": 5}], "size": 2000}',
        b'{"default": "a", "files": [{"path": "nowhere", "offset": 5}], "size": 20}',
        b'{"default": "a", "files": [{"path": "EFI", "offset": 5}], "size": 20}',
        b'{"default": "a", "files": [{"path": "empty", "offset": 0}], "size": 20}',
        b'{"default": "a", "files": [], "size": 1' + b"0" * 40 + b"}",
    ],
)
def test_documents_that_tell_of_no_area(need: Callable[..., None], tmp_path: Path, document: bytes) -> None:
    image = isos.build(need, "aarch64", tmp_path, documents={"coreos/kargs.json": document})
    assert KARGS_AREA not in {item.structure for item in areas_of(image.read_bytes()).areas}
    report = compare_files(image, customised(image, tmp_path / "mine.iso", kargs=USER_KARGS))
    check_account(report)
    assert change(report, Cause.FILE_CONTENT, Kind.FILE_DATA).names == ["data of /EFI/fedora/grub.cfg"]


def _with_hfs(data: bytes) -> bytes:
    """Put a partition map and the head of an HFS Plus volume where grub-mkrescue puts them for ppc64le."""
    made = bytearray(data)
    made[: Block0.SIZE] = Block0(sbSig=b"ER", sbBlkSize=2048, sbBlkCount=len(data) // 2048).pack()
    volume = Iso9660(BytesSource(data)).volume_size // 2048
    made = made.ljust((volume + 20) * 2048, b"\0")
    for number, (kind, start, count) in enumerate(((b"Apple_partition_map", 1, 2), (b"Apple_HFS", volume, 20)), 1):
        at = number * 2048
        made[at : at + Partition.SIZE] = Partition(
            pmSig=b"PM", pmSigPad=0, pmMapBlkCnt=2, pmPyPartStart=start, pmPartBlkCnt=count, pmPartName=b"x",
            pmParType=kind, pmLgDataStart=0, pmDataCnt=count, pmPartStatus=0,
        ).pack()  # fmt: skip
    extents = {"allocationFile": (2, 1), "catalogFile": (5, 3), "extentsFile": (8, 1)}
    forks = {
        name: ForkData(logicalSize=0, clumpSize=0, totalBlocks=0, extents=ExtentDescriptor(
            startBlock=extents.get(name, (0, 0))[0], blockCount=extents.get(name, (0, 0))[1]).pack()).pack()
        for name in ("allocationFile", "extentsFile", "catalogFile", "attributesFile", "startupFile")
    }  # fmt: skip
    values: dict[str, Any] = {span.name: 0 for span in VolumeHeader.FIELDS}
    values |= {"signature": b"H+", "blockSize": 2048, "lastMountedVersion": b"", "finderInfo": b""} | forks
    at = volume * 2048 + 1024
    made[at : at + VolumeHeader.SIZE] = VolumeHeader(**values).pack()
    return bytes(made)


@pytest.mark.oracle
def test_volumes_of_hfs_plus(images: Callable[[str], Path], tmp_path: Path) -> None:
    """What differs in the structures of a hybrid image goes by their names."""
    data = bytearray(_with_hfs(images("aarch64").read_bytes()))
    volume = Iso9660(BytesSource(bytes(data))).volume_size
    (tmp_path / "one.iso").write_bytes(data)
    changed = {2048 + 20: "map entry 1", volume + 1024 + 20: "volume header", volume + 2 * 2048 + 7: "allocation file",
               volume + 5 * 2048: "catalog file", volume + 8 * 2048 + 9: "extents overflow file"}  # fmt: skip
    for place in changed:
        data[place] ^= 0xFF
    (tmp_path / "two.iso").write_bytes(data)
    report = compare_files(tmp_path / "one.iso", tmp_path / "two.iso")
    check_account(report, len(changed))
    names = [name for part in report.parts for item in part.changes for name in item.names]
    assert sorted(name.removeprefix("HFS Plus ") for name in names) == sorted(changed.values())


@pytest.mark.builder
def test_the_image_for_ppc64le_has_no_byte_without_a_name(need: Callable[..., None], tmp_path: Path) -> None:
    """With GRUB's modules for ppc64le, where the release builder has fetched them: a volume of HFS Plus lies around."""
    need("dpkg-deb", "grub-mkrescue", "xorriso", "mcopy")
    found = sorted(Path.home().glob(".cache/rehydrator-build/ppc64el/grub-ieee1275-bin_*.deb"))
    if not found:
        pytest.skip("the release builder has not fetched grub-ieee1275-bin for ppc64el")
    subprocess.run(["dpkg-deb", "-x", found[-1], tmp_path / "grub"], check=True)
    made = []
    for name, extra in (("one", b""), ("two", b"more" * 999)):
        key = "images/pxeboot/initrd.img"
        tree = isos.make_tree(tmp_path / name, isos.FILES | {key: isos.FILES[key] + extra})
        made.append(tmp_path / f"{name}.iso")
        modules = tmp_path / "grub/usr/lib/grub/powerpc-ieee1275"
        words = ("grub-mkrescue", "-d", modules, "-o", made[-1], tree, "--", "-volid", "fedora-coreos-44")
        command = [str(word) for word in words]
        subprocess.run(command, check=True, capture_output=True)
    report = compare_files(made[0], made[1])
    check_account(report)
    assert (report.total.unexplained, report.health) == (0, [])
    assert [item.path for item in report.parts[0].files] == ["/images/pxeboot/initrd.img"]
    names = {name for part in report.parts for item in part.changes for name in item.names}
    assert {"HFS Plus volume header", "HFS Plus catalog file", "HFS Plus allocation file"} <= names
