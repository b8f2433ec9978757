"""The partition table: both copies, the partitions that CoreOS needs, and the architecture that they tell."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.checks.finding import Check, Finding, error, ok, warning
from rehydrator.checks.image import BOOT, ROOT, Image
from rehydrator.explain import causes
from rehydrator.explain import gpt as tables
from rehydrator.report import human


def check_container(image: Image) -> Iterator[Finding]:
    """Tell what was taken off, and what could not be."""
    if image.opened.obstacle is not None:
        yield error(Check.CONTAINER, "", image.opened.obstacle.text)
    elif image.opened.peeled:
        yield ok(Check.CONTAINER, "", " > ".join([*image.opened.peeled, "raw disk"]))


def check_table(image: Image) -> Iterator[Finding]:
    """Check both partition tables. A cloud's disk is grown after it was made: its backup table stays where it was."""
    owners = image.owners
    found = list(tables.health(owners.disk, owners.gpt))
    primary = [item for item in found if item.name in (causes.MBR_TABLE, causes.GPT_HEADER)]
    for item in primary:
        yield error(Check.PARTITION_TABLE, item.name, item.problem, item.offset)
    if owners.table_problem and not primary:
        yield error(Check.PARTITION_TABLE, "", owners.table_problem)
    if owners.gpt.primary is None:
        return
    if not primary and not owners.table_problem:
        count = sum(region.partition for region in owners.table.regions)
        yield ok(Check.PARTITION_TABLE, "", f"{count} partitions, sectors of {image.sector} bytes")
    backup = [item for item in found if item.name == causes.BACKUP_GPT_HEADER]
    for item in backup:
        yield error(Check.BACKUP_PARTITION_TABLE, item.name, item.problem, item.offset)
    if not backup and owners.gpt.backup is not None:
        end = owners.gpt.backup + owners.gpt.sector
        grown = "" if end == owners.disk.size else f": the disk was grown from there to {human(owners.disk.size)}"
        yield ok(Check.BACKUP_PARTITION_TABLE, "", f"ends at {human(end)}{grown}")


def check_partitions(image: Image) -> Iterator[Finding]:
    """Look for the partitions that are there on every architecture, and tell which one it is."""
    if not image.usable:
        yield error(Check.PARTITIONS, "", "can't be found; nothing else is checked")
        return
    missing = [name for name in (BOOT, ROOT) if image.partition(name) is None]
    for name in missing:
        yield error(Check.PARTITIONS, "", f"there is no partition named {name}")
    if not missing:
        names = ", ".join(region.name for region in image.owners.partitions)
        yield ok(Check.PARTITIONS, "", names)
    architecture, named = image.architecture, image.named.arch
    if architecture is None:
        yield warning(Check.ARCHITECTURE, "", "is not known: kernel and boot loader are not checked")
    elif named and named != architecture.name:
        yield error(Check.ARCHITECTURE, "", f"the disk is made for {architecture.name}, the file is named {named}")
    else:
        yield ok(Check.ARCHITECTURE, "", architecture.name)
