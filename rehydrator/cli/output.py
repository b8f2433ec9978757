"""Standard output: what commands print there, and whether it can take an image."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TextIO

import click
import msgspec

from rehydrator.disk.sink import output_error
from rehydrator.errors import UsageError

TEXT = "text"
JSON = "json"


def show(document: msgspec.Struct, form: str, lines: Iterable[str]) -> None:
    """Print a document as JSON, or the lines that tell it."""
    for line in [_json(document)] if form == JSON else lines:
        tell(line)


def tell(text: str) -> None:
    """Print on standard output. Raises OutputError where that can't be written, UsageError where it was closed."""
    standard_output()
    try:
        click.echo(text)  # which also knows what to do with a terminal that takes ASCII only
    except OSError as error:
        raise output_error(error, "standard output") from error


def _json(document: msgspec.Struct) -> str:
    """Return the JSON of a document.

    A file's name may have bytes that are no UTF-8. Python has a surrogate in place of each; here it is an escape
    sequence of JSON, which most readers turn into the same.
    """
    text = json.dumps(msgspec.to_builtins(document), ensure_ascii=False, indent=2)
    return text.encode("utf-8", "backslashreplace").decode()


def standard_output() -> TextIO:
    """Return standard output. Raises UsageError where it was closed before the program began."""
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    return sys.stdout


def check_standard_output(form: str = TEXT) -> None:
    """Refuse a standard output that can't take an image, or takes a JSON document. Raises UsageError."""
    if form == JSON:
        raise UsageError("standard output can't take files and JSON", hint="Name a directory or an archive")
    if standard_output().isatty():
        raise UsageError(
            "refusing to write an image to a terminal", hint="Redirect standard output, or name a directory"
        )
