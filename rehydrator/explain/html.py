"""The report as one HTML file without scripts and without outside resources. Everything from images is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from rehydrator.explain.html_style import STYLE
from rehydrator.explain.tree import Change, Evidence, FileChange, Part, Report, Side
from rehydrator.explain.words import (
    account_line,
    change_amount,
    copied_line,
    number,
    part_title,
    plural,
    printable,
    side_words,
    size_of,
)
from rehydrator.report import human

_MAX_NAMES = 12
_OPEN_FILES = 30
_STATUS = {"A": "added", "D": "deleted", "M": "modified"}


def render(report: Report) -> str:
    """Return the whole document."""
    title = f"{report.a.name} and {report.b.name}: why they differ"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_e(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
            f"<h1>{_e(report.verdict)}</h1>",
            *_digests(report),
            *_sides(report),
            *_account(report),
            *(line for part in report.parts for line in _part(part)),
            *_evidence(report),
            *_health(report),
            f"<footer>{_e(account_line(report))}</footer>",
            "</main>\n</body>\n</html>",
        ]
    )


def _e(text: str) -> str:
    return escape(printable(text), quote=True)


def _items(texts: Iterable[str], kind: str = "plain") -> str:
    return f'<ul class="{kind}">' + "".join(f"<li>{_e(text)}</li>" for text in texts) + "</ul>"


def _digests(report: Report) -> Iterator[str]:
    if report.digests:
        lines = "".join(f"<span>{_e(text)}</span>" for text in report.digests)
        yield f'<section aria-label="Digests"><pre tabindex="0">{lines}</pre></section>'


def _sides(report: Report) -> Iterator[str]:
    yield '<section aria-label="Images"><div class="sides">'
    yield from (_side(letter, side) for letter, side in (("A", report.a), ("B", report.b)))
    yield "</div>"
    yield f'<p class="quiet">{_e("; ".join(report.disk))}</p>'
    if report.normalised:
        yield _items(f"not counted as a difference: {text}" for text in report.normalised)
    if report.container:
        yield "<table><tr><th>Container</th><th>Field</th><th>A</th><th>B</th></tr>"
        for item in report.container:
            cells = "".join(f"<td>{_e(text)}</td>" for text in (item.layer, item.field, item.a, item.b))
            yield f"<tr>{cells}</tr>"
        yield "</table>"
    yield "</section>"


def _side(letter: str, side: Side) -> str:
    return (
        f'<div class="side"><strong>{letter}: {_e(side.name)}</strong><br>'
        f'<span class="mono">{_e(side.file)}</span><br>'
        f'<span class="quiet">{_e(side_words(side))}, {_e(human(side.size))}</span></div>'
    )


def _account(report: Report) -> Iterator[str]:
    total = report.total
    state = "bad" if total.unexplained else "ok"
    yield f'<section aria-label="Account"><div class="account {state}"><b>{_e(account_line(report))}</b>'
    yield f'<span class="quiet">{number(total.derived)} of them derived (checksums)</span></div>'
    amounts = [(item.cause, item.bytes + sum(part.bytes for part in item.derived)) for item in report.causes]
    if amounts:
        yield '<div class="bar" aria-hidden="true">'
        yield "".join(f'<span class="c-{_e(cause)}" style="flex:{amount}"></span>' for cause, amount in amounts)
        yield '</div><ul class="legend">'
        for cause, amount in amounts:
            yield f'<li><span class="dot c-{_e(cause)}"></span>{_e(cause)} <b>{number(amount)} B</b></li>'
        yield "</ul>"
    yield "</section>"


def _part(part: Part) -> Iterator[str]:
    yield '<details class="part" open>'
    amount = f"{plural(part.blocks, 'block')}, {number(part.bytes)} B"
    where = f"{part.offset:#x}, {human(part.size)}"
    yield (
        f'<summary><h2>{_e(part_title(part))}</h2> <span class="quiet mono">{where}</span>'
        f'<span class="amount">{amount}</span></summary>'
    )
    yield from (f"<p>{_e(text)}</p>" for text in (copied_line(part), part.note) if text)
    for item in part.files[:_OPEN_FILES]:
        yield from _file(item)
    if len(part.files) > _OPEN_FILES:
        rest = part.files[_OPEN_FILES:]
        yield f"<details><summary>{number(len(rest))} more files</summary>"
        yield from (line for item in rest for line in _file(item))
        yield "</details>"
    if part.moved_files and part.copied is None:
        yield f"<p>{plural(part.moved_files, 'file')} with the same content in other places</p>"
    yield '<div class="scroll"><table><tr><th>Cause</th><th>Structures</th><th class="num">Bytes</th></tr>'
    yield from (line for change in part.changes for line in _change(change))
    yield "</table></div></details>"


def _file(item: FileChange) -> Iterator[str]:
    amount = size_of(item) if item.bytes is None else f"{size_of(item)}, {number(item.bytes)} B differ"
    yield (
        f'<div class="file"><span class="badge {item.status}" title="{_STATUS[item.status]}">{item.status}</span>'
        f'<code>{_e(item.path)}</code><span class="amount">{_e(amount)}</span>'
    )
    if item.meaning:
        yield '<ul class="words mono">'
        yield from (f'<li class="{_sign(text)}">{_e(text)}</li>' for text in item.meaning)
        yield "</ul>"
    if item.diff:
        lines = "".join(f'<span class="{_sign(line)}">{_e(line) or " "}</span>' for line in item.diff)
        yield f'<details open><summary class="quiet">Text difference</summary><pre tabindex="0">{lines}</pre></details>'
    yield from (line for part in item.inside for line in _part(part))
    yield "</div>"


def _sign(text: str) -> str:
    return {"+": "plus", "-": "minus"}.get(text[:1], "")


def _change(change: Change) -> Iterator[str]:
    cause = f'<span class="dot c-{_e(change.cause)}"></span>{_e(change.cause)}'
    yield f"<tr><td>{cause}</td><td>{_e(plural(change.count, change.structure))}"
    if change.fields:
        yield f'<br><span class="mono">{_e(" ".join(change.fields))}</span>'
    if change.names != [change.structure]:
        names = change.names[:_MAX_NAMES]
        more = change.count - len(names)
        yield '<details><summary class="quiet">Which</summary>' + _items(names)
        yield (f"<p>and {number(more)} more</p>" if more > 0 else "") + "</details>"
    derived = "".join(f"<br>{number(item.bytes)} B {_e(item.what)}" for item in change.derived)
    yield f'</td><td class="num">{_e(change_amount(change))}<span class="quiet">{derived}</span></td></tr>'


def _evidence(report: Report) -> Iterator[str]:
    if not report.evidence:
        return
    yield '<details class="part"><summary><h2>Differing runs</h2>'
    yield f'<span class="amount">{plural(len(report.evidence) + report.evidence_left_out, "run")}</span></summary>'
    if report.preparation:
        lines = "".join(f"<span>{_e(line)}</span>" for line in report.preparation)
        yield f'<p class="quiet">The commands take raw disks, made by</p><pre tabindex="0">{lines}</pre>'
    yield '<div class="scroll"><table><tr><th>Offset</th><th>Owner</th><th>Cause</th></tr>'
    yield from (_run(item) for item in report.evidence)
    yield "</table></div>"
    if report.evidence_left_out:
        yield f"<p>and {number(report.evidence_left_out)} more runs</p>"
    yield "</details>"


def _run(item: Evidence) -> str:
    more = " …" if len(item.a) // 2 < item.length else ""
    return (
        f'<tr><td class="mono">{item.offset:#x}<br>+{item.length:#x}</td><td>{_e(item.owner)}<br>'
        f'<span class="mono">A {_spaced(item.a)}{more}<br>B {_spaced(item.b)}{more}<br>{_e(item.command)}</span></td>'
        f"<td>{_e(item.cause)}</td></tr>"
    )


def _spaced(data: str) -> str:
    return bytes.fromhex(data).hex(" ")


def _health(report: Report) -> Iterator[str]:
    if report.health:
        yield '<section class="problem"><h2>Health</h2>'
        yield _items(
            f"{note.image}: {note.structure}{'' if note.offset is None else f' at {note.offset:#x}'}: {note.text}"
            for note in report.health
        )
        yield "</section>"
    elif report.checked:
        yield "<section><h2>Health</h2>"
        yield f'<p class="quiet">Nothing wrong in {_e(", ".join(report.checked))}.</p></section>'
