"""Does a disk's bootmap lead to the kernel, initramfs and command line that its boot loader entry names?

A bootmap is made by running zipl after the files and the entry were written. Where that was forgotten, the machine
starts what the bootmap says, whatever the entry says.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from rehydrator.boot import bls
from rehydrator.boot.entries import FIRST_BOOT, command_line, entry_paths, read_text
from rehydrator.boot.zipl.c_zipl import MAGIC, BlockPointer, BootRecord
from rehydrator.boot.zipl.installed import BOOTMAP_PATH, Installed, component_spans, read_installed
from rehydrator.boot.zipl.parts import Referred, Role
from rehydrator.boot.zipl.read import has_boot_record
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.ext4.ext4 import Ext4

# What a disk for Secure Execution starts in place of an entry's kernel: all in one file, encrypted.
PROTECTED_IMAGE = "/sdboot"
STALE = "stale bootmap: zipl was not re-run"
_FILES = ((Role.KERNEL, "linux"), (Role.RAMDISK, "initrd"))


class Part(enum.StrEnum):
    """What can be wrong."""

    RECORD = "boot record"
    BLOCK_SIZE = "block size"
    BOOTMAP = "bootmap"
    PARMLINE = "parmline"


class Verdict(msgspec.Struct, frozen=True):
    """What holds for a part: ``problem`` is empty where all is well; ``place`` is a file, "" for sector 0."""

    part: Part
    place: str
    problem: str = ""


class BootDisk(msgspec.Struct, frozen=True):
    """A disk that zipl made bootable.

    ``fs`` is its boot partition, which begins at byte ``start``; ``sector`` are the bytes of the disk's sectors.
    """

    disk: Source
    fs: Ext4
    start: int
    sector: int

    def boot_record(self) -> bytes:
        """Return the first bytes of sector 0."""
        return bytes(self.disk.read(0, min(BootRecord.SIZE, self.disk.size)))

    @property
    def protected(self) -> bool:
        """Whether what it starts is an image for Secure Execution, whose command line nobody can read."""
        return not entry_paths(self.fs) and self.fs.lookup(PROTECTED_IMAGE) is not None

    def has_bootmap(self) -> bool:
        """Tell whether zipl wrote to this partition."""
        return self.fs.lookup(BOOTMAP_PATH) is not None

    def has_record(self) -> bool:
        """Tell whether zipl wrote to the disk."""
        return has_boot_record(self.boot_record())


def verdicts(boot: BootDisk) -> Iterator[Verdict]:
    """Judge each part in the order in which firmware reads them, as far as one leads to the next."""
    record = boot.boot_record()
    if not has_boot_record(record):
        yield Verdict(Part.RECORD, "", "sector 0 has no boot record of zipl")
        return
    pointer = BlockPointer.parse(BootRecord.parse(record).program_table_pointer)
    right_size = pointer.size == boot.sector
    counted = f"the boot record counts in blocks of {pointer.size} bytes, the disk in sectors of {boot.sector}"
    yield Verdict(Part.BLOCK_SIZE, "", "" if right_size else f"{counted}: it can't be started")
    if right_size and not _leads_to_table(boot, pointer):
        text = f"the boot record leads to block {pointer.blockno}, where there is no program table ({STALE})"
        yield Verdict(Part.RECORD, "", text)
        return
    try:
        installed = read_installed(record, boot.fs)
    except CorruptError as error:
        yield Verdict(Part.BOOTMAP, BOOTMAP_PATH, f"{error} ({STALE})")
        return
    if right_size:
        astray = installed.parts.grid.start != boot.start // boot.sector
        text = f"the boot record leads to block {pointer.blockno}, which is not in the bootmap ({STALE})"
        yield Verdict(Part.RECORD, "", text if astray else "")
        if astray:
            return
    if boot.protected:
        yield _file(boot.fs, installed, Role.KERNEL, PROTECTED_IMAGE)
        return
    yield from _files(boot.fs, installed)
    yield Verdict(Part.PARMLINE, BOOTMAP_PATH, _parmline(boot.fs, installed))


def _leads_to_table(boot: BootDisk, pointer: BlockPointer) -> bool:
    at = pointer.blockno * boot.sector
    return at + boot.sector <= boot.disk.size and bytes(boot.disk.read(at, len(MAGIC))) == MAGIC


def _files(fs: Ext4, installed: Installed) -> Iterator[Verdict]:
    paths = entry_paths(fs)
    entry = (read_text(fs, paths[0]) or "") if paths else ""
    for role, key in _FILES:
        path = bls.file_of(entry, key)
        if path is not None and fs.lookup(path) is not None:  # else that is the entry's own problem
            yield _file(fs, installed, role, path)


def _file(fs: Ext4, installed: Installed, role: Role, path: str) -> Verdict:
    found, inode = installed.parts.find(role), fs.lookup(path)
    if inode is None or not isinstance(found, Referred):
        text = f"the bootmap has no {role.value} ({STALE})"
    elif list(found.spans) != component_spans(fs, inode, installed.parts):
        text = f"the {role.value} lies elsewhere than the bootmap says ({STALE})"
    else:
        text = ""
    return Verdict(Part.BOOTMAP, path, text)


def _parmline(fs: Ext4, installed: Installed) -> str:
    found, wanted = installed.parts.parmline, command_line(fs)
    if found is None:
        return "the bootmap has no command line"
    if wanted is None or found == wanted:
        return ""
    changed = bls.changed_words(wanted, found)
    if changed == [f"-{FIRST_BOOT}"]:
        return f"{FIRST_BOOT} is missing: Ignition would not run"
    told = " ".join(changed) or "the same words in another order"
    return f"the command line is not that of the boot loader entry: {told} ({STALE})"
