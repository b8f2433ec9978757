"""All findings about one image, and how they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from rehydrator.checks.finding import Check, Finding, Level
from rehydrator.explain.words import printable

SCHEMA = 1
_WIDTH = max(len(check) for check in Check)


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of ``check``. ``platform`` is the one that the image was compared with; sizes are bytes."""

    schema: int = SCHEMA
    file: str
    peeled: list[str]
    size: int
    architecture: str
    platform: str
    healthy: bool
    findings: list[Finding]


def render(report: CheckReport) -> Iterator[str]:
    """Yield the lines of the text."""
    counts = Counter(finding.level for finding in report.findings)
    for finding in report.findings:
        place = f"{finding.place}: " if finding.place else ""
        where = f" (at byte {finding.offset:#x})" if finding.offset is not None and finding.level != Level.OK else ""
        yield printable(f"{finding.level:<7}  {finding.check:<{_WIDTH}}  {place}{finding.text}{where}")
    words = [_counted(counts[Level.ERROR], "error"), _counted(counts[Level.WARNING], "warning")]
    verdict = "healthy" if report.healthy else "unhealthy"
    yield printable(f"{report.file}: {verdict}, {', '.join(words)}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
