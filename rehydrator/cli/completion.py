"""Completion by the shell: ``rehydrator completion``, and the names that it completes from a store on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from rehydrator.cli.output import tell
from rehydrator.errors import RehydratorError

_PROGRAM = "rehydrator"
_VARIABLE = "_REHYDRATOR_COMPLETE"  # by which click knows that a shell asks
_SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the script by which a shell completes words.")
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and names.

    Names of platforms and architectures come from the store, where that is a directory.
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - the other commands need none of it

    found = get_completion_class(shell)
    assert found is not None  # click knows all of them
    tell(found(click.get_current_context().find_root().command, {}, _PROGRAM, _VARIABLE).source())


def artifact_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the short names of the store's artifacts that begin with ``incomplete``."""
    from rehydrator.selection import short_name  # noqa: PLC0415 - only a shell's question needs it
    from rehydrator.store.reader import Store  # noqa: PLC0415

    try:
        with Store(_store(context)) as store:
            return _matching((short_name(key) for arch in store.architectures for key in store.keys(arch)), incomplete)
    except (RehydratorError, OSError):
        return []


def architecture_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the store's architectures that begin with ``incomplete``, and the word for all of them."""
    from rehydrator.store.reader import Store  # noqa: PLC0415 - only a shell's question needs it

    try:
        with Store(_store(context)) as store:
            return _matching([*store.architectures, "all"], incomplete)
    except (RehydratorError, OSError):
        return []


def _store(context: click.Context) -> Path:
    """Return the store of a command line that is not finished; nothing is fetched for it."""
    named = context.params.get("location") or os.environ.get("REHYDRATOR_STORE") or "store"
    return Path(str(named))


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
