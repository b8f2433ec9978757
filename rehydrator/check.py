"""The flow of ``check``: one image in, findings about its boot health out.

The image is opened for reading only; compression and containers are taken off, nothing is mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rehydrator.boot.architectures import Architecture, by_name, by_root_type
from rehydrator.checks.entry import check_entries
from rehydrator.checks.filesystems import check_filesystems, check_labels
from rehydrator.checks.finding import Finding, Level
from rehydrator.checks.firmware import check_firmware
from rehydrator.checks.image import BOOT, ROOT, Image
from rehydrator.checks.live import LiveImage, check_live
from rehydrator.checks.report import CheckReport
from rehydrator.checks.table import check_container, check_partitions, check_table
from rehydrator.checks.zipl import check_zipl
from rehydrator.errors import UnsupportedError
from rehydrator.explain.peel import Opened, opened
from rehydrator.fs.iso9660.iso9660 import is_iso9660
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.fs.probe import magic_of
from rehydrator.release.naming import FileName, read_name

_Checks = tuple[Callable[[Image], Iterator[Finding]], ...]
_LIVE_FILES = ("cpio", "squashfs", "erofs")
_OF_DISK: _Checks = (check_container, check_table, check_partitions)
_OF_PARTITIONS: _Checks = (
    check_filesystems,
    check_labels,
    check_entries,
    check_firmware,
    check_zipl,
)


def check(path: Path, platform: str = "") -> CheckReport:
    """Check the image at ``path``; ``platform`` is what it should be, otherwise its name tells.

    Raises InputError for what can't be read and UnsupportedError for what is no disk that CoreOS boots from.
    """
    with opened(path) as side:
        return check_opened(side, platform)


def check_opened(side: Opened, platform: str = "") -> CheckReport:
    """Check an image that is open."""
    named = read_name(side.name)
    if is_iso9660(side.disk):
        return _live(side, named)
    image = Image(side, named, platform or named.platform)
    _expect_disk(image)
    if image.usable:
        _expect_coreos(image)
    checks = _OF_DISK + (_OF_PARTITIONS if image.usable else ())
    findings = [finding for one in checks for finding in one(image)]
    return _report(side, findings, image.architecture, image.platform)


def _expect_disk(image: Image) -> None:
    """Refuse what can't be looked into, which is no fault of the image, and what is no disk."""
    obstacle, name = image.opened.obstacle, image.opened.name
    if obstacle is not None and isinstance(obstacle.error, UnsupportedError):
        raise UnsupportedError(obstacle.text, hint="Convert it to a raw disk first, with qemu-img for example")
    known = magic_of(image.opened.disk)
    if known is not None and known.type in _LIVE_FILES:
        hint = "Check the live ISO, which holds the same file"
        raise UnsupportedError(f"is {known.type}, a part of a live system", path=name, hint=hint)


def _live(side: Opened, named: FileName) -> CheckReport:
    """Check a live ISO. Raises UnsupportedError for an ISO with something else."""
    image = LiveImage(side.disk, IsoFilesystem(side.disk), by_name(named.arch))
    if not image.live:
        raise UnsupportedError("is an ISO 9660 image without a live system", path=side.name)
    findings = list(check_live(image))
    return _report(side, findings, image.architecture, "")


def _report(side: Opened, findings: list[Finding], architecture: Architecture | None, platform: str) -> CheckReport:
    return CheckReport(
        file=side.name,
        peeled=side.peeled,
        size=side.disk.size,
        architecture=architecture.name if architecture else "",
        platform=platform,
        healthy=all(finding.level is not Level.ERROR for finding in findings),
        findings=findings,
    )


def _expect_coreos(image: Image) -> None:
    """Refuse what has nothing of a CoreOS disk: it is neither healthy nor unhealthy."""
    named = any(image.partition(name) for name in (BOOT, ROOT))
    if not named and not any(by_root_type(kind) for kind in image.types.values()):
        raise UnsupportedError("holds nothing that CoreOS boots from", path=image.opened.name)
