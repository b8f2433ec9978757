"""The report as text of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby

import msgspec

from rehydrator.explain.tree import Change, Evidence, FileChange, Part, Report
from rehydrator.explain.words import (
    account_line,
    copied_line,
    elided,
    number,
    part_title,
    plural,
    printable,
    side_words,
    size_of,
    stat_rows,
)
from rehydrator.report import human

WIDTH = 80
_MIN_WIDTH = 48  # of what is told of a file in a file in a file
_MAX_NAMES = 3
_MAX_FILES = 50
_MAX_RUNS = 20
_BAR = 20
_HEX_BYTES = 16
_FILE_CONTENT = "file-content"


class TextOptions(msgspec.Struct, frozen=True):
    """Which steps of the ladder to show below the summary."""

    stat: bool = False
    hex: bool = False
    extents: bool = False


def render(report: Report, options: TextOptions) -> Iterator[str]:
    """Yield the lines of a report."""
    yield from _wrapped(printable(report.verdict))
    for text in report.digests:
        yield printable(text)
    yield ""
    if options.stat:
        yield from _stat(report)
    else:
        yield from _head(report)
        for part in report.parts:
            yield ""
            yield from _part(part)
    if report.evidence:
        yield ""
        yield from _evidence(report, options)
    yield from _health(report)
    yield ""
    yield account_line(report)


def _wrapped(text: str, first: str = "", rest: str = "", width: int = WIDTH) -> Iterator[str]:
    yield from textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _columns(left: str, right: str, width: int = WIDTH) -> Iterator[str]:
    """Put an amount at the right margin; below, where there is no room."""
    if len(left) + 2 + len(right) <= width:
        yield left + right.rjust(width - len(left))
    else:
        yield from _wrapped(left.lstrip(), left[: len(left) - len(left.lstrip())], "      ", width)
        yield right.rjust(width)


def _head(report: Report) -> Iterator[str]:
    for letter, side in (("A", report.a), ("B", report.b)):
        yield f"{letter}  {elided(printable(side.file), WIDTH - 3)}"
        yield from _wrapped(printable(f"{side_words(side)}, {human(side.size)}"), "   ", "   ")
    yield from _wrapped(printable("; ".join(report.disk)), "   ", "   ")
    for text in report.normalised:
        yield from _wrapped(printable(f"not counted: {text}"), "   ", "     ")
    for change in report.container:
        text = f"container {change.layer} {change.field}: {change.a} -> {change.b}"
        yield from _wrapped(printable(text), "   ", "     ")


def _part(part: Part, width: int = WIDTH) -> Iterator[str]:
    blocks = plural(part.blocks, "block")
    yield from _columns(printable(part_title(part)), f"{blocks}  {number(part.bytes)} B", width)
    for text in filter(None, (copied_line(part), part.note)):
        yield from _wrapped(printable(text), "  ", "    ", width)
    for item in part.files[:_MAX_FILES]:
        yield from _file(item, width)
    if len(part.files) > _MAX_FILES:
        yield f"  ... and {number(len(part.files) - _MAX_FILES)} more files (all of them in --output json)"
    if part.moved_files and part.copied is None:
        yield f"  {plural(part.moved_files, 'file')} with the same content in other places"
    for cause, group in groupby(part.changes, key=lambda change: change.cause):
        yield from _cause(cause, list(group), width, files=bool(part.files))


def _file(item: FileChange, width: int) -> Iterator[str]:
    right = size_of(item) if item.bytes is None else f"{size_of(item)}  {number(item.bytes)} B"
    yield from _columns(f"  {item.status} {elided(printable(item.path), width - len(right) - 6)}", right, width)
    if item.meaning:
        for line in item.meaning:
            yield from _wrapped(printable(line), "      ", "        ", width)
    yield from (f"    | {printable(line)}" for line in item.diff)
    for part in item.inside:
        yield from (f"    {line}" for line in _part(part, max(width - 4, _MIN_WIDTH)))


def _cause(cause: str, changes: list[Change], width: int, *, files: bool) -> Iterator[str]:
    if cause == _FILE_CONTENT and files:
        return  # told file by file
    direct, derived = sum(item.bytes for item in changes), sum(item.derived_bytes for item in changes)
    amount = f"{number(direct)} + {number(derived)} B" if derived else f"{number(direct)} B"
    yield from _columns(f"  {cause}", amount, width)
    for change in changes:
        yield from _change(change, width)


def _change(change: Change, width: int) -> Iterator[str]:
    text = plural(change.count, change.structure)
    if change.fields:
        text += f": {' '.join(_short_fields(change.fields))}"
    yield from _wrapped(printable(text), "    ", "      ", width)
    if change.names != [change.structure]:
        for name in change.names[:_MAX_NAMES]:
            yield f"      {elided(printable(name), width - 6)}"
        if change.count > _MAX_NAMES:
            yield f"      and {number(change.count - _MAX_NAMES)} more"
    for item in change.derived:
        yield f"      + {number(item.bytes)} B {item.what}"


def _short_fields(fields: list[str]) -> list[str]:
    limit = 24
    return fields if len(fields) <= limit else [*fields[:limit], f"... ({number(len(fields) - limit)} more)"]


def _stat(report: Report) -> Iterator[str]:
    rows = list(stat_rows(report))
    most = max((direct + derived for _, _, direct, derived in rows), default=1)
    names = max((len(printable(row[0])) for row in rows), default=0)
    last = ""
    for name, cause, direct, derived in rows:
        amount = direct + derived
        bar = "#" * max(round(_BAR * amount / most), 1)
        shown = printable(name) if name != last else ""
        yield f"{shown:{names}}  {cause:18} {number(amount):>13} B  {bar}"
        last = name
    if rows:
        yield f"{'total':{names}}  {'':18} {number(report.total.differing):>13} B"
        yield f"{'':{names}}  {'of these derived':18} {number(report.total.derived):>13} B"


def _evidence(report: Report, options: TextOptions) -> Iterator[str]:
    unexplained = report.total.unexplained
    if options.hex or options.extents:
        yield "differing runs (offsets on the raw disk)"
    elif unexplained:
        yield "unexplained bytes (offsets on the raw disk)"
    if options.extents:
        yield from (f"  # {printable(line)}" for line in report.preparation)
    shown = report.evidence if options.hex or options.extents else report.evidence[:_MAX_RUNS]
    for item in shown:
        yield from _run(item, options)
    if left_out := len(report.evidence) - len(shown) + report.evidence_left_out:
        yield f"  ... and {number(left_out)} more runs"


def _run(item: Evidence, options: TextOptions) -> Iterator[str]:
    text = f"{item.offset:#014x} +{item.length:#x}  {item.cause}  {item.owner}"
    yield from _wrapped(printable(text), "  ", "      ")
    if options.extents:
        yield f"      {printable(item.command)}"
    if options.hex:
        yield from _hex("A", item.a)
        yield from _hex("B", item.b)
        if len(item.a) // 2 < item.length:
            yield f"      ... {number(item.length - len(item.a) // 2)} more bytes"


def _hex(letter: str, data: str) -> Iterator[str]:
    raw = bytes.fromhex(data)
    for at in range(0, len(raw), _HEX_BYTES):
        row = raw[at : at + _HEX_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"      {letter} {row.hex(' '):{3 * _HEX_BYTES}} {text}"


def _health(report: Report) -> Iterator[str]:
    if report.health:
        yield ""
        yield "health"
        for note in report.health:
            place = "" if note.offset is None else f" at {note.offset:#x}"
            yield from _wrapped(printable(f"{note.image}: {note.structure}{place}: {note.text}"), "  ", "    ")
    elif report.checked:
        yield ""
        yield from _wrapped(printable(f"health: nothing wrong in {', '.join(report.checked)}"), "", "  ")
