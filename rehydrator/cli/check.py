"""``rehydrator check``: would this image boot?"""

from __future__ import annotations

from pathlib import Path

import click

from rehydrator.check import check as check_image
from rehydrator.checks.report import render
from rehydrator.cli.common import output_option
from rehydrator.cli.output import show
from rehydrator.errors import ExitCode


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--platform", metavar="PLATFORM", default="", help="What the image should be. Default: its name tells.")
@output_option()
def check(image: Path, platform: str, form: str) -> None:
    """Check the boot health of one image of any architecture.

    IMAGE may be raw, compressed (xz, gz, zip) or in a container. Looked at are partition table, file systems, boot
    loader entry and boot loader; on s390x the boot record and bootmap; of a live ISO the boot catalog, the boot
    configuration, and the files that it names. Nothing is mounted and no privileges are needed.

    Exit codes: 0 healthy, 1 unhealthy, 2 usage or I/O error, 3 no disk that CoreOS boots from, or one that can't be
    looked into.
    """
    report = check_image(image, platform)
    show(report, form, render(report))
    if not report.healthy:
        raise click.exceptions.Exit(ExitCode.MISMATCH)
