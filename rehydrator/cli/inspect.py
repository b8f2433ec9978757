"""``rehydrator list``, ``info``, ``verify`` and ``print-stream-json``: looking at a store."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click
import msgspec

from rehydrator import verify as flow
from rehydrator.cli.common import (
    FILES_AT_ONCE,
    arch_option,
    every_arch_option,
    jobs_option,
    listing_option,
    opened_store,
    output_option,
    progress_option,
    store_option,
    trust_options,
)
from rehydrator.cli.completion import artifact_names
from rehydrator.cli.engine import appliance_option, engine_option, zipl_option
from rehydrator.cli.output import show, standard_output
from rehydrator.disk.sink import StreamSink
from rehydrator.engines.choice import EngineChoice, EngineName, ZiplName, opened
from rehydrator.errors import ExitCode, UsageError
from rehydrator.oci.reference import Location, parse_layout
from rehydrator.progress import Progress, Style, make_progress
from rehydrator.rehydrate import Options, files_at_once
from rehydrator.report import info_text, list_table, store_report
from rehydrator.results import VerificationResult
from rehydrator.selection import Choice, architectures, choose
from rehydrator.trust.gpg import KeyRing
from rehydrator.trust.stream_check import StreamCheck


@click.command("list")
@every_arch_option
@listing_option
@store_option
def list_artifacts(arch: str | None, form: str, location: Location) -> None:
    """Show what is in the store, one line per artifact."""
    with opened_store(location) as store:
        manifests = choose(store, architectures(store, arch or "all"), Choice(everything=True))
        report = store_report(manifests, store)
    show(report, form, list_table(report.artifacts))


@click.command(short_help="Tell everything about artifacts.")
@click.argument("names", nargs=-1, metavar="[PLATFORM…]", shell_complete=artifact_names)
@arch_option
@listing_option
@store_option
def info(names: tuple[str, ...], arch: str | None, form: str, location: Location) -> None:
    """Tell everything about artifacts: what differs from the canonical, sizes, hashes."""
    with opened_store(location) as store:
        choice = Choice(disks=names, everything=not names)
        report = store_report(choose(store, architectures(store, arch), choice), store, texts=True)
    show(report, form, (line for item in report.artifacts for line in info_text(item)))


@click.command(short_help="Check a store and all that it gives back.")
@click.argument("names", nargs=-1, metavar="[PLATFORM…]", shell_complete=artifact_names)
@every_arch_option
@jobs_option(FILES_AT_ONCE)
@click.option(
    "--compressed",
    is_flag=True,
    help="Compare the files as shipped, compressed again; for those that 'info' calls exact.",
)
@engine_option
@zipl_option
@click.option("--mount", is_flag=True, help="Also mount each disk in a virtual machine and compare all of its files.")
@appliance_option
@click.option(
    "--stream",
    metavar="NAME|URL|FILE",
    help="Compare with this stream metadata instead of the store's own: a stream's name, an address, or a file.",
)
@trust_options(
    "keys",
    lambda keys, skip_signatures: keys,
    "also check the signatures of the files as shipped, where 'info' calls them exact",
)
@click.option("--image", metavar="oci:DIRECTORY[:TAG]", help="Also compare the image that the store was put into.")
@click.option("--digest", metavar="sha256:…", default="", help="The digest that this image must have.")
@output_option()
@store_option
@progress_option
def verify(
    names: tuple[str, ...],
    arch: str | None,
    jobs: int | None,
    compressed: bool,
    engine: EngineName,
    zipl: ZiplName,
    mount: bool,
    appliance: Path | None,
    stream: str | None,
    keys: tuple[Path, ...],
    image: str | None,
    digest: str,
    form: str,
    location: Location,
    style: Style,
) -> None:
    """Check the store's own files, then rehydrate artifacts to nowhere and compare their sha256.

    The chain of digests from an image down to the published files: the image (--image, --digest), the store's index,
    its files, the artifacts, and the stream metadata (the store's own, or --stream).
    """
    if digest and not image:
        raise UsageError("--digest is that of an image", hint="Name the image with --image")
    workers = jobs or os.cpu_count() or 1
    progress = make_progress(style)
    with (
        KeyRing(keys) if keys else contextlib.nullcontext() as ring,
        opened_store(location, progress, threads=1 if workers > 1 else None) as store,
    ):
        manifests = choose(store, architectures(store, arch or "all"), Choice(disks=names, everything=not names))
        given = _stream_check(stream, progress) if stream else None
        findings = flow.verify_image(store, parse_layout(image), digest, progress, workers) if image else []
        findings += flow.verify_files(store, progress, workers)
        findings += flow.verify_stream(manifests, store, given, progress, workers)
        with opened(EngineChoice(engine, zipl, appliance), manifests, store, progress) as replay:
            options = Options(compressed=compressed, engine=replay)
            options = msgspec.structs.replace(options, jobs=files_at_once(jobs, len(manifests), replay, options))
            findings += flow.verify_artifacts(manifests, store, progress, options)
            if ring is not None:
                at_once = files_at_once(jobs, len(manifests), replay, Options(compressed=True))
                findings += flow.verify_signatures(manifests, store, ring, progress, at_once, replay)
        if mount:
            findings += flow.verify_mounted(manifests, store, progress, appliance)
    bad = [f"BAD {finding.name}: {finding.problem}" for finding in findings if finding.problem]
    verdict = f"{len(findings) - len(bad)} of {len(findings)} files and artifacts are right"
    show(VerificationResult(right=not bad, findings=findings), form, [*bad, verdict])
    if bad:
        raise click.exceptions.Exit(ExitCode.MISMATCH)


def _stream_check(stream: str, progress: Progress) -> StreamCheck:
    from rehydrator.download import metadata_of  # noqa: PLC0415 - the other commands need no HTTP
    from rehydrator.transport.client import Client  # noqa: PLC0415

    with Client() as client:
        metadata = metadata_of(stream, {}, client, progress)
    return StreamCheck(metadata.document, Path(metadata.source))


@click.command("print-stream-json")
@store_option
def print_stream_json(location: Location) -> None:
    """Print the stream metadata of the release, verbatim."""
    output = standard_output().buffer
    with opened_store(location) as store:
        StreamSink(output, "standard output").write(store.stream_metadata())
