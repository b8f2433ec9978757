"""Groups and options that several commands share."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
import msgspec
from click.core import ParameterSource

from rehydrator.cli.completion import architecture_names
from rehydrator.cli.output import JSON, TEXT
from rehydrator.errors import UsageError
from rehydrator.oci.reference import Location, parse_location
from rehydrator.progress import Progress, Style, make_progress
from rehydrator.store.reader import Store

if TYPE_CHECKING:
    from rehydrator.registry.access import Access

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=msgspec.Struct)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for.

    ``lazy`` tells, per command, its module in this package and its name there: importing one takes longer than much of
    the work that is asked for.
    """

    lazy: Mapping[str, tuple[str, str]] = MappingProxyType({})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, name = self.lazy[cmd_name]
            self.add_command(getattr(importlib.import_module(f"{__package__}.{module}"), name), cmd_name)
        return super().get_command(ctx, cmd_name)


def gathering(name: str, make: Callable[..., object], *options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return what adds ``options`` to a command, which gets what ``make`` makes of their values as ``name``."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def gathered(*arguments: object, **values: object) -> object:
            own = {parameter: values.pop(parameter) for parameter in parameters}
            return command(*arguments, **values, **{name: make(**own)})

        before = len(getattr(command, "__click_params__", ()))
        decorated: Any = gathered
        for option in reversed(options):
            decorated = option(decorated)
        parameters = [item.name for item in decorated.__click_params__[before:] if item.expose_value]
        return cast("F", decorated)

    return decorate


_CA = "rehydrator.ca"
_PLAIN_HTTP = "rehydrator.plain-http"


def store_location(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Location | None:
    """Turn the word of an option or argument into the place of a store."""
    return None if text is None else parse_location(text)


def _kept(context: click.Context, name: str, value: Path | bool | None) -> None:
    context.meta[name] = value


def access_options(command: F) -> F:
    """Add the options that say how registries are reached; :func:`access` returns what they mean."""
    ca = click.option(
        "--ca",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=lambda context, _option, value: _kept(context, _CA, value),
        help="A file of certificates to trust besides the system's, for registries.",
    )
    plain_http = click.option(
        "--plain-http",
        is_flag=True,
        expose_value=False,
        callback=lambda context, _option, value: _kept(context, _PLAIN_HTTP, value),
        help="Reach a registry on this machine without TLS.",
    )
    return ca(plain_http(command))


def store_option(command: F) -> F:
    """Add the option ``--store``, and those that say how registries are reached."""
    store = click.option(
        "--store",
        "location",
        metavar="STORE",
        callback=store_location,
        envvar="REHYDRATOR_STORE",
        default="store",
        show_default=True,
        help="The store to read: a directory, oci:DIRECTORY[:TAG], or HOST/REPOSITORY[:TAG|@DIGEST] in a registry; "
        "$REHYDRATOR_STORE sets the default.",
    )
    return store(access_options(command))


def trust_options(name: str, make: Callable[..., object], what: str) -> Callable[[F], F]:
    """Return what adds the options that say which signatures count; the command gets what ``make`` makes of them.

    That is given ``keys`` and ``skip_signatures``, of which one at most is set. ``what`` tells what a key is for.
    """

    def made(keys: tuple[Path, ...], *, skip_signatures: bool) -> object:
        named = click.get_current_context().get_parameter_source("keys") is ParameterSource.COMMANDLINE
        if named and skip_signatures:
            raise UsageError("signatures can't be skipped and checked", hint="Leave out --key or --skip-signatures")
        return make(keys=() if skip_signatures else keys, skip_signatures=skip_signatures)

    return gathering(
        name,
        made,
        click.option(
            "--key",
            "keys",
            type=click.Path(path_type=Path),
            multiple=True,
            envvar="REHYDRATOR_KEYS",
            help=f"A file of OpenPGP public keys; {what}. Repeatable. $REHYDRATOR_KEYS, with ':' between files, "
            "sets it.",
        ),
        click.option("--skip-signatures", is_flag=True, help="Check no signatures, whatever $REHYDRATOR_KEYS says."),
    )


def access() -> Access:
    """Return how registries are reached, as the running command's options say."""
    from rehydrator.registry.access import Access  # noqa: PLC0415 - directories need none of it

    meta = click.get_current_context().meta
    return Access(meta.get(_CA), bool(meta.get(_PLAIN_HTTP)))


def opened_store(location: Location, progress: Progress | None = None, threads: int | None = None) -> Store:
    """Open a store, wherever it is; what is fetched of it is shown by ``progress``."""
    if isinstance(location, Path):
        return Store(location, threads=threads)
    from rehydrator.registry.opening import open_store  # noqa: PLC0415 - directories need none of it

    return open_store(location, access(), progress or make_progress(Style.AUTO), threads)


def _arch_option(default: str) -> Callable[[F], F]:
    return click.option(
        "--arch",
        metavar="ARCH",
        shell_complete=architecture_names,
        help=f"Architecture (RPM name such as x86_64), or 'all'. Default: {default}.",
    )


arch_option = _arch_option("this machine's, or the only one in the store")
every_arch_option = _arch_option("all")


def _destination(_context: click.Context, _parameter: click.Parameter, dest: str) -> str:
    """Refuse what a script gives whose variable is not set: it would mean the current directory."""
    if not dest:
        raise UsageError("the name of the destination is empty", hint="Name the current directory as '.'")
    return dest


dest_argument = click.argument("dest", callback=_destination)

progress_option = click.option(
    "--progress",
    "style",
    type=click.Choice([style.value for style in Style]),
    default=Style.AUTO.value,
    show_default=True,
    callback=lambda _context, _option, value: Style(value),
    help="How to show progress on standard error.",
)


def output_option(*forms: str) -> Callable[[F], F]:
    """Return the option ``--output`` for text, JSON, and further ``forms``."""
    return click.option(
        "--output",
        "form",
        type=click.Choice([TEXT, JSON, *forms]),
        default=TEXT,
        show_default=True,
        help="Form of what is printed; JSON is versioned by its 'schema'.",
    )


listing_option = gathering(
    "form",
    lambda form, as_json: JSON if as_json else form,
    output_option(),
    click.option("--json", "as_json", is_flag=True, help="The same as '--output json'."),
)


FILES_AT_ONCE = (
    "How many files to make at once. Default: 24, which share what is decoded of the canonical disk; with compressors "
    "as many as there are processors and memory for."
)


def jobs_option(help_text: str) -> Callable[[F], F]:
    """Return the ``--jobs`` option with a command's own help text."""
    return click.option("--jobs", "-j", type=click.IntRange(1, 256), help=help_text)


def at_once(settings: S, jobs: int | None) -> S:
    """Return a flow's settings with the number of ``--jobs``, where that was given."""
    return settings if jobs is None else msgspec.structs.replace(settings, jobs=jobs)
