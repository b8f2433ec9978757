"""Numbers and short sentences that all presenters share. Knows the tree, and nothing of formats."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.disk.gpt import WHOLE_DISK
from rehydrator.explain.tree import Change, FileChange, Part, Report, Side
from rehydrator.report import human

_PLURALS = {"y": "ies", "x": "xes", "h": "hes"}


def number(value: int) -> str:
    """A number with separators."""
    return f"{value:,}"


def plural(count: int, noun: str) -> str:
    """``3 inodes``."""
    if count == 1:
        return f"1 {noun}"
    last = noun[-1]
    if noun.endswith("data"):
        return f"{count:,} x {noun}"
    if last == "s":
        return f"{count:,} {noun}"
    return f"{count:,} {noun[:-1]}{_PLURALS[last]}" if last in _PLURALS else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """Return text with control characters shown as escapes: names come from images."""
    return "".join(char if _shown(char) else char.encode("unicode_escape").decode() for char in text)


def _shown(char: str) -> bool:
    return char.isprintable() or char == " "


def elided(text: str, width: int) -> str:
    """Shorten text to ``width`` columns; of a path the ends stay, since they say most."""
    if len(text) <= width:
        return text
    head = (width - 3) // 3
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def size_of(change: FileChange) -> str:
    """Size of a file, before and after."""
    one = "?" if change.size_a is None else human(change.size_a)
    two = "?" if change.size_b is None else human(change.size_b)
    match change.status:
        case "A":
            return two
        case "D":
            return one
    return one if change.size_a == change.size_b else f"{one} -> {two}"


def side_words(side: Side) -> str:
    """What an image is wrapped in."""
    return " > ".join([*side.peeled, "raw disk"])


def change_amount(change: Change) -> str:
    """Direct and derived bytes."""
    if not change.derived:
        return f"{number(change.bytes)} B"
    return f"{number(change.bytes)} + {number(change.derived_bytes)} B"


def part_title(part: Part) -> str:
    """Name and file system of a region; of an image without partitions the latter says more."""
    whole = part.filesystem and part.name == WHOLE_DISK
    return part.filesystem if whole else f"{part.name} {part.filesystem}".rstrip()


def copied_line(part: Part) -> str:
    """What there is to say of a partition that was formatted separately; empty for others."""
    if part.copied is None:
        return ""
    files = f"; {plural(part.moved_files, 'file')} the same" if part.moved_files else ""
    return f"made separately: {number(part.copied)} B of it are found in A, {number(part.bytes)} B are not{files}"


def account_line(report: Report) -> str:
    """The last line of a report."""
    return f"{number(report.total.explained)} of {number(report.total.differing)} differing bytes explained"


def stat_rows(report: Report) -> Iterator[tuple[str, str, int, int]]:
    """Yield region, cause, direct and derived bytes."""
    for part in report.parts:
        totals: dict[str, tuple[int, int]] = {}
        for change in part.changes:
            direct, derived = totals.get(change.cause, (0, 0))
            totals[change.cause] = (direct + change.bytes, derived + change.derived_bytes)
        for cause, (direct, derived) in totals.items():
            yield part_title(part), cause, direct, derived
