"""The command line of ``scripts/make-manual``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from rehydrator import __version__
from rehydrator.cli import cli
from rehydrator.disk.sink import FileSink
from rehydrator.errors import RehydratorError
from rehydrator.rehydrate import source_date_epoch

from .page import Page, page_name


def pages(date: str) -> Iterator[Page]:
    """Yield the page of each command and group."""
    yield from _below(cli, click.Context(cli, info_name="rehydrator", **cli.context_settings), (), date)


def _below(command: click.Command, context: click.Context, others: tuple[str, ...], date: str) -> Iterator[Page]:
    yield Page(command, context, others, __version__, date)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            below = click.Context(child, parent=context, info_name=name)
            yield from _below(child, below, (*others, page_name(context)), date)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all pages; return the exit code."""
    parser = argparse.ArgumentParser(prog="make-manual", description="Make the man pages of all commands.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="where they go, for example man/man1")
    directory = parser.parse_args(arguments).directory
    try:
        epoch = source_date_epoch()
        date = "" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")
        directory.mkdir(parents=True, exist_ok=True)
        for page in pages(date):
            with FileSink(directory / page.file, sparse=False) as file:
                file.write(page.render().encode())
                file.commit()
    except (RehydratorError, OSError) as error:
        print(f"make-manual: {error}", file=sys.stderr)
        return 2
    return 0
