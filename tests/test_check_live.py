"""``check`` of live ISOs: images of the real builders, and what is wrong with damaged ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.boot.c_programs import S390_EP_OFFSET, S390_EP_STRING
from rehydrator.check import check
from rehydrator.checks.finding import Check, Level
from rehydrator.checks.report import CheckReport
from tests.support import isos
from tests.support.cli import fails, fine
from tests.test_explain_inside import cpio, efiboot, rootfs, tree

X86 = bytes(0x1FE) + b"\x55\xaa\xeb\x66HdrS" + bytes(70_000)  # Linux, Documentation/arch/x86/boot.rst
S390X = bytes(S390_EP_OFFSET) + S390_EP_STRING + bytes(8000)
# The DOS header leads to a PE header for AMD64 at byte 64 (PE/COFF specification).
EFI = b"MZ" + bytes(58) + b"\x40\0\0\0" + b"PE\0\0\x64\x86" + bytes(500)
GRUB = """menuentry live {
  linux /images/pxeboot/vmlinuz coreos.liveiso=fedora-coreos-44
  initrd /images/pxeboot/initrd.img /images/ignition.img
}
"""
ISOLINUX = """label linux
  kernel /images/pxeboot/vmlinuz
  append initrd=/images/pxeboot/initrd.img,/images/ignition.img coreos.liveiso=fedora-coreos-44
"""


def build(need: Callable[..., None], directory: Path, kind: str, **changed: bytes | None) -> Path:
    """Build an image of a kind with files that are what they are called; ``changed`` by the ends of their names."""
    need("cpio", "mksquashfs", "mkfs.fat", "mcopy")
    (directory / "parts").mkdir()
    files = isos.FILES | {
        "images/pxeboot/vmlinuz": S390X if kind == "s390x" else X86,
        "images/pxeboot/rootfs.img": rootfs(directory / "parts", {}),
        "images/efiboot.img": efiboot(directory / "parts", {"EFI/BOOT/BOOTX64.EFI": EFI}),
        "EFI/fedora/grub.cfg": GRUB.encode(),
        "isolinux/isolinux.cfg": ISOLINUX.encode(),
    }
    for name, data in changed.items():
        (key,) = [key for key in files if key.rpartition("/")[2].startswith(name)]
        files |= {key: data or b""}
        if data is None:
            del files[key]
    configs = [name for name in files if name.endswith(".cfg")]
    documents = {name: files.pop(name) for name in configs}
    image = isos.build(need, kind, directory, files, documents)
    return image.rename(directory / f"fedora-coreos-44-live-iso.{kind}.iso")


def bad(report: CheckReport) -> set[str]:
    return {f"{item.check} {item.place}" for item in report.findings if item.level is not Level.OK}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["x86_64", "s390x"])
def test_sound_images(need: Callable[..., None], tmp_path: Path, kind: str) -> None:
    report = check(build(need, tmp_path, kind))
    assert (report.healthy, bad(report)) == (True, set())
    assert report.architecture == kind
    checks = {item.check for item in report.findings}
    assert {Check.BOOT_CATALOG, Check.BOOT_CONFIG, Check.KERNEL, Check.INITRD, Check.ROOTFS} <= checks
    assert (Check.EFI_LOADER in checks) == (kind == "x86_64")
    places = {item.place for item in report.findings if item.check is Check.BOOT_CATALOG}
    assert places == ({"/isolinux/isolinux.bin", "/images/efiboot.img"} if kind == "x86_64" else {"/images/cdboot.img"})


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"vmlinuz": isos.content("vmlinuz", 80_000)}, {"kernel /images/pxeboot/vmlinuz"}),
        ({"initrd": b""}, {"initrd /images/pxeboot/initrd.img"}),
        ({"ignition": None}, {"boot-config /EFI/fedora/grub.cfg", "boot-config /isolinux/isolinux.cfg"}),
        ({"grub": GRUB.replace("-44", "-43").encode()}, {"boot-config /EFI/fedora/grub.cfg"}),
        ({"isolinux": b"label linux\n"}, {"boot-config /isolinux/isolinux.cfg"}),
        ({"rootfs": None}, {"rootfs /images/pxeboot/rootfs.img"}),
        ({"rootfs": isos.content("rootfs", 9000)}, {"rootfs /images/pxeboot/rootfs.img"}),
        ({"efiboot": isos.content("efi", 20_480)}, {"efi-loader /images/efiboot.img: /EFI/BOOT/BOOTX64.EFI"}),
    ],
)
def test_faults(
    need: Callable[..., None], tmp_path: Path, changed: dict[str, bytes | None], expected: set[str]
) -> None:
    report = check(build(need, tmp_path, "x86_64", **changed))
    assert bad(report) == expected
    assert report.healthy == (changed == {"rootfs": None}), "a minimal ISO has its root file system elsewhere"


@pytest.mark.oracle
def test_a_catalog_that_leads_nowhere(need: Callable[..., None], tmp_path: Path) -> None:
    image = build(need, tmp_path, "x86_64")
    data = bytearray(image.read_bytes())
    entry = data.index(b"\x88\0\0\0\0\0\x04\0")  # bootable, no emulation, four sectors, and the block
    data[entry + 8 : entry + 12] = (17).to_bytes(4, "little")
    image.write_bytes(data)
    assert bad(check(image)) == {"boot-catalog "}
    fine_text = "an entry leads to block 17, where no file begins"
    assert fine_text in [item.text for item in check(image).findings]


@pytest.mark.oracle
def test_parts_of_a_live_system_are_refused_by_name(need: Callable[..., None], tmp_path: Path) -> None:
    need("cpio", "mksquashfs")
    tree(tmp_path / "x", {"init": b"#!/bin/sh"})
    image = tmp_path / "a-live-initramfs.x86_64.img"
    image.write_bytes(cpio(tmp_path / "x", ["init"]))
    fails(3, [image.name, "is cpio, a part of a live system", "Check the live ISO"], "check", image)
    subprocess.run(["mksquashfs", tmp_path / "x", tmp_path / "fs", "-no-progress"], check=True, capture_output=True)
    fails(3, ["is squashfs"], "check", tmp_path / "fs")


@pytest.mark.oracle
def test_the_command(need: Callable[..., None], tmp_path: Path) -> None:
    said = fine("check", build(need, tmp_path, "x86_64")).text
    assert "rootfs" in said
    assert said.splitlines()[-1] == "fedora-coreos-44-live-iso.x86_64.iso: healthy, 0 errors, 0 warnings"
