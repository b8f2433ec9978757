"""What firmware starts: the program on the EFI system partition, GRUB for the BIOS, the PReP partition."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.boot.architectures import EfiPath
from rehydrator.boot.programs import HEAD, bios_loader, prep_loader
from rehydrator.checks.finding import Check, Finding, error, judged
from rehydrator.checks.image import Image
from rehydrator.disk.c_gpt import Mbr
from rehydrator.disk.gpt import Region
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
        yield from _efi(image, architecture.efi)
    if architecture.bios and image.sector == _BIOS_SECTOR:  # the BIOS can't start a disk of larger sectors
        yield _bios(image)
    if architecture.prep:
        yield _prep(image)


def _efi(image: Image, wanted: EfiPath) -> Iterator[Finding]:
    region = image.partition(ESP)
    if region is None:
        yield error(Check.EFI_LOADER, "", f"there is no partition named {ESP}")
        return
    filesystem = image.owners.filesystem(region)
    if not isinstance(filesystem, FatFilesystem):
        yield error(Check.EFI_LOADER, region.name, "holds no FAT file system", region.extent.offset)
        return
    fat = filesystem.reader
    first = fat.lookup(wanted.path)
    place = f"{region.name} {wanted.path}"
    if first is None or first.directory:
        yield error(Check.EFI_LOADER, place, "is missing")
    else:
        yield judged(Check.EFI_LOADER, place, wanted.problem(fat.content(first)[:HEAD]), "an EFI program")
    for path, node in fat.nodes.items():  # what the first one starts
        if node is not first and not node.directory and path.lower().endswith(wanted.suffix):
            problem = wanted.problem(fat.content(node)[:HEAD])
            if problem:
                yield error(Check.EFI_LOADER, f"{region.name} {path}", problem)


def _bios(image: Image) -> Finding:
    region = image.partition(BIOS_BOOT)
    if region is None:
        return error(Check.BIOS_LOADER, "", f"there is no partition named {BIOS_BOOT}")
    code = Mbr.parse(image.owners.disk.read(0, Mbr.SIZE)).BootCode
    if problem := bios_loader(code, region.extent.offset // _BIOS_SECTOR):
        return error(Check.BIOS_LOADER, "mbr", problem, 0)
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
