"""s390x: boot record and bootmap. They decide what is started; the boot loader entry is only what zipl read."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.boot.entries import FIRST_BOOT
from rehydrator.boot.zipl.installed import BOOTMAP_PATH, read_installed
from rehydrator.boot.zipl.verify import BootDisk, Part, verdicts
from rehydrator.checks.finding import Check, Finding, judged
from rehydrator.checks.image import BOOT, Image
from rehydrator.errors import CorruptError

_CHECKS = {
    Part.RECORD: (Check.BOOT_RECORD, "leads to the bootmap"),
    Part.BLOCK_SIZE: (Check.BOOT_BLOCK_SIZE, "is that of the disk's sectors"),
    Part.BOOTMAP: (Check.BOOTMAP, "lies where the bootmap says"),
    Part.PARMLINE: (Check.PARMLINE, f"is that of the boot loader entry and {FIRST_BOOT}"),
}


def check_zipl(image: Image) -> Iterator[Finding]:
    """Check what zipl wrote, in the order in which firmware reads it."""
    region = image.partition(BOOT)
    if image.architecture is None or not image.architecture.zipl or image.boot is None or region is None:
        return
    boot = image.owners.zipl_disk or BootDisk(image.owners.disk, image.boot, region.extent.offset, image.sector)
    for verdict in verdicts(boot):
        check, fine = _CHECKS[verdict.part]
        yield judged(check, verdict.place, verdict.problem, fine)
    if not boot.protected:
        yield from _first_boot(boot)


def _first_boot(boot: BootDisk) -> Iterator[Finding]:
    try:
        parmline = read_installed(boot.boot_record(), boot.fs).parts.parmline or ""
    except CorruptError:
        return
    problem = "" if FIRST_BOOT in parmline.split() else f"{FIRST_BOOT} is not given: Ignition would not run"
    yield judged(Check.FIRST_BOOT, BOOTMAP_PATH, problem, f"{FIRST_BOOT} in the bootmap")
