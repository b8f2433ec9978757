"""``rehydrator build``: making stores."""

from __future__ import annotations

import os
from pathlib import Path

import click

from rehydrator import dehydrate as flow
from rehydrator.cli.common import jobs_option, progress_option
from rehydrator.progress import Style, make_progress
from rehydrator.release.inputs import read_inputs
from rehydrator.report import dehydration_table
from rehydrator.store.reader import Store


@click.group()
def build() -> None:
    """Make stores from releases."""


@build.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUILDDIR|STREAM.JSON…")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--arch", metavar="ARCH", help="Take this architecture only. Default: all that the inputs have.")
@jobs_option("How many files to work on at once. Default: number of processors.")
@click.option("--level", type=click.IntRange(1, 22), default=19, show_default=True, help="zstd level of the canonical.")
@click.option("--allow-unhandled", is_flag=True, help="Store artifacts of an unknown kind whole instead of failing.")
@click.option(
    "--compressed/--no-compressed",
    default=True,
    show_default=True,
    help="Find out how files were compressed, so that they can be given back as shipped; takes as long as compressing "
    "them once.",
)
@progress_option
def dehydrate(
    inputs: tuple[Path, ...],
    store: Path,
    arch: str | None,
    jobs: int | None,
    level: int,
    allow_unhandled: bool,
    compressed: bool,
    style: Style,
) -> None:
    """Turn releases into a store.

    An input is a coreos-assembler build directory (its newest build is taken) or a stream metadata file with the
    downloaded files beside it. Every file's sha256 is checked; every artifact is rehydrated from the new store and
    compared before the store gets its name.
    """
    settings = flow.Settings(jobs or os.cpu_count() or 1, level, allow_unhandled, compressed)
    report = flow.dehydrate(read_inputs(inputs, arch), store, settings, make_progress(style))
    with Store(store) as published:
        for line in dehydration_table(published):
            click.echo(line)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
