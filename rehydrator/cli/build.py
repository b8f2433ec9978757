"""``rehydrator build``: making stores."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import click

from rehydrator import dehydrate as flow
from rehydrator.cli.common import (
    LazyGroup,
    access,
    access_options,
    at_once,
    gathering,
    jobs_option,
    opened_store,
    output_option,
    progress_option,
    store_location,
)
from rehydrator.cli.output import show
from rehydrator.errors import UsageError
from rehydrator.oci.reference import Location, Reference, parse_location
from rehydrator.progress import Progress, Style, make_progress
from rehydrator.rehydrate import source_date_epoch
from rehydrator.release.artifact import Inputs
from rehydrator.release.inputs import Selection, read_inputs
from rehydrator.report import dehydration_table, store_report
from rehydrator.results import DehydrationResult, ImageResult
from rehydrator.store.publishing import check_free
from rehydrator.store.reader import Store


@click.group(cls=LazyGroup)
def build() -> None:
    """Make stores from releases."""


build.lazy = {name: ("fetch", name) for name in ("init", "download", "clean", "run")} | {"attest": ("attest", "attest")}


dehydration_options = gathering(
    "settings",
    flow.Settings,
    click.option(
        "--level", type=click.IntRange(1, 22), default=19, show_default=True, help="zstd level of the canonical."
    ),
    click.option(
        "--allow-unhandled", is_flag=True, help="Store artifacts of an unknown kind whole instead of failing."
    ),
    click.option(
        "--compressed/--no-compressed",
        default=True,
        show_default=True,
        help="Find out how files were compressed, so that they can be given back as shipped; takes as long as "
        "compressing them once.",
    ),
)


selection_options = gathering(
    "selection",
    Selection,
    click.option(
        "--arch",
        "architectures",
        multiple=True,
        metavar="ARCH",
        help="Take this architecture only. Repeatable. Default: all that the inputs have.",
    ),
    click.option(
        "--build",
        metavar="latest|ID|TAG",
        default="",
        help="Which build of a build directory to take. Default: the newest.",
    ),
)


@build.command()
@click.argument(
    "inputs",
    nargs=-1,
    metavar="BUILDDIR|STREAM.JSON|REFERENCE…",
    callback=lambda _context, _parameter, words: tuple(map(parse_location, words)),
)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--iso",
    "isos",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A live ISO, which holds the metal disk, too: an input of its own. Repeatable.",
)
@selection_options
@jobs_option("How many files to work on at once. Default: number of processors.")
@dehydration_options
@access_options
@output_option()
@progress_option
def dehydrate(
    inputs: tuple[Location, ...],
    store: Path,
    isos: tuple[Path, ...],
    selection: Selection,
    jobs: int | None,
    settings: flow.Settings,
    form: str,
    style: Style,
) -> None:
    """Turn releases into a store.

    An input is a coreos-assembler build directory (its newest build, or that of --build), what 'build download' made,
    a stream metadata file with the downloaded files beside it, or an index of disk images in a registry or an OCI
    layout: HOST/REPOSITORY[:TAG|@DIGEST] or oci:DIRECTORY[:TAG]. Every file's sha256 is checked; every artifact is
    rehydrated from the new store and compared before the store gets its name.

    With --iso the metal disk is made of what a live ISO installs it from, and has the sha256 that is told there.
    """
    if not inputs and not isos:
        raise UsageError("no input", hint="Name a build directory, stream metadata, an index, or a live ISO with --iso")
    check_free(store)
    progress = make_progress(style)
    with ExitStack() as stack:
        given = [
            item if isinstance(item, Path) else stack.enter_context(_fetched(item, selection, progress))
            for item in inputs
        ]
        given += [stack.enter_context(_unpacked(iso, store, selection, progress)) for iso in isos]
        make_store(read_inputs(given, selection), store, at_once(settings, jobs), form, progress)


def _fetched(reference: Reference, selection: Selection, progress: Progress) -> AbstractContextManager[Inputs]:
    if selection.build:
        raise UsageError("has one build only", path=str(reference), hint="--build is for build directories")
    from rehydrator.registry.images import fetched_release  # noqa: PLC0415 - directories need none of it

    return fetched_release(reference, access(), selection.has, progress)


def _unpacked(iso: Path, store: Path, selection: Selection, progress: Progress) -> AbstractContextManager[Inputs]:
    from rehydrator.release.live_iso import unpacked_release  # noqa: PLC0415 - other inputs need none of it

    return unpacked_release(iso, store, selection.has, progress)


def make_store(inputs: Inputs, store: Path, settings: flow.Settings, form: str, progress: Progress) -> None:
    """Dehydrate, and tell what came of it."""
    report = flow.dehydrate(inputs, store, settings, progress)
    with Store(store) as published:
        manifests = [item for arch in published.architectures for item in published.manifests(arch)]
        document = DehydrationResult(
            store=str(store),
            size=sum(file.size for file in published.files()),
            artifacts=store_report(manifests, published).artifacts,
            notes=report.notes,
        )
    show(document, form, dehydration_table(document.artifacts, document.size))
    for note in report.notes:
        click.echo(f"note: {note}", err=True)


@build.command()
@click.argument("location", metavar="STORE", callback=store_location)
@click.argument("target", metavar="oci:DIRECTORY[:TAG]")
@click.option("--base", required=True, metavar="oci:DIRECTORY[:TAG]", help="The image to put the store into.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Add a label, or change one. Repeatable.")
@access_options
@output_option()
@progress_option
def image(location: Location, target: str, base: str, labels: tuple[str, ...], form: str, style: Style) -> None:
    """Put a store into a container image.

    The image has the layers of the base, a layer for each architecture's canonical disk and one for everything else. It
    is written to an OCI image layout, made if it is not there, and tagged 'latest' unless TAG says otherwise. The same
    base and store give the same digests; $SOURCE_DATE_EPOCH is the time of creation, by default that of the stream
    metadata. Prints the image's digest.
    """
    from rehydrator.oci.image import Settings, build_image  # noqa: PLC0415 - the other commands need none of it
    from rehydrator.oci.reference import parse_layout  # noqa: PLC0415

    settings = Settings(dict(map(_label, labels)), source_date_epoch())
    progress = make_progress(style)
    with opened_store(location, progress) as store:
        made = build_image(store, parse_layout(base), parse_layout(target), settings, progress)
    show(ImageResult(reference=target, digest=made.digest), form, [made.digest])


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError("a label is not of the form KEY=VALUE", actual=repr(text))
    return key, value
