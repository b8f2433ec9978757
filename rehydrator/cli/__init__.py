"""The command line: parses, calls a flow, prints. No logic lives here."""

from __future__ import annotations

import importlib

import click

from rehydrator import __version__

# Where each command is: a module is imported when its command is asked for, since that takes longer than much of the
# work that is asked for.
_COMMANDS = {
    "rehydrate": ("rehydrate", "rehydrate"),
    "list": ("inspect", "list_artifacts"),
    "info": ("inspect", "info"),
    "verify": ("inspect", "verify"),
    "print-stream-json": ("inspect", "print_stream_json"),
    "build": ("build", "build"),
    "explain": ("explain", "explain"),
    "check": ("check", "check"),
    "synthesize": ("synthesize", "synthesize"),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            module, name = _COMMANDS[cmd_name]
            self.add_command(getattr(importlib.import_module(f"{__name__}.{module}"), name), cmd_name)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rehydrator")
def cli() -> None:
    """Keep one CoreOS disk image per architecture and give back every file of the release, bit for bit.

    Exit codes: 0 fine, 1 mismatch or damage, 2 usage or I/O error, 3 not supported, 130 interrupted.
    For 'explain': 0 identical, 1 different, 2 usage or I/O error, 3 not all bytes explained.
    For 'check': 0 healthy, 1 unhealthy, 2 usage or I/O error, 3 no disk that CoreOS boots from.
    """
