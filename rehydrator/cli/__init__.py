"""The command line: parses, calls a flow, prints. No logic lives here."""

from __future__ import annotations

import click

from rehydrator import __version__
from rehydrator.cli.build import build
from rehydrator.cli.explain import explain
from rehydrator.cli.inspect import info, list_artifacts, print_stream_json, verify
from rehydrator.cli.rehydrate import rehydrate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rehydrator")
def cli() -> None:
    """Keep one CoreOS disk image per architecture and give back every file of the release, bit for bit.

    Exit codes: 0 fine, 1 mismatch or damage, 2 usage or I/O error, 3 not supported, 130 interrupted.
    For 'explain': 0 identical, 1 different, 2 usage or I/O error, 3 not all bytes explained.
    """


for command in (rehydrate, list_artifacts, info, verify, print_stream_json, build, explain):
    cli.add_command(command)
