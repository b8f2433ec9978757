"""``rehydrator list``, ``info``, ``verify`` and ``print-stream-json``: looking at a store."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import msgspec

from rehydrator import verify as flow
from rehydrator.cli.common import arch_option, jobs_option, json_option, progress_option, store_option
from rehydrator.cli.engine import appliance_option, engine_option, zipl_option
from rehydrator.engines.choice import EngineChoice, EngineName, ZiplName, opened
from rehydrator.errors import ExitCode, UsageError
from rehydrator.progress import Style, make_progress
from rehydrator.report import info_text, list_table, store_report
from rehydrator.selection import Choice, architectures, choose
from rehydrator.store.reader import Store


@click.command("list")
@arch_option
@json_option
@store_option
def list_artifacts(arch: str | None, as_json: bool, store_path: Path) -> None:
    """Show what is in the store, one line per artifact (all architectures unless --arch is given)."""
    with Store(store_path) as store:
        manifests = choose(store, architectures(store, arch or "all"), Choice(everything=True))
        report = store_report(manifests, store)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    for line in list_table(report.artifacts):
        click.echo(line)


@click.command()
@click.argument("names", nargs=-1, metavar="[PLATFORM…]")
@arch_option
@json_option
@store_option
def info(names: tuple[str, ...], arch: str | None, as_json: bool, store_path: Path) -> None:
    """Tell everything about artifacts: what differs from the canonical, sizes, hashes."""
    with Store(store_path) as store:
        choice = Choice(disks=names, everything=not names)
        report = store_report(choose(store, architectures(store, arch), choice), store, texts=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    for item in report.artifacts:
        for line in info_text(item):
            click.echo(line)


@click.command()
@click.argument("names", nargs=-1, metavar="[PLATFORM…]")
@arch_option
@jobs_option("How many artifacts to rehydrate at once. Default: number of processors.")
@click.option(
    "--compressed",
    is_flag=True,
    help="Compare the files as shipped, compressed again; for those that 'info' calls exact.",
)
@engine_option
@zipl_option
@click.option("--mount", is_flag=True, help="Also mount each disk in a virtual machine and compare all of its files.")
@appliance_option
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
    store_path: Path,
    style: Style,
) -> None:
    """Check the store's own files, then rehydrate artifacts to nowhere and compare their sha256."""
    workers = jobs or os.cpu_count() or 1
    with Store(store_path, threads=1 if workers > 1 else None) as store:
        manifests = choose(store, architectures(store, arch or "all"), Choice(disks=names, everything=not names))
        progress = make_progress(style)
        findings = flow.verify_files(store, progress, workers)
        with opened(EngineChoice(engine, zipl, appliance), manifests, store, progress) as replay:
            at_once = workers if engine is EngineName.DIRECT else 1
            findings += flow.verify_artifacts(manifests, store, progress, at_once, replay, compressed=compressed)
        if mount:
            findings += flow.verify_mounted(manifests, store, progress, appliance)
    bad = [finding for finding in findings if finding.problem]
    for finding in bad:
        click.echo(f"BAD {finding.name}: {finding.problem}")
    click.echo(f"{len(findings) - len(bad)} of {len(findings)} files and artifacts are right")
    if bad:
        raise click.exceptions.Exit(ExitCode.MISMATCH)


@click.command("print-stream-json")
@store_option
def print_stream_json(store_path: Path) -> None:
    """Print the stream metadata of the release, verbatim."""
    if sys.stdout is None:  # closed before the program began
        raise UsageError("standard output is closed")
    with Store(store_path) as store:
        sys.stdout.buffer.write(store.stream_metadata())
        sys.stdout.buffer.flush()
