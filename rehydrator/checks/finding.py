"""What a check says: a finding with a name of a closed list.

docs/check.md describes every name; a test keeps the two together.
"""

from __future__ import annotations

import enum

import msgspec


class Check(enum.StrEnum):
    """What is checked, in the order in which it is told."""

    CONTAINER = "container"
    PARTITION_TABLE = "partition-table"
    BACKUP_PARTITION_TABLE = "backup-partition-table"
    PARTITIONS = "partitions"
    ARCHITECTURE = "architecture"
    FILESYSTEM = "filesystem"
    JOURNAL = "journal"
    LABEL = "label"
    BOOT_CATALOG = "boot-catalog"
    BOOT_CONFIG = "boot-config"
    BOOT_ENTRY = "boot-entry"
    KERNEL = "kernel"
    INITRD = "initrd"
    ROOTFS = "rootfs"
    PLATFORM_ID = "platform-id"
    FIRST_BOOT = "first-boot"
    CONSOLE = "console"
    EFI_LOADER = "efi-loader"
    BIOS_LOADER = "bios-loader"
    PREP_LOADER = "prep-loader"
    BOOT_RECORD = "boot-record"
    BOOT_BLOCK_SIZE = "boot-block-size"
    BOOTMAP = "bootmap"
    PARMLINE = "parmline"


class Level(enum.StrEnum):
    """How bad it is. Only an error makes an image unhealthy."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One result. ``place`` is a partition or file, "" for the whole disk; ``offset`` is in bytes of the disk."""

    check: Check
    level: Level
    place: str
    text: str
    offset: int | None = None


def ok(check: Check, place: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.OK, place, text)


def warning(check: Check, place: str, text: str, offset: int | None = None) -> Finding:
    """Return a finding that is odd, but does not keep the image from booting."""
    return Finding(check, Level.WARNING, place, text, offset)


def error(check: Check, place: str, text: str, offset: int | None = None) -> Finding:
    """Return a finding that makes the image unhealthy."""
    return Finding(check, Level.ERROR, place, text, offset)


def judged(check: Check, place: str, problem: str, fine: str, offset: int | None = None) -> Finding:
    """Return an error that says ``problem``, or that all is well where that is empty."""
    return error(check, place, problem, offset) if problem else ok(check, place, fine)
