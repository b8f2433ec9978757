"""One command as a page of the manual, in the macros of man(7)."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import click

_SECTION = 1
_WIDTH = 66  # before hyphens are escaped


@dataclass(frozen=True)
class Page:
    """A command by its path, such as ``rehydrator build dehydrate``; ``others`` are the names of related pages."""

    command: click.Command
    context: click.Context
    others: tuple[str, ...]
    version: str
    date: str

    @property
    def name(self) -> str:
        """The page's name: the path with hyphens."""
        return page_name(self.context)

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.{_SECTION}"

    def render(self) -> str:
        """Return the page."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        title = (self.name.upper(), str(_SECTION), self.date, f"rehydrator {self.version}", "rehydrator")
        yield ".TH " + " ".join(f'"{word}"' for word in title)
        yield ".SH NAME"
        yield text(self.name) + r" \- " + text(self.command.get_short_help_str(limit=200).rstrip("."))
        yield ".SH SYNOPSIS"
        yield f".B {text(self.context.command_path)}"
        yield from lines(" ".join(self.command.collect_usage_pieces(self.context)))
        yield ".SH DESCRIPTION"
        for number, paragraph in enumerate(paragraphs(self.command.help or "")):
            if number:
                yield ".PP"
            yield from lines(paragraph)
        yield from self._options()
        yield from self._commands()
        yield from self._environment()
        if self.others:
            yield ".SH SEE ALSO"
            *before, last = [f".BR {text(name)} ({_SECTION})" for name in self.others]
            yield from (f"{line} ," for line in before)
            yield last

    def _options(self) -> Iterator[str]:
        records = [item.get_help_record(self.context) for item in self.command.get_params(self.context)]
        shown = [record for record in records if record is not None and record[1]]
        if shown:
            yield ".SH OPTIONS"
        for names, told in shown:
            yield ".TP"
            yield f".B {text(names)}"
            yield from lines(told)

    def _commands(self) -> Iterator[str]:
        if not isinstance(self.command, click.Group):
            return
        yield ".SH COMMANDS"
        for name in self.command.list_commands(self.context):
            child = self.command.get_command(self.context, name)
            assert child is not None
            yield ".TP"
            yield f".BR {text(f'{self.name}-{name}')} ({_SECTION})"
            yield from lines(child.get_short_help_str(limit=200))

    def _environment(self) -> Iterator[str]:
        """Yield the variables that stand for options."""
        options = [item for item in self.command.params if isinstance(item, click.Option) and item.envvar]
        told = {str(item.envvar): item for item in options}
        if told:
            yield ".SH ENVIRONMENT"
        for variable, option in told.items():
            yield ".TP"
            yield f".B {text(variable)}"
            yield text(f"Stands for {option.opts[0]} where that is not given.")


def page_name(context: click.Context) -> str:
    """Return the name of a command's page."""
    return context.command_path.replace(" ", "-")


def paragraphs(told: str) -> list[str]:
    """Return the paragraphs of a help text, each as one line."""
    return [" ".join(item.split()) for item in re.split(r"\n\s*\n", inspect.cleandoc(told))]


def lines(told: str) -> list[str]:
    """Return words as lines of text."""
    return [text(line) for line in textwrap.wrap(told, _WIDTH, break_on_hyphens=False)]


def text(told: str) -> str:
    """Return plain words for a line that no macro begins, or for a macro's arguments."""
    escaped = told.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
