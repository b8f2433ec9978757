"""The file systems: their own checksums and invariants, journals, labels."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.checks.finding import Check, Finding, error, judged, ok
from rehydrator.checks.image import BOOT, ROOT, Image
from rehydrator.disk.gpt import Region
from rehydrator.errors import RehydratorError
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import NEEDS_RECOVERY, Filesystem
from rehydrator.fs.xfs.owner import XfsFilesystem

_MAX_PROBLEMS = 20
_WITH_JOURNAL = (Ext4Filesystem, XfsFilesystem)


def check_filesystems(image: Image) -> Iterator[Finding]:
    """Check every file system that there is, and that boot and root have one."""
    for region in image.owners.partitions:
        found = image.owners.probe(region)
        if found is None:
            if image.partition(BOOT) == region or image.partition(ROOT) == region:
                yield error(Check.FILESYSTEM, region.name, "holds no file system that is known", region.extent.offset)
        elif found.filesystem is None:
            yield error(Check.FILESYSTEM, region.name, f"{found.type}: {found.problem}", region.extent.offset)
        else:
            yield from _check(region, found.filesystem)


def _check(region: Region, filesystem: Filesystem) -> Iterator[Finding]:
    base = region.extent.offset
    problems = 0
    pending: int | None = None
    try:
        for item in filesystem.health():
            if item.problem == NEEDS_RECOVERY:
                pending = base + item.offset
                continue
            problems += 1
            if problems <= _MAX_PROBLEMS:
                yield error(Check.FILESYSTEM, f"{region.name}: {item.name}", item.problem, base + item.offset)
    except RehydratorError as failure:
        problems += 1
        yield error(Check.FILESYSTEM, region.name, f"could not be checked: {failure}", base)
    if problems > _MAX_PROBLEMS:
        yield error(Check.FILESYSTEM, region.name, f"and {problems - _MAX_PROBLEMS} more problems")
    if not problems:
        yield ok(Check.FILESYSTEM, region.name, f"{filesystem.type}, all checksums right")
    if isinstance(filesystem, _WITH_JOURNAL):
        dirty = "" if pending is None else "was not unmounted: boot loaders do not replay it"
        yield judged(Check.JOURNAL, region.name, dirty, "clean", pending)


def check_labels(image: Image) -> Iterator[Finding]:
    """Compare the labels of boot and root, by which the initramfs finds them."""
    for name in (BOOT, ROOT):
        region = image.partition(name)
        filesystem = image.owners.filesystem(region) if region else None
        if region is None or filesystem is None:
            continue
        label = _label(filesystem)
        problem = "" if label == name else f"has the label {label!r}, should have {name!r}"
        yield judged(Check.LABEL, region.name, problem, label)


def _label(filesystem: Filesystem) -> str:
    raw = b""
    match filesystem:
        case Ext4Filesystem():
            raw = filesystem.fs.superblock.s_volume_name
        case XfsFilesystem():
            raw = filesystem.reader.superblock.sb_fname
    return raw.rstrip(b"\0").decode("latin-1")
