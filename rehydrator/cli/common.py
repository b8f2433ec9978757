"""Groups and options that several commands share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from rehydrator.errors import UsageError
from rehydrator.progress import Style

F = TypeVar("F", bound=Callable[..., Any])


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for.

    ``lazy`` tells, per command, its module in this package and its name there: importing one takes longer than much of
    the work that is asked for.
    """

    lazy: Mapping[str, tuple[str, str]] = MappingProxyType({})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, name = self.lazy[cmd_name]
            self.add_command(getattr(importlib.import_module(f"{__package__}.{module}"), name), cmd_name)
        return super().get_command(ctx, cmd_name)


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
