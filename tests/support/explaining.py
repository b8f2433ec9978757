"""Comparing disks in this process, and counting by other means."""

from __future__ import annotations

from pathlib import Path

from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import FileSource, Source
from rehydrator.explain.causes import UNEXPLAINED, Cause
from rehydrator.explain.explain import Options, explain
from rehydrator.explain.peel import Opened, opened
from rehydrator.explain.tree import Change, Report

CLOSED = {cause.value for cause in Cause}


def compare_files(a: Path, b: Path, options: Options | None = None) -> Report:
    """Explain two files."""
    with opened(a) as one, opened(b) as two:
        return explain(one, two, options or Options())


def compare_disks(a: Source, b: Source, options: Options | None = None) -> Report:
    """Explain two disks."""
    return explain(Opened("a.raw", a), Opened("b.raw", b), options or Options())


def patched(path: Path, patches: dict[int, bytes]) -> Overlay:
    """Lay changes over a disk image."""
    disk = Overlay(FileSource(path))
    for offset, data in patches.items():
        disk.write(offset, data)
    return disk


def check_account(report: Report, differing: int | None = None) -> None:
    """Every number of the report adds up, and the vocabulary is closed."""
    total = report.total
    if differing is not None:
        assert total.differing == differing
    changes = [change for part in report.parts for change in part.changes]
    assert sum(part.bytes for part in report.parts) == total.differing
    assert sum(change.bytes + change.derived_bytes for change in changes) == total.differing
    assert sum(change.derived_bytes for change in changes) == total.derived
    assert sum(item.bytes + sum(part.bytes for part in item.derived) for item in report.causes) == total.differing
    assert {change.cause for change in changes} <= CLOSED
    assert all(item.what.startswith("checksum-of:") for change in changes for item in change.derived)
    unexplained = sum(change.bytes + change.derived_bytes for change in changes if change.cause in UNEXPLAINED)
    assert total.unexplained == unexplained
    if any(change.cause == Cause.UNKNOWN for change in changes):
        assert sum(1 for item in report.evidence if item.cause == Cause.UNKNOWN)


def change(report: Report, cause: str, structure: str) -> Change:
    """Return one change of a report."""
    found = [
        item for part in report.parts for item in part.changes if (item.cause, item.structure) == (cause, structure)
    ]
    assert len(found) == 1, (
        cause,
        structure,
        [(item.cause, item.structure) for part in report.parts for item in part.changes],
    )
    return found[0]
