"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rehydrator.errors import UsageError
from rehydrator.progress import Style

F = TypeVar("F", bound=Callable[..., Any])

store_option = click.option(
    "--store",
    "store_path",
    type=click.Path(path_type=Path),
    envvar="REHYDRATOR_STORE",
    default=Path("store"),
    show_default=True,
    help="The store to read; $REHYDRATOR_STORE sets the default.",
)

arch_option = click.option(
    "--arch", metavar="ARCH", help="Architecture (RPM name such as x86_64), or 'all'. Default: this machine's."
)

progress_option = click.option(
    "--progress",
    "style",
    type=click.Choice([style.value for style in Style]),
    default=Style.AUTO.value,
    show_default=True,
    callback=lambda _context, _option, value: Style(value),
    help="How to show progress on standard error.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (versioned by its 'schema').")


def jobs_option(help_text: str) -> Callable[[F], F]:
    """Return the ``--jobs`` option with a command's own help text."""
    return click.option("--jobs", "-j", type=click.IntRange(1, 256), help=help_text)


def check_standard_output() -> None:
    """Refuse a standard output that can't take an image. Raises UsageError."""
    if sys.stdout is None:  # closed before the program began
        raise UsageError("standard output is closed")
    if sys.stdout.isatty():
        raise UsageError(
            "refusing to write an image to a terminal", hint="Redirect standard output, or name a directory"
        )
