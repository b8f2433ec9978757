"""s390x: what ``check`` and ``explain`` say of boot records and bootmaps that real zipl wrote, rightly or not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehydrator.boot.zipl.build import build
from rehydrator.boot.zipl.c_zipl import BlockPointer, BootRecord
from rehydrator.boot.zipl.installed import read_installed
from rehydrator.boot.zipl.layout import BOOT_RECORD, STRUCTURES, Piece, cut, places
from rehydrator.boot.zipl.verify import STALE
from rehydrator.check import check_opened
from rehydrator.checks.finding import Check, Level
from rehydrator.checks.report import CheckReport
from rehydrator.disk.extents import Extent
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import FileSource, Source, Window
from rehydrator.explain.causes import Cause
from rehydrator.explain.explain import Options
from rehydrator.explain.peel import Opened
from rehydrator.explain.tree import Report
from rehydrator.fs.ext4.ext4 import Ext4
from release_builder import zipl as roots
from tests.support.cli import run
from tests.support.explaining import check_account, compare_files
from tests.support.mounted import BOOT_SIZE, BOOT_START, make_disk
from tests.support.s390x import change_files, options_of, run_zipl, write_entry, write_files

pytestmark = [pytest.mark.oracle, pytest.mark.builder]

FIRST_BOOT = " ignition.firstboot"


@dataclass(frozen=True)
class Disks:
    """A disk before zipl ran, metal made of it, and the zipl that did."""

    raw: Path
    metal: Path
    zipl: roots.Zipl

    def copy(self, target: Path, source: Path | None = None) -> Path:
        subprocess.run(["cp", "--sparse=always", source or self.metal, target], check=True)
        return target


def installed(disks: Disks, image: Path, platform: str, parmline: str | None = None) -> Path:
    """Make ``platform``'s image from the disk before zipl ran, as the build does."""
    disks.copy(image, disks.raw)
    write_entry(image, options_of(platform))
    run_zipl(image, disks.zipl, parmline or options_of(platform) + FIRST_BOOT, 512)
    return image


@pytest.fixture(scope="module")
def disks(
    need: Callable[..., None], real_zipl: Callable[[str], roots.Zipl], tmp_path_factory: pytest.TempPathFactory
) -> Disks:
    need("debugfs")
    where = tmp_path_factory.mktemp("s390x")
    raw = where / "raw.img"
    make_disk(raw, ["-b", "1024"])
    write_files(raw)
    disks = Disks(raw, where / "a-metal.s390x.raw", real_zipl(roots.SUITES[2]))
    installed(disks, disks.metal, "metal")
    return disks


def report_of(image: Path, name: str = "") -> CheckReport:
    with FileSource(image) as disk:
        return check_opened(Opened(name or image.name, disk))


def errors(report: CheckReport) -> dict[Check, str]:
    return {item.check: f"{item.place}: {item.text}" for item in report.findings if item.level is Level.ERROR}


def test_what_the_build_makes_is_healthy(disks: Disks, tmp_path: Path) -> None:
    for image in (disks.metal, installed(disks, tmp_path / "a-openstack.s390x.raw", "openstack")):
        report = report_of(image)
        assert errors(report) == {}
        assert report.architecture == "s390x"
        found = {item.check for item in report.findings}
        assert {Check.BOOT_RECORD, Check.BOOT_BLOCK_SIZE, Check.BOOTMAP, Check.PARMLINE, Check.FIRST_BOOT} <= found
        assert not found & {Check.EFI_LOADER, Check.BIOS_LOADER, Check.PREP_LOADER}


def test_zipl_was_not_re_run(disks: Disks, tmp_path: Path) -> None:
    """Openstack's image as it once was: its entry was edited, and metal's bootmap stayed."""
    image = disks.copy(tmp_path / "a-openstack.s390x.raw")
    write_entry(image, options_of("openstack"))
    found = errors(report_of(image))
    assert set(found) == {Check.PARMLINE}
    assert "-ignition.platform.id=openstack +ignition.platform.id=metal" in found[Check.PARMLINE]
    assert STALE in found[Check.PARMLINE]
    notes = compare_files(disks.metal, image, Options()).health
    assert [(item.image, item.structure) for item in notes] == [("openstack", "p3 boot: zipl parmline")]


def test_zipl_was_never_run(disks: Disks, tmp_path: Path) -> None:
    """Openstack's image as it once was after osbuild took over: edited from a disk that zipl had never seen."""
    image = disks.copy(tmp_path / "a-openstack.s390x.raw", disks.raw)
    write_entry(image, options_of("openstack"))
    found = errors(report_of(image))
    assert set(found) == {Check.BOOT_RECORD}
    assert "sector 0 has no boot record of zipl" in found[Check.BOOT_RECORD]


def test_explain_tells_a_stale_bootmap(disks: Disks, tmp_path: Path) -> None:
    image = disks.copy(tmp_path / "a-openstack.s390x.raw")
    write_entry(image, options_of("openstack"))
    text = " ".join(run("explain", disks.metal, image).text.split())
    assert "stale bootmap: zipl was not re-run" in text
    assert "-ignition.platform.id=openstack +ignition.platform.id=metal" in text


def _protected_image(boot: Path) -> None:
    (boot / "sdboot").write_bytes(bytes(range(256)) * 900)


def test_an_image_for_secure_execution(disks: Disks, tmp_path: Path) -> None:
    """zipl is given one image, in which initramfs and command line are encrypted; no entry stands beside it."""
    image = tmp_path / "a-qemu-secex.s390x.raw"
    make_disk(image, ["-b", "1024"])
    change_files(image, _protected_image)
    run_zipl(image, disks.zipl, "", 512, image_only="sdboot")
    with FileSource(image) as disk:
        record = bytes(disk.read(0, 512))
        found = read_installed(record, Ext4(Window(disk, BOOT_START, BOOT_SIZE)))
        built = build(found.parts, found.file.blocks)
        assert (built.bootmap, built.boot_record) == (found.file.content, record[: len(built.boot_record)])
    entry = {Check.BOOT_ENTRY}  # of a partition that this small disk lacks
    assert set(errors(report_of(image))) == entry
    change_files(image, _replace("sdboot"))
    found_errors = errors(report_of(image))
    assert set(found_errors) == {*entry, Check.BOOTMAP}
    assert "/sdboot: the kernel lies elsewhere" in found_errors[Check.BOOTMAP]


def test_first_boot_was_forgotten(disks: Disks, tmp_path: Path) -> None:
    """zipl was re-run with the entry's options alone, so that Ignition never ran."""
    image = installed(disks, tmp_path / "a-openstack.s390x.raw", "openstack", options_of("openstack"))
    found = errors(report_of(image))
    assert set(found) == {Check.PARMLINE, Check.FIRST_BOOT}
    assert all("Ignition would not run" in text for text in found.values())


def test_wrong_block_size(disks: Disks, tmp_path: Path) -> None:
    """metal4k as it is built: blocks of 512 bytes, and the partition's place in sectors of 4096."""
    image = tmp_path / "a-metal4k.s390x.raw"
    make_disk(image, ["-b", "4096"], sector=4096)
    write_files(image)
    write_entry(image, options_of("metal"))
    run_zipl(image, disks.zipl, options_of("metal") + FIRST_BOOT, 512, sector=4096)
    found = errors(report_of(image))
    assert set(found) == {Check.BOOT_BLOCK_SIZE}
    assert "blocks of 512 bytes, the disk in sectors of 4096" in found[Check.BOOT_BLOCK_SIZE]
    run_zipl(image, disks.zipl, options_of("metal") + FIRST_BOOT, 4096)
    assert errors(report_of(image)) == {}


def _replace(name: str) -> Callable[[Path], None]:
    """Return a change that a package update makes: the same file in other blocks."""

    def change(boot: Path) -> None:
        shutil.copy2(boot / name, boot / "new")
        (boot / "new").replace(boot / name)

    return change


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        (_replace("vmlinuz"), Check.BOOTMAP, "/vmlinuz: the kernel lies elsewhere"),
        (_replace("initrd"), Check.BOOTMAP, "/initrd: the ramdisk lies elsewhere"),
        (lambda boot: (boot / "bootmap").unlink(), Check.BOOTMAP, "the boot partition has no bootmap"),
        (_replace("bootmap"), Check.BOOT_RECORD, "which is not in the bootmap"),
    ],
    ids=["kernel", "initramfs", "no bootmap", "bootmap"],
)
def test_files_moved(disks: Disks, tmp_path: Path, change: Callable[[Path], None], expected: Check, words: str) -> None:
    image = disks.copy(tmp_path / "a-metal.s390x.raw")
    change_files(image, change)
    found = errors(report_of(image))
    assert set(found) == {expected}
    assert words in found[expected]
    assert STALE in found[expected]


def test_damaged_records(disks: Disks) -> None:
    def report(offset: int, data: bytes) -> dict[Check, str]:
        with FileSource(disks.metal) as disk:
            overlay = Overlay(disk)
            overlay.write(offset, data)
            return errors(check_opened(Opened(disks.metal.name, overlay)))

    assert "no boot record of zipl" in report(0, bytes(4))[Check.BOOT_RECORD]
    pointer = BootRecord.offset_of("program_table_pointer")
    assert "where there is no program table" in report(pointer, bytes(7) + b"\x09")[Check.BOOT_RECORD]
    size = pointer + BlockPointer.offset_of("size")
    assert set(report(size, bytes(2))) == {Check.BOOT_BLOCK_SIZE, Check.BOOTMAP}


# -- explain


def structures(report: Report, name: str) -> dict[str, list[str]]:
    part = next(part for part in report.parts if part.name == name)
    return {change.structure: change.fields for change in part.changes if change.cause == Cause.BOOTMAP}


def blocks_of_bootmap(image: Path) -> set[int]:
    """Return where the bootmap lies, as debugfs sees it."""
    partition = f"{image}?offset={BOOT_START}"
    done = subprocess.run(["debugfs", "-R", "blocks /bootmap", partition], capture_output=True, text=True, check=True)
    return set(map(int, done.stdout.split()))


def test_another_parmline_is_explained(disks: Disks, tmp_path: Path) -> None:
    image = installed(disks, tmp_path / "a-openstack.s390x.raw", "openstack")
    assert blocks_of_bootmap(image) == blocks_of_bootmap(disks.metal)
    report = compare_files(disks.metal, image, Options())
    check_account(report)
    assert report.total.unexplained == 0
    assert structures(report, "p3 boot") == {"parmline": []}
    bootmap = next(item for part in report.parts for item in part.files if item.path == "/bootmap")
    assert (bootmap.status, bootmap.meaning) == (
        "M", ["-ignition.platform.id=metal", "+ignition.platform.id=openstack"],
    )  # fmt: skip
    assert bootmap.bytes == next(item.bytes for item in report.causes if item.cause == Cause.BOOTMAP)
    assert "boot loader" in report.verdict
    assert "/bootmap" not in report.verdict
    assert "zipl boot record and bootmap of p3 boot" in report.checked
    assert report.health == []


def _small_file(boot: Path) -> None:
    (boot / "small").write_bytes(bytes(range(200)) * 50)


def test_a_bootmap_elsewhere_is_explained(disks: Disks, tmp_path: Path) -> None:
    """The same bootmap, its first blocks elsewhere: the header at its new place, and pointers to the heap."""
    image = disks.copy(tmp_path / "a-metal.s390x.raw", disks.raw)
    write_entry(image, options_of("metal"))
    change_files(image, _small_file)
    run_zipl(image, disks.zipl, options_of("metal") + FIRST_BOOT, 512)
    assert blocks_of_bootmap(image) != blocks_of_bootmap(disks.metal)
    report = compare_files(disks.metal, image, Options())
    check_account(report)
    assert report.total.unexplained == 0
    found = structures(report, "p3 boot")
    assert set(found) == {"bootmap header", "segment table"}
    assert all(field.startswith("segment pointer") for field in found["segment table"])
    assert report.health == []


def test_a_longer_parmline_moves_what_follows(disks: Disks, tmp_path: Path) -> None:
    image = installed(disks, tmp_path / "a-openstack.s390x.raw", "openstack-" + "x" * 1300)
    report = compare_files(disks.metal, image, Options())
    check_account(report)
    assert report.total.unexplained == 0
    found = structures(report, "p3 boot")
    assert {"parmline", "component table", "segment table", "program table", "bootmap header"} <= set(found)
    assert "program 0" in found["program table"]
    assert "envblk_offset" in found["bootmap header"]
    assert "ramdisk: data" in found["component table"]
    assert structures(report, "mbr")[BOOT_RECORD] == ["program_table_pointer.blockno"]


def _longer_ramdisk(boot: Path) -> None:
    (boot / "initrd").write_bytes(b"longer ramdisk " * 90_000)


def test_stage3_parameters_have_fields(disks: Disks, tmp_path: Path) -> None:
    """Another initramfs has another length, which the loader is told."""
    image = disks.copy(tmp_path / "a-metal.s390x.raw", disks.raw)
    change_files(image, _longer_ramdisk)
    write_entry(image, options_of("metal"))
    run_zipl(image, disks.zipl, options_of("metal") + FIRST_BOOT, 512)
    report = compare_files(disks.metal, image, Options())
    check_account(report)
    found = structures(report, "p3 boot")
    assert "initrd_len" in found["stage 3 parameters"]
    assert "segment pointer 0" in found["segment table"]


def test_every_byte_of_a_bootmap_has_a_structure(disks: Disks) -> None:
    with FileSource(disks.metal) as disk:
        boot: Source = Window(disk, BOOT_START, BOOT_SIZE)
        record = bytes(disk.read(0, 512))
        found = read_installed(record, Ext4(boot))
        content = found.file.content
        layout = places(record, found.file)
        assert {place.structure for place in layout} < set(STRUCTURES)
        gaps = [piece.extent for piece in cut(layout, Extent(0, len(content))) if piece.place is None]
        assert all(not content[gap.offset : gap.end].strip(b"\0") for gap in gaps)
        whole: list[Piece] = list(cut(layout, Extent(100, 20_000)))
        assert [piece.extent.offset for piece in whole[1:]] == [piece.extent.end for piece in whole[:-1]]
        parmline = next(place for place in layout if place.structure == "parmline")
        assert content[parmline.extent.offset :].startswith(options_of("metal").encode())
