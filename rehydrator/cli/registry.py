"""``rehydrator push`` and ``rehydrator pull``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from rehydrator import pull as pulling
from rehydrator import push as pushing
from rehydrator.cli.common import access, access_options, opened_store, output_option, progress_option, store_location
from rehydrator.cli.output import show
from rehydrator.oci.reference import Location, parse_reference
from rehydrator.progress import Style, make_progress
from rehydrator.registry.place import source_of, target_of
from rehydrator.rehydrate import source_date_epoch
from rehydrator.results import ImageResult, StoreResult
from rehydrator.store.reader import Store

_REFERENCE = "HOST/REPOSITORY[:TAG]|oci:DIRECTORY[:TAG]"


@click.command(short_help="Push a store to a registry or an OCI layout.")
@click.argument("location", metavar="STORE", callback=store_location)
@click.argument("reference", metavar=_REFERENCE)
@access_options
@output_option()
@progress_option
def push(location: Location, reference: str, form: str, style: Style) -> None:
    """Push a store to a registry, or to an OCI layout on disk.

    Files that are there already are not sent again; the tag, 'latest' unless TAG says otherwise, appears last. Running
    it again after an interrupt sends what is missing. The same store gives the same digest; $SOURCE_DATE_EPOCH is the
    time of creation, by default that of the stream metadata. Prints the digest.
    """
    progress = make_progress(style)
    with (
        opened_store(location, progress) as store,
        target_of(parse_reference(reference), access(), progress) as target,
    ):
        digest = pushing.push(store, target, source_date_epoch(), progress).digest
    show(ImageResult(reference=reference, digest=digest), form, [digest])


@click.command(short_help="Pull a store into a directory.")
@click.argument("reference", metavar=_REFERENCE)
@click.argument("store", type=click.Path(path_type=Path))
@access_options
@output_option()
@progress_option
def pull(reference: str, store: Path, form: str, style: Style) -> None:
    """Pull a store from a registry, or from an OCI layout on disk, into a directory.

    STORE appears when all of it is there and every digest was compared. What came before an interrupt is kept for the
    next run. Without pulling it, other commands read a store in a registry with --store.
    """
    progress = make_progress(style)
    with closing(source_of(parse_reference(reference), access(), progress)) as source:
        pulling.pull(source, store, progress)
    with Store(store) as made:
        size = sum(file.size for file in made.files())
        show(StoreResult(store=str(store), architectures=made.architectures, size=size), form, [])
