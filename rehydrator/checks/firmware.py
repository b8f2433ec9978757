"""What firmware starts: the program on the EFI system partition, GRUB for the BIOS, the PReP partition."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.boot.architectures import EfiPath
from rehydrator.boot.programs import HEAD, prep_loader
from rehydrator.checks.finding import Check, Finding, error, judged
from rehydrator.checks.image import Image
from rehydrator.disk.extents import is_zero
from rehydrator.disk.gpt import Region
from rehydrator.explain.gpt import BOOT_CODE_SIZE
from rehydrator.fs.fat.owner import FatFilesystem

ESP = "EFI-SYSTEM"
BIOS_BOOT = "BIOS-BOOT"
PREP = "PReP"
_BIOS_SECTOR = 512


def check_firmware(image: Image) -> Iterator[Finding]:
    """Check each way in which the architecture boots, but zipl's."""
    architecture = image.architecture
    if architecture is None:
        return
    if architecture.efi is not None:
        yield _efi(image, architecture.efi)
    if architecture.bios and image.sector == _BIOS_SECTOR:  # the BIOS can't start a disk of larger sectors
        yield _bios(image)
    if architecture.prep:
        yield _prep(image)


def _efi(image: Image, wanted: EfiPath) -> Finding:
    region = image.partition(ESP)
    if region is None:
        return error(Check.EFI_LOADER, "", f"there is no partition named {ESP}")
    filesystem = image.owners.filesystem(region)
    if not isinstance(filesystem, FatFilesystem):
        return error(Check.EFI_LOADER, region.name, "holds no FAT file system", region.extent.offset)
    node = filesystem.reader.lookup(wanted.path)
    place = f"{region.name} {wanted.path}"
    if node is None or node.directory:
        return error(Check.EFI_LOADER, place, "is missing")
    return judged(Check.EFI_LOADER, place, wanted.problem(filesystem.reader.content(node)[:HEAD]), "an EFI program")


def _bios(image: Image) -> Finding:
    region = image.partition(BIOS_BOOT)
    if region is None:
        return error(Check.BIOS_LOADER, "", f"there is no partition named {BIOS_BOOT}")
    if is_zero(image.owners.disk.read(0, BOOT_CODE_SIZE)):
        return error(Check.BIOS_LOADER, "mbr", "holds no boot code", 0)
    problem = "" if _head(image, region).strip(b"\0") else "is empty: GRUB's core image is missing"
    return judged(Check.BIOS_LOADER, region.name, problem, "boot code and core image", region.extent.offset)


def _prep(image: Image) -> Finding:
    region = image.partition(PREP)
    if region is None:
        return error(Check.PREP_LOADER, "", f"there is no partition named {PREP}")
    problem = prep_loader(_head(image, region))
    return judged(Check.PREP_LOADER, region.name, problem, "an ELF program for POWER", region.extent.offset)


def _head(image: Image, region: Region) -> bytes:
    return bytes(image.owners.disk.read(region.extent.offset, min(HEAD, region.extent.length)))
