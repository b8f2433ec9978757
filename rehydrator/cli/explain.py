"""``rehydrator explain``: why two images differ."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from rehydrator.cli.common import arch_option, opened_store, output_option, store_location, store_option
from rehydrator.cli.completion import artifact_names
from rehydrator.cli.engine import appliance_option
from rehydrator.cli.output import show
from rehydrator.errors import ExitCode, UsageError
from rehydrator.explain import against, text
from rehydrator.explain.explain import Options
from rehydrator.explain.explain import explain as compare
from rehydrator.explain.html import render as render_html
from rehydrator.explain.peel import opened
from rehydrator.explain.tree import Report
from rehydrator.explain.volumes import Start
from rehydrator.oci.reference import Location

HTML = "html"


@click.command(short_help="Tell why two images differ.")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="[A B | FILE]")
@click.option(
    "--platform",
    metavar="PLATFORM",
    shell_complete=artifact_names,
    help="Compare a platform's disk with the canonical, from a store.",
)
@click.option(
    "--against",
    "against_store",
    metavar="STORE",
    callback=store_location,
    help="Compare FILE with what this store would give for it.",
)
@store_option
@arch_option
@click.option("--patch", "-p", is_flag=True, help="Show unified diffs of changed text files.")
@click.option("--stat", is_flag=True, help="Show only a table of bytes per partition and cause.")
@click.option("--hex", "hexadecimal", is_flag=True, help="Show the differing runs in hexadecimal.")
@click.option("--extents", is_flag=True, help="Show where the differing runs lie, and commands to check them by.")
@click.option("--strict", is_flag=True, help="Count unlike compression and unlike containers as differences.")
@click.option("--no-health", is_flag=True, help="Do not check the images' own checksums.")
@click.option(
    "--mount",
    is_flag=True,
    help="Mount file systems that rehydrator does not read in a virtual machine and compare their files.",
)
@appliance_option
@output_option(HTML)
def explain(
    images: tuple[Path, ...],
    platform: str | None,
    against_store: Location | None,
    location: Location,
    arch: str | None,
    patch: bool,
    stat: bool,
    hexadecimal: bool,
    extents: bool,
    strict: bool,
    no_health: bool,
    mount: bool,
    appliance: Path | None,
    form: str,
) -> None:
    """Tell why two images differ: which files, which structures, and how many bytes each.

    A and B may be raw, compressed (xz, gz, zip) or in containers; both are peeled first. Nothing is mounted, but for
    what --mount asks for, and no privileges are needed.

    Exit codes: 0 identical, 1 different, 2 usage or I/O error, 3 some differing bytes could not be explained.
    """
    options = Options(patch, hexadecimal or extents, strict, not no_health, _start(appliance) if mount else None)
    with ExitStack() as stack:
        if platform is not None and not images and against_store is None:
            store = stack.enter_context(opened_store(location))
            report = against.platform(store, platform, arch, options)
        elif against_store is not None and len(images) == 1 and platform is None:
            store = stack.enter_context(opened_store(against_store))
            report = against.file(store, images[0], arch, options)
        elif len(images) == 2 and platform is None and against_store is None:
            a, b = (stack.enter_context(opened(path)) for path in images)
            report = compare(a, b, options)
        else:
            raise UsageError(
                "nothing to compare", hint="Name two images, or --platform PLATFORM, or --against STORE FILE"
            )
        told = text.TextOptions(stat, hexadecimal, extents)
        show(report, form, [render_html(report)] if form == HTML else text.render(report, told))
    code = exit_code(report)
    if code:
        raise click.exceptions.Exit(code)


def _start(appliance: Path | None) -> Start:
    """Return how a virtual machine is started."""
    from rehydrator.engines.guestfs.machine import Machine  # noqa: PLC0415 - most runs need none of it

    return lambda size: Machine(size, lambda text: click.echo(text, err=True), appliance=appliance)


def exit_code(report: Report) -> int:
    """Return the exit code that a report stands for."""
    if report.total.unexplained:
        return ExitCode.UNSUPPORTED
    return ExitCode.OK if report.identical else ExitCode.MISMATCH
