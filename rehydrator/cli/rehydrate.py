"""``rehydrator rehydrate``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from rehydrator import minimal
from rehydrator import rehydrate as flow
from rehydrator.cli.common import (
    FILES_AT_ONCE,
    arch_option,
    dest_argument,
    gathering,
    jobs_option,
    opened_store,
    output_option,
    progress_option,
    store_option,
)
from rehydrator.cli.completion import artifact_names
from rehydrator.cli.engine import appliance_option, engine_option, zipl_option
from rehydrator.cli.output import JSON, check_standard_output, show
from rehydrator.codecs.compressing import Compressor
from rehydrator.destination import Target, Written, archive_at, write
from rehydrator.engines.choice import EngineChoice, EngineName, ZiplName, opened
from rehydrator.errors import UsageError
from rehydrator.manifest.schema import Manifest
from rehydrator.oci.labels import made_at
from rehydrator.oci.reference import Location
from rehydrator.progress import Progress, Style, make_progress
from rehydrator.results import RehydrationResult
from rehydrator.selection import Choice, architectures, choose
from rehydrator.store.reader import Store

choice_options = gathering(
    "choice",
    Choice,
    click.option(
        "--disk",
        "disks",
        multiple=True,
        metavar="PLATFORM",
        shell_complete=artifact_names,
        help="A platform's disk image; may be repeated.",
    ),
    click.option("--iso", is_flag=True, help="The live ISO."),
    click.option("--pxe", is_flag=True, help="The live PXE kernel, initramfs and rootfs."),
    click.option("--all", "everything", is_flag=True, help="Every artifact."),
)


def _options(
    compressed: bool, decompress: bool, compressor: str | None, signatures: bool, skip_validate: bool
) -> flow.Options:
    """Return how files are wanted. Raises UsageError for what contradicts itself."""
    if compressed + decompress + (compressor is not None) > 1:
        raise UsageError("only one of --compressed, --decompress and --compress can be fulfilled")
    return flow.Options(
        validate=not skip_validate,
        compressed=compressed,
        signatures=signatures,
        bare=decompress or compressor is not None,
        compressor=Compressor(compressor) if compressor else None,
    )


form_options = gathering(
    "options",
    _options,
    click.option(
        "--compressed", is_flag=True, help="The files as shipped, compressed again; for those that 'info' calls exact."
    ),
    click.option(
        "--decompress", is_flag=True, help="All files without an outer compression, whatever the release has."
    ),
    click.option(
        "--compress",
        "compressor",
        type=click.Choice([item.value for item in Compressor]),
        help="Compress the files, or the archive, anew: not to the bytes that were shipped.",
    ),
    click.option("--signatures", is_flag=True, help="Also the detached signatures of the shipped files."),
    click.option("--skip-validate", is_flag=True, help="Do not compare the sha256 of what is written."),
)


class _MinimalIso(msgspec.Struct, frozen=True):
    """Whether the minimal ISO is wanted, and where it fetches the live rootfs from, "" for nowhere."""

    wanted: bool
    rootfs_url: str


def _minimal_iso(minimal_iso: bool, rootfs_url: str) -> _MinimalIso:
    if rootfs_url and not minimal_iso:
        raise UsageError("--rootfs-url is for --minimal-iso")
    return _MinimalIso(minimal_iso, rootfs_url)


minimal_options = gathering(
    "small",
    _minimal_iso,
    click.option("--minimal-iso", is_flag=True, help="The minimal ISO, which the live ISO tells how to make."),
    click.option("--rootfs-url", default="", metavar="URL", help="Where the minimal ISO fetches the live rootfs from."),
)


@click.command()
@dest_argument
@choice_options
@minimal_options
@form_options
@arch_option
@jobs_option(FILES_AT_ONCE)
@engine_option
@zipl_option
@appliance_option
@output_option()
@store_option
@progress_option
def rehydrate(
    dest: str,
    choice: Choice,
    small: _MinimalIso,
    options: flow.Options,
    arch: str | None,
    jobs: int | None,
    engine: EngineName,
    zipl: ZiplName,
    appliance: Path | None,
    form: str,
    location: Location,
    style: Style,
) -> None:
    """Give files of the release back, bit for bit.

    DEST is a directory, '-' for standard output, where several files become a tar archive, or the name of such an
    archive: it ends with .tar, .tar.xz, .tar.gz or .tar.zst. Each file, and each archive, is written under a temporary
    name and appears only after every sha256 was compared. Archives are the same each time; their files have the time
    $SOURCE_DATE_EPOCH, by default that of the release's metadata.

    Files have their upstream names, without outer compression where the release publishes an uncompressed sha256. With
    --decompress all of them are without; where only the compressed file has a sha256, that is made first and compared.
    With --compress all of them are compressed anew, on all processors, and their names get the suffix.

    With --compressed they have the bytes that were shipped and signed. That takes the compressor's time and memory:
    xz -9 takes 0.7 GiB, where several blocks are made at once 1 GiB each, and no more than a quarter of this machine's
    memory in all. Files that GNU gzip or Info-ZIP compressed need the program GNU gzip.

    The minimal ISO has no root file system: it fetches the live rootfs of the same release when it boots. It has the
    bytes of 'coreos-installer iso extract minimal-iso'. Without --rootfs-url, coreos.live.rootfs_url has to be added.
    """
    _check(dest, choice, small, options, form)
    progress = make_progress(style)
    with opened_store(location, progress) as store:
        arches = architectures(store, arch)
        written = []
        if small.wanted:
            written += _minimal(dest, choose(store, arches, Choice(iso=True)), store, small.rootfs_url, progress)
        if not choice.empty:
            target = Target(dest, made_at(store, flow.source_date_epoch()), sys.stdout.buffer if dest == "-" else None)
            chosen = choose(store, arches, choice)
            with opened(EngineChoice(engine, zipl, appliance), chosen, store, progress) as replay:
                at_once = flow.files_at_once(jobs, len(chosen), replay, options)
                options = msgspec.structs.replace(options, engine=replay, jobs=at_once)
                written += write(target, chosen, store, progress, options)
    if form == JSON:
        show(RehydrationResult(files=written), form, [])


def _check(dest: str, choice: Choice, small: _MinimalIso, options: flow.Options, form: str) -> None:
    """Raise UsageError where ``dest`` can't take what is wanted, or nothing is."""
    if choice.empty and not small.wanted:
        raise UsageError(
            "nothing chosen", hint="Use --disk PLATFORM, --iso, --pxe or --all; 'rehydrator list' shows what is there"
        )
    if small.wanted and dest == "-" and not choice.empty:
        raise UsageError("the minimal ISO goes to standard output alone", hint="Name a directory instead of '-'")
    if small.wanted and (options.compressor is not None or archive_at(Path(dest), None)):
        raise UsageError("the minimal ISO goes to a directory or to standard output as it is")
    if dest == "-":
        check_standard_output(form)


def _minimal(dest: str, isos: list[Manifest], store: Store, rootfs_url: str, progress: Progress) -> list[Written]:
    """Make the minimal ISO of each live ISO."""
    if dest != "-":
        return minimal.to_directory(isos, store, Path(dest), progress, rootfs_url)
    if len(isos) > 1:
        raise UsageError("several minimal ISOs don't fit on standard output", hint="Choose one with --arch")
    minimal.to_stream(isos[0], store, sys.stdout.buffer, progress, rootfs_url)
    return []
