"""``rehydrator build attest``: documents that can be signed."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rehydrator.cli.common import access_options, opened_store, output_option, store_location
from rehydrator.cli.output import show
from rehydrator.disk.sink import FileSink
from rehydrator.errors import OutputError
from rehydrator.oci.labels import created_of
from rehydrator.oci.layout import Layout
from rehydrator.oci.reference import Location, parse_layout
from rehydrator.rehydrate import source_date_epoch
from rehydrator.results import DocumentsResult
from rehydrator.trust.sbom import runtime_sbom
from rehydrator.trust.statement import statement_of
from rehydrator.trust.system_packages import installed_system

STATEMENT = "rehydrator.intoto.json"
SBOM = "rehydrator.spdx.json"


@click.command(short_help="Write documents on a store that can be signed.")
@click.argument("location", metavar="STORE", callback=store_location)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--image", metavar="oci:DIRECTORY[:TAG]", help="Also state the digest of this image.")
@click.option("--system", is_flag=True, help="List the packages of the system as well; for container images of Debian.")
@access_options
@output_option()
def attest(location: Location, directory: Path, image: str | None, system: bool, form: str) -> None:
    """Write what is in a store, and what runs it, as documents that can be signed.

    DIR gets rehydrator.intoto.json, an in-toto statement with SLSA provenance: the sha256 of every file that the store
    gives back, of the store's index, and of the files and the stream metadata that it was made of; and
    rehydrator.spdx.json, the software that rehydration runs on, in SPDX: Python's packages, and with --system those of
    the system. Both are functions of the store and of what is
    installed; $SOURCE_DATE_EPOCH is the time that they state, by default that of the stream metadata.
    """
    installed = installed_system() if system else None
    with opened_store(location) as store:
        created = created_of(store, source_date_epoch())
        made = None
        if image:
            reference = parse_layout(image)
            made = Layout(reference.path).find(reference)
        documents = {STATEMENT: statement_of(store, created, made), SBOM: runtime_sbom(created, installed)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=directory) from error
    for name, document in documents.items():
        with FileSink(directory / name, sparse=False) as file:
            file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
            file.commit()
    paths = [str(directory / name) for name in documents]
    show(DocumentsResult(files=paths), form, paths)
