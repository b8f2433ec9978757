"""A report as text, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .report import SCHEMA, Report, Table


def _cells(table: Table) -> list[list[str]]:
    return [[column.show(row.get(column.key)) for column in table.columns] for row in table.rows]


def text_table(table: Table) -> Iterator[str]:
    """Yield the lines of a table, headings first."""
    rows = [[column.heading for column in table.columns], *_cells(table)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
    for row in rows:
        cells = [
            cell.ljust(width) if column.kind == "text" else cell.rjust(width)
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _markdown_table(table: Table) -> Iterator[str]:
    yield "| " + " | ".join(column.heading for column in table.columns) + " |"
    yield "|" + "|".join("---" if column.kind == "text" else "---:" for column in table.columns) + "|"
    for row in _cells(table):
        yield "| " + " | ".join(row) + " |"


def text(report: Report) -> str:
    """Return the report for a terminal."""
    lines = [f"{name}: {value}" for name, value in report.facts.items()]
    for table in report.all_tables():
        lines += ["", table.title, *text_table(table), *(f"  {note}" for note in table.notes)]
    lines += ["", *(f"note: {note}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def markdown(report: Report) -> str:
    """Return the report as a Markdown fragment."""
    lines = [f"- {name}: {value}" for name, value in report.facts.items()]
    for table in report.all_tables():
        lines += ["", f"### {table.title}", "", *_markdown_table(table)]
        lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    lines += ["", "Notes:", "", *(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Return the report with raw values: bytes, seconds, bytes per second."""
    document = {
        "schema": SCHEMA,
        "facts": report.facts,
        "tables": {
            table.name: {"title": table.title, "rows": table.rows, "notes": table.notes} for table in report.tables
        },
        "targets": [
            {
                "name": target.name,
                "limit": target.limit,
                "measured": target.measured,
                "unit": target.unit,
                "met": target.met,
            }
            for target in report.targets
        ],
        "notes": report.notes,
    }
    return json.dumps(document, indent=2) + "\n"
