"""``rehydrator check``: healthy images are healthy, and each kind of damage is named by its check."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator.boot.programs import arm64_kernel, ppc64le_kernel, prep_loader, s390x_kernel, x86_kernel
from rehydrator.check import check, check_opened
from rehydrator.checks.finding import Check, Level
from rehydrator.checks.report import CheckReport
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Padded, Source, Window
from rehydrator.explain.peel import Opened, opened
from rehydrator.release.naming import FileName, platform_id, read_name
from tests.support.cli import fails, fine, run
from tests.support.disks import MIB, metal_disk

BOOT = 129 * MIB


@pytest.fixture(scope="module")
def openstack(release_dir: Path) -> Iterator[Opened]:
    """The openstack image of the committed release, with everything taken off."""
    with opened(next(release_dir.rglob("*-openstack.*.xz"))) as side:
        yield side


@pytest.fixture(scope="module")
def raw(openstack: Opened, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same disk as a sparse file."""
    path = tmp_path_factory.mktemp("check") / "openstack.raw"
    with path.open("wb") as stream:
        for extent in openstack.disk.nonzero():
            stream.seek(extent.offset)
            stream.write(openstack.disk.read(*extent))
        stream.truncate(openstack.disk.size)
    return path


def bad(report: CheckReport) -> set[Check]:
    return {finding.check for finding in report.findings if finding.level is Level.ERROR}


def texts(report: CheckReport, of: Check) -> str:
    return "; ".join(
        f"{item.place}: {item.text}" for item in report.findings if item.check is of and item.level is Level.ERROR
    )


def changed(side: Opened, disk: Source, platform: str = "") -> CheckReport:
    return check_opened(Opened(side.name, disk), platform)


# -- healthy images


def test_every_image_of_the_release_is_healthy(release_dir: Path) -> None:
    images = sorted(release_dir.rglob("*.xz"))
    assert len(images) == 3
    for image in images:
        report = check(image)
        assert report.healthy, report.findings
        assert report.architecture == "x86_64"
        assert {finding.level for finding in report.findings} == {Level.OK}
        zipl = {Check.BOOT_RECORD, Check.BOOT_BLOCK_SIZE, Check.BOOTMAP, Check.PARMLINE, Check.PREP_LOADER}
        live = {Check.BOOT_CATALOG, Check.BOOT_CONFIG, Check.ROOTFS}
        assert {finding.check for finding in report.findings} == set(Check) - zipl - live


def test_a_grown_disk_is_told(openstack: Opened) -> None:
    report = changed(openstack, openstack.disk)
    backup = next(item for item in report.findings if item.check is Check.BACKUP_PARTITION_TABLE)
    assert backup.text == "ends at 834.0 MiB: the disk was grown from there to 1.0 GiB"
    larger = changed(openstack, Padded(openstack.disk, 10 << 30))
    assert larger.healthy
    assert larger.size == 10 << 30


# -- bytes that are wrong; file content has no checksums, so that exactly one check notices

REPLACED: list[tuple[str, bytes, bytes, set[Check], str]] = [
    ("other platform", b"id=openstack", b"id=proxmoxve", {Check.PLATFORM_ID, Check.CONSOLE}, "should be openstack"),
    ("no platform", b"ignition.platform.id", b"ignition.platform.xx", {Check.PLATFORM_ID}, "id is missing"),
    ("two platforms", b"mitigations=auto,nosmt", b"ignition.platform.id=x", {Check.PLATFORM_ID}, "is given 2 times"),
    ("no first boot", b"$ignition_firstboot", b"$ignition_secondbot", {Check.FIRST_BOOT}, "Ignition would not run"),
    (
        "other console",
        b"console=tty0\nlinux",
        b"console=tty1\nlinux",
        {Check.CONSOLE},
        "lacks the kernel arguments of openstack",
    ),
    (
        "other commands",
        b"put serial console\n",
        b"put console serial\n",
        {Check.CONSOLE},
        "should have those of openstack",
    ),
    ("no marks", b"# CONSOLE-SETTINGS-END", b"# CONSOLE-SETTINGS-XXX", {Check.CONSOLE}, "has no marks"),
    ("no options", b"\noptions ", b"\nopt-ons ", {Check.BOOT_ENTRY}, "for options"),
    ("no kernel line", b"\nlinux ", b"\nlinox ", {Check.BOOT_ENTRY}, "for linux"),
    ("kernel elsewhere", b"\nlinux /boot/ostree", b"\nlinux /boot/elsewh", {Check.KERNEL}, "is missing"),
    ("initramfs elsewhere", b"\ninitrd /boot/ostree", b"\ninitrd /boot/elsewh", {Check.INITRD}, "is missing"),
    ("no bzImage", b"HdrS", b"xxxx", {Check.KERNEL}, "is no bzImage"),
]


@pytest.mark.parametrize(
    ("old", "new", "expected", "words"), [row[1:] for row in REPLACED], ids=[r[0] for r in REPLACED]
)
def test_wrong_content_is_named(openstack: Opened, old: bytes, new: bytes, expected: set[Check], words: str) -> None:
    assert len(old) == len(new)
    disk = Overlay(openstack.disk)
    replaced = 0
    for extent in Window(openstack.disk, BOOT, 384 * MIB).nonzero():
        data = openstack.disk.read(BOOT + extent.offset, extent.length)
        at = -1
        while (at := bytes(data).find(old, at + 1)) >= 0:
            disk.write(BOOT + extent.offset + at, new)
            replaced += 1
    assert replaced
    report = changed(openstack, disk)
    assert bad(report) - {Check.FILESYSTEM} == expected
    assert any(words in texts(report, item) for item in expected)


def test_expected_platform_may_be_given(openstack: Opened) -> None:
    assert bad(changed(openstack, openstack.disk, "aws")) == {Check.PLATFORM_ID}
    nameless = Opened("disk.raw", openstack.disk)
    assert check_opened(nameless).healthy
    assert check_opened(nameless).platform == ""
    assert bad(check_opened(nameless, "metal4k")) == {Check.PLATFORM_ID}


def test_architecture_of_the_name(openstack: Opened) -> None:
    other = Opened(openstack.name.replace("x86_64", "aarch64"), openstack.disk)
    report = check_opened(other)
    assert bad(report) == {Check.ARCHITECTURE}
    assert texts(report, Check.ARCHITECTURE) == ": the disk is made for x86_64, the file is named aarch64"


def _flip(at: int) -> Callable[[Overlay], None]:
    def change(disk: Overlay) -> None:
        disk.write(at, bytes([disk.read(at, 1)[0] ^ 0x10]))

    return change


def _zero(at: int, length: int) -> Callable[[Overlay], None]:
    return lambda disk: disk.write(at, bytes(length))


METAL_END = 834 * MIB
FLIPPED: list[tuple[str, Callable[[Overlay], None], set[Check], str]] = [
    ("primary header", _flip(512 + 40), {Check.PARTITION_TABLE, Check.PARTITIONS}, "wrong HeaderCRC32"),
    ("entries", _flip(1024 + 128 + 5), {Check.PARTITION_TABLE, Check.PARTITIONS}, "wrong PartitionEntryArrayCRC32"),
    ("backup header", _flip(METAL_END - 512 + 40), {Check.BACKUP_PARTITION_TABLE}, "wrong HeaderCRC32"),
    ("backup missing", _zero(METAL_END - 512, 512), {Check.BACKUP_PARTITION_TABLE}, "is missing"),
    ("MBR signature", _flip(510), {Check.PARTITION_TABLE}, "Signature is 0xaa45, should be 0xaa55"),
    ("MBR record", _flip(446 + 4), {Check.PARTITION_TABLE}, "no partition record of type 0xee"),
    ("other core image", _flip(0x5C), {Check.BIOS_LOADER}, "leads to sector 2064, its core image begins at 2048"),
    ("no MBR code", _zero(0, 440), {Check.BIOS_LOADER}, "holds no boot code"),
    ("no core image", _zero(MIB, MIB), {Check.BIOS_LOADER}, "GRUB's core image is missing"),
    ("no FAT", _zero(2 * MIB, MIB), {Check.EFI_LOADER}, "holds no FAT"),
    ("no ext4", _zero(BOOT, MIB), {Check.FILESYSTEM}, "holds no file system that is known"),
    ("ext4 label", _flip(BOOT + 1024 + 0x78), {Check.FILESYSTEM, Check.LABEL}, "should have 'boot'"),
    ("ext4 group", _flip(BOOT + 2048 + 12), {Check.FILESYSTEM}, "p3 boot: group descriptor 0"),
    ("XFS label", _flip(BOOT + 384 * MIB + 108), {Check.FILESYSTEM, Check.LABEL}, "should have 'root'"),
    ("XFS header", _flip(BOOT + 384 * MIB + 512 + 100), {Check.FILESYSTEM}, "p4 root: AGF 0"),
]


@pytest.mark.parametrize(("change", "expected", "words"), [row[1:] for row in FLIPPED], ids=[row[0] for row in FLIPPED])
def test_damage_is_named(
    openstack: Opened, change: Callable[[Overlay], None], expected: set[Check], words: str
) -> None:
    disk = Overlay(openstack.disk)
    change(disk)
    report = changed(openstack, disk)
    assert bad(report) == expected
    assert any(words in texts(report, item) for item in expected), report.findings


def test_a_truncated_disk_is_named(openstack: Opened) -> None:
    report = changed(openstack, Window(openstack.disk, 0, 600 * MIB))
    assert Check.PARTITION_TABLE in bad(report)
    assert "leaves the disk" in texts(report, Check.PARTITION_TABLE)


# -- files that independent tools changed


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "requests", "expected", "words"),
    [
        ("stamp", ["rm /ignition.firstboot"], {Check.FIRST_BOOT}, "/ignition.firstboot: is missing"),
        ("entry", ["rm {entry}"], {Check.BOOT_ENTRY}, "there is no boot loader entry"),
        ("kernel", ["rm {kernel}"], {Check.KERNEL}, "is missing"),
        ("empty kernel", ["rm {kernel}", "write {empty} {kernel}"], {Check.KERNEL}, "is empty"),
        ("empty initramfs", ["rm {initrd}", "write {empty} {initrd}"], {Check.INITRD}, "is empty"),
        ("directory", ["rm {initrd}", "mkdir {initrd}"], {Check.INITRD}, "is missing"),
        ("journal", ["feature needs_recovery"], {Check.JOURNAL}, "was not unmounted"),
    ],
)
def test_edits_by_debugfs(
    need: Callable[..., None],
    raw: Path,
    openstack: Opened,
    tmp_path: Path,
    name: str,
    requests: list[str],
    expected: set[Check],
    words: str,
) -> None:
    need("debugfs")
    image = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", raw, image], check=True)
    empty = tmp_path / "empty"
    empty.touch()
    healthy = changed(openstack, openstack.disk)

    def place(of: Check) -> str:
        return next(item.place for item in healthy.findings if item.check is of).removeprefix("/boot")

    names = {
        "entry": "/loader.1/entries/" + Path(place(Check.BOOT_ENTRY)).name,
        "kernel": place(Check.KERNEL),
        "initrd": place(Check.INITRD),
        "empty": str(empty),
    }
    for request in requests:
        command = ["debugfs", "-w", "-R", request.format(**names), f"{image}?offset={BOOT}"]
        subprocess.run(command, check=True, capture_output=True)
    with FileSource(image) as disk:
        report = changed(openstack, disk)
    assert bad(report) == expected, (name, report.findings)
    assert any(words in texts(report, item) for item in expected), report.findings


@pytest.mark.oracle
def test_a_missing_efi_program(need: Callable[..., None], raw: Path, openstack: Opened, tmp_path: Path) -> None:
    need("mdel")
    image = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", raw, image], check=True)
    subprocess.run(["mdel", "-i", f"{image}@@{2 * MIB}", "::/EFI/BOOT/BOOTX64.EFI"], check=True)
    with FileSource(image) as disk:
        report = changed(openstack, disk)
    assert texts(report, Check.EFI_LOADER) == "p2 EFI-SYSTEM /EFI/BOOT/BOOTX64.EFI: is missing"
    assert bad(report) == {Check.EFI_LOADER}


def test_an_efi_program_for_another_machine(openstack: Opened) -> None:
    esp = bytes(openstack.disk.read(2 * MIB, 16 * MIB))
    at = esp.index(b"PE\0\0\x64\x86")
    disk = Overlay(openstack.disk)
    disk.write(2 * MIB + at + 4, b"\x64\xaa")
    assert "is an EFI program for another machine (0xaa64)" in texts(changed(openstack, disk), Check.EFI_LOADER)


@pytest.mark.oracle
def test_an_efi_program_behind_the_first(
    need: Callable[..., None], raw: Path, openstack: Opened, tmp_path: Path
) -> None:
    """Shim starts GRUB beside it; a program for another machine is no matter."""
    need("mcopy")
    image, good, bad_one = tmp_path / "disk.raw", tmp_path / "good", tmp_path / "bad"
    subprocess.run(["cp", "--sparse=always", raw, image], check=True)
    esp = f"{image}@@{2 * MIB}"
    subprocess.run(["mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", good], check=True)
    bad_one.write_bytes(b"no program")
    for source, name in ((good, "mmx64.efi"), (bad_one, "GRUBX64.EFI"), (bad_one, "grubia32.efi")):
        subprocess.run(["mcopy", "-i", esp, source, f"::/EFI/BOOT/{name}"], check=True)
    with FileSource(image) as disk:
        report = changed(openstack, disk)
    assert bad(report) == {Check.EFI_LOADER}
    assert texts(report, Check.EFI_LOADER) == "p2 EFI-SYSTEM /EFI/BOOT/GRUBX64.EFI: is no EFI program: no MZ"


# -- the command


def test_exit_codes(release_dir: Path, raw: Path, tmp_path: Path) -> None:
    image = next(release_dir.rglob("*-qemu.*.xz"))
    assert fine("check", image).text.splitlines()[-1] == f"{image.name}: healthy, 0 errors, 0 warnings"
    wrong = run("check", image, "--platform", "aws")
    assert (wrong.code, wrong.complaints) == (1, [])
    assert wrong.text.splitlines()[-1] == f"{image.name}: unhealthy, 1 error, 0 warnings"
    assert "error    platform-id" in wrong.text
    fails(2, ["nowhere.raw", "No such file"], "check", tmp_path / "nowhere.raw")
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/null"):
        fails(2, [str(name), "is no file or disk"], "check", name)
    for name, content in (("zeros.raw", bytes(MIB)), ("text.raw", b"no disk\n")):
        (tmp_path / name).write_bytes(content)
        fails(3, [name, "holds nothing that CoreOS boots from"], "check", tmp_path / name)
    cut = tmp_path / image.name
    cut.write_bytes(image.read_bytes()[:-1000])
    fails(1, [image.name], "check", cut)


def test_a_damaged_container_is_unhealthy(need: Callable[..., None], raw: Path, tmp_path: Path) -> None:
    need("qemu-img")
    image = tmp_path / "a-openstack.x86_64.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    assert check(image).healthy
    with image.open("r+b") as stream:
        stream.truncate(image.stat().st_size // 2)
    report = check(image)
    assert bad(report) == {Check.CONTAINER, Check.PARTITIONS}
    assert "could not be taken apart" in texts(report, Check.CONTAINER)


@pytest.mark.oracle
def test_what_can_not_be_looked_into_is_not_unhealthy(need: Callable[..., None], raw: Path, tmp_path: Path) -> None:
    need("qemu-img", "genisoimage")
    image = tmp_path / "a-openstack.x86_64.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(raw), str(image)], check=True)
    fails(3, [image.name, "backing file", "Convert it to a raw disk"], "check", image)
    image = tmp_path / "a-live.x86_64.iso"
    subprocess.run(["genisoimage", "-quiet", "-o", image, "-graft-points", "files=/etc/hostname"], check=True)
    fails(3, [image.name, "is an ISO 9660 image"], "check", image)


def test_json(release_dir: Path) -> None:
    image = next(release_dir.rglob("*-openstack.*.xz"))
    document = json.loads(fine("check", image, "--output", "json").text)
    assert document["file"] == image.name
    assert document["healthy"] is True
    assert (document["platform"], document["architecture"]) == ("openstack", "x86_64")
    assert {item["check"] for item in document["findings"]} <= {check.value for check in Check}


def test_a_disk_of_noise_survives(tmp_path: Path) -> None:
    report = check_opened(Opened("noise.raw", BytesSource(metal_disk())))
    assert report.architecture == ""
    assert {Check.FILESYSTEM} == bad(report)
    warnings = [item for item in report.findings if item.level is Level.WARNING]
    assert [item.check for item in warnings] == [Check.ARCHITECTURE]


# -- small parts


@pytest.mark.parametrize(
    ("name", "platform", "arch"),
    [
        ("fedora-coreos-44.1-openstack.x86_64.qcow2", "openstack", "x86_64"),
        ("fedora-coreos-44.1-metal4k.s390x.raw", "metal4k", "s390x"),
        ("rhcos-417.94-qemu-secex.s390x.qcow2", "qemu-secex", "s390x"),
        ("fedora-coreos-44.1-powervs.ppc64le.ova", "powervs", "ppc64le"),
        ("fedora-coreos-44.1-nutanix.x86_64", "nutanix", "x86_64"),
        ("disk.raw", "", ""),
    ],
)
def test_names_of_files(name: str, platform: str, arch: str) -> None:
    assert read_name(name) == FileName(platform, arch)


def test_ids_of_platforms() -> None:
    assert [platform_id(name) for name in ("metal4k", "qemu-secex", "aws")] == ["metal", "qemu", "aws"]


def test_short_programs_are_refused() -> None:
    for problem in (x86_kernel, arm64_kernel, ppc64le_kernel, s390x_kernel, prep_loader):
        assert problem(b"")
        assert problem(b"\x7fELF")
        assert problem(bytes(0x20000))
