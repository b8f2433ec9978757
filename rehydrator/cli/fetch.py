"""``rehydrator build init``, ``download``, ``clean`` and ``run``: from the name of a stream to a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import click

from rehydrator import dehydrate as dehydration
from rehydrator import download as flow
from rehydrator.cli.build import dehydration_options, make_store
from rehydrator.cli.common import at_once, gathering, jobs_option, output_option, progress_option, trust_options
from rehydrator.cli.output import JSON, show
from rehydrator.progress import Style, make_progress
from rehydrator.release.inputs import Selection, read_inputs
from rehydrator.release.sources import read_sources
from rehydrator.release.workdir import Wish, WorkDirectory
from rehydrator.results import BeginningResult, DownloadedFile, DownloadResult, ListedFile
from rehydrator.store.publishing import check_free
from rehydrator.transport.client import Client, Patience

Sources: TypeAlias = dict[str, list[str]]

_PATH = click.Path(path_type=Path)
_WORK = Path("build")
_JOBS = flow.Settings().jobs

work_argument = click.argument("work", type=_PATH, default=_WORK, metavar="[DIR]")


sources_option = click.option(
    "--sources",
    type=_PATH,
    envvar="REHYDRATOR_SOURCES",
    callback=lambda _context, _option, path: read_sources(path) if path else {},
    help="A JSON file of named sources, looked into first; $REHYDRATOR_SOURCES sets the default.",
)
wish_options = gathering(
    "wish",
    Wish,
    click.option("--arch", "architectures", multiple=True, metavar="ARCH", help="Only this architecture. Repeatable."),
    click.option(
        "--platform", "platforms", multiple=True, metavar="PLATFORM", help="Only this one, and metal. Repeatable."
    ),
)
signature_options = trust_options("fetching", flow.Settings, "one of them has to have signed each file")
retries_option = click.option(
    "--retries",
    "patience",
    type=click.IntRange(0),
    default=Patience().retries,
    show_default=True,
    callback=lambda _context, _option, retries: Patience(retries=retries),
    help="How often to try again in a row without getting further.",
)


@click.command()
@click.argument("stream")
@work_argument
@wish_options
@sources_option
@output_option()
@progress_option
def init(stream: str, work: Path, wish: Wish, sources: Sources, form: str, style: Style) -> None:
    """Begin a build: get the metadata of a stream.

    STREAM is a name such as fcos-stable, rhcos-4.16 or scos-4.20, an address that begins with https://, or the path of
    a file. DIR, 'build' by default, must be empty or not there, or have a build of the same stream, which then is
    brought up to date.
    """
    with Client() as client:
        made = flow.init(stream, work, wish, sources, client, make_progress(style))
    files = [ListedFile(item.name, item.identity.arch, item.identity.release, item.sha256) for item in made.listed()]
    show(BeginningResult(stream=made.state.stream, source=made.state.source, files=files), form, [_beginning(made)])


def _beginning(made: WorkDirectory) -> str:
    listed = made.listed()
    releases = ", ".join(sorted({f"{item.identity.arch} {item.identity.release}" for item in listed}))
    return f"{made.state.stream} from {made.state.source}: {len(listed)} files; {releases}"


@click.command()
@work_argument
@signature_options
@retries_option
@jobs_option(f"How many files to fetch at once. Default: {_JOBS}.")
@output_option()
@progress_option
def download(
    work: Path, fetching: flow.Settings, patience: Patience, jobs: int | None, form: str, style: Style
) -> None:
    """Get the files of a stream, after 'build init'.

    Each gets its name when its sha256 is that of the stream metadata and its signature is good. What an interrupted run
    left is used; what is here already is checked again.
    """
    with Client(patience) as client:
        fetched = flow.download(WorkDirectory(work), at_once(fetching, jobs), client, make_progress(style))
    files = [
        DownloadedFile(item.listed.name, item.listed.sha256, item.signer.fingerprint if item.signer else None)
        for item in sorted(fetched, key=lambda item: item.listed.name)
    ]
    show(DownloadResult(files=files), form, [_downloaded(fetched)])


def _downloaded(fetched: Sequence[flow.Fetched]) -> str:
    signers = sorted({str(item.signer) for item in fetched if item.signer})
    told = f"signed by {'; '.join(signers)}" if signers else "signatures not checked"
    return f"{len(fetched)} files are here, sha256 right, {told}"


@click.command(short_help="Remove what 'build init' and 'build download' made.")
@work_argument
def clean(work: Path) -> None:
    """Remove what 'build init' and 'build download' made; a store that was made of it stays."""
    WorkDirectory(work).remove()


@click.command()
@click.argument("stream")
@click.argument("store", type=_PATH)
@click.option("--work", type=_PATH, default=_WORK, show_default=True, help="Where to download to.")
@wish_options
@sources_option
@signature_options
@retries_option
@jobs_option(f"How many files to work on at once. Default: {_JOBS} for the download, then the number of processors.")
@dehydration_options
@output_option()
@progress_option
def run(
    stream: str,
    store: Path,
    work: Path,
    wish: Wish,
    sources: Sources,
    fetching: flow.Settings,
    patience: Patience,
    jobs: int | None,
    settings: dehydration.Settings,
    form: str,
    style: Style,
) -> None:
    """Do it all: init, download, dehydrate and clean.

    Where one of them fails, what was downloaded stays, and the same command goes on from there.
    """
    check_free(store)
    progress = make_progress(style)
    with Client(patience) as client:
        made = flow.init(stream, work, wish, sources, client, progress)
        click.echo(_beginning(made), err=form == JSON)  # the document is the store's
        fetched = flow.download(made, at_once(fetching, jobs), client, progress)
        click.echo(_downloaded(fetched), err=form == JSON)
    make_store(read_inputs([work], Selection()), store, at_once(settings, jobs), form, progress)
    made.remove()
