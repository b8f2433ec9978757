"""The command line: parses, calls a flow, prints. No logic lives here."""

from __future__ import annotations

import click

from rehydrator import __version__
from rehydrator.cli.common import LazyGroup


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rehydrator")
def cli() -> None:
    """Keep one CoreOS disk image per architecture and give back every file of the release, bit for bit.

    Exit codes: 0 fine, 1 mismatch or damage, 2 usage or I/O error, 3 not supported, 130 interrupted.
    For 'explain': 0 identical, 1 different, 2 usage or I/O error, 3 not all bytes explained.
    For 'check': 0 healthy, 1 unhealthy, 2 usage or I/O error, 3 no disk that CoreOS boots from.
    """


cli.lazy = {
    "rehydrate": ("rehydrate", "rehydrate"),
    "list": ("inspect", "list_artifacts"),
    "info": ("inspect", "info"),
    "verify": ("inspect", "verify"),
    "print-stream-json": ("inspect", "print_stream_json"),
    "build": ("build", "build"),
    "explain": ("explain", "explain"),
    "check": ("check", "check"),
    "completion": ("completion", "completion"),
    "push": ("registry", "push"),
    "pull": ("registry", "pull"),
    "synthesize": ("synthesize", "synthesize"),
}
