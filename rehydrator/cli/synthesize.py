"""``rehydrator synthesize``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rehydrator import synthesize as flow
from rehydrator.cli.common import arch_option, dest_argument, opened_store, output_option, store_option
from rehydrator.cli.engine import appliance_option, engine_option
from rehydrator.cli.output import check_standard_output, show
from rehydrator.engines.choice import EngineName, writing
from rehydrator.errors import UsageError
from rehydrator.oci.reference import Location
from rehydrator.rehydrate import source_date_epoch
from rehydrator.results import SynthesisResult
from rehydrator.selection import architectures
from rehydrator.synthesis.usual import FORMATS
from rehydrator.synthesis.wish import Wish, parse_size


@click.command(short_help="Make an image that the release does not have.")
@click.argument("platform")
@dest_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    help="Container. Default: that of the release's file for PLATFORM, or CoreOS's usual one.",
)
@click.option("--kargs", multiple=True, metavar="ARGUMENT", help="A further kernel argument; may be repeated.")
@click.option("--console", multiple=True, metavar="COMMAND", help="GRUB commands in place of the platform's; repeat.")
@click.option("--size", metavar="SIZE", help="Size of the disk, such as 10G. Default: that of the canonical disk.")
@engine_option
@appliance_option
@arch_option
@output_option()
@store_option
def synthesize(
    platform: str,
    dest: str,
    format_name: str | None,
    kargs: tuple[str, ...],
    console: tuple[str, ...],
    size: str | None,
    engine: EngineName,
    appliance: Path | None,
    arch: str | None,
    form: str,
    location: Location,
) -> None:
    """Make an image that the release does not have: for PLATFORM, or with other arguments.

    DEST is a directory, or '-' for standard output. The image is made of the canonical disk as a build would make it,
    but in place: only the boot loader's texts change. What lies around the disk is as in the release's files of the
    same format. The same wish gives the same bytes; the changed files get the time $SOURCE_DATE_EPOCH, where that is
    set. With --engine guestfs a kernel writes the files, at its own time.
    """
    wish = Wish(
        platform=platform,
        arguments=kargs,
        console=console or None,
        size=parse_size(size) if size else 0,
        epoch=source_date_epoch(),
    )
    if dest == "-":
        check_standard_output(form)
    with opened_store(location) as store:
        [chosen] = _one(architectures(store, arch))
        size_of_disk = max(wish.size, store.canonical(chosen).size)
        with writing(engine, size_of_disk, _say, appliance) as make:
            made = flow.synthesis(store, chosen, wish, format_name, make)
            edits = [edit.describe() for edit in made.edits]
            for edit in edits:
                _say(edit)
            if dest == "-":
                flow.to_stream(made, sys.stdout.buffer)
            else:
                file = flow.to_directory(made, Path(dest))
                show(SynthesisResult(file=file, edits=edits), form, [f"{file.content_sha256}  {file.path}"])


def _say(text: str) -> None:
    click.echo(text, err=True)


def _one(arches: list[str]) -> list[str]:
    if len(arches) != 1:
        raise UsageError("an image is made for one architecture", hint="Name it with --arch")
    return arches
