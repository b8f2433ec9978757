"""What a changed file means to a person: kernel arguments, console settings, platform settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from rehydrator.boot import bls, console, platforms
from rehydrator.boot.zipl.installed import BOOTMAP_PATH
from rehydrator.live.embed import EmbedAreas

MAX_TEXT = 1 << 20
_ENTRY = re.compile(r"^(/boot)?/loader(\.[01])?/entries/[^/]+\.conf$")
_CONSOLE = re.compile(rf"^(/boot)?(/grub2/grub\.cfg|{re.escape(console.PATH)})$")
_PLATFORMS = re.compile(rf"^(/boot)?{re.escape(platforms.PATH)}$")
_BOOTMAP = re.compile(rf"^(/boot)?{re.escape(BOOTMAP_PATH)}$")
_SHOWN_LINES = 4
_SHOWN_FILES = 4
BOOT_LOADER = "boot loader"


def topic(path: str) -> str:
    """Name what a change of a file stands for in a verdict; the path itself where it stands for nothing else."""
    if _ENTRY.match(path):
        return "kernel arguments"
    if _CONSOLE.match(path):
        return "console settings"
    if _BOOTMAP.match(path):
        return BOOT_LOADER
    if _PLATFORMS.match(path):
        return "platform settings"
    return path


def as_text(content: bytes | None) -> str | None:
    """Return content as text; None where it is none or is missing."""
    if content is None or len(content) > MAX_TEXT or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def meaning(path: str, a: bytes | None, b: bytes | None) -> list[str]:
    """Tell a change of a file's content in a few lines; nothing where there is nothing to tell."""
    old, new = as_text(a), as_text(b)
    if old is None or new is None:
        return []
    match topic(path):
        case "kernel arguments":
            return _kernel_arguments(old, new)
        case "console settings":
            return list(_console(old, new))
    return []


def _kernel_arguments(old: str, new: str) -> list[str]:
    before, after = bls.options_of(old), bls.options_of(new)
    if before is None or after is None:
        return []
    return told_arguments(before, after)


def told_arguments(before: str, after: str) -> list[str]:
    """Tell changed kernel arguments word by word."""
    if words := bls.changed_words(before, after):
        return words
    return ["kernel arguments in another order"] if before != after else []


def told_areas(path: str, a: EmbedAreas | None, b: EmbedAreas | None) -> Iterator[str]:
    """Tell what a user embedded in a file of a live ISO."""
    if a is None or b is None:
        return
    before, after = a.kernel_arguments(path), b.kernel_arguments(path)
    if before is not None and after is not None:
        yield from told_arguments(before, after)
    old, new = a.ignition_config(path), b.ignition_config(path)
    if old is not None and new is not None and old != new:
        yield f"Ignition config: {_embedded(old, a.ignition_files(path))} -> {_embedded(new, b.ignition_files(path))}"


def _embedded(config: bytes, files: list[str] | None) -> str:
    """Tell the files in a config; where they can't be told, how large it is."""
    if not config:
        return "none"
    more = f" and {len(files) - _SHOWN_FILES} more" if files and len(files) > _SHOWN_FILES else ""
    names = f"{', '.join(files[:_SHOWN_FILES])}{more}, " if files else ""
    return f"{names}{len(config)} bytes, compressed"


def _console(old: str, new: str) -> Iterator[str]:
    before, after = console.commands_of(old), console.commands_of(new)
    if before is None or after is None:
        return
    lines = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[:2] in ("- ", "+ ") and line[2:].strip()
    ]
    yield from (line[0] + line[2:] for line in lines[:_SHOWN_LINES])
    if len(lines) > _SHOWN_LINES:
        yield f"and {len(lines) - _SHOWN_LINES} more lines"


def unified(path: str, a: bytes | None, b: bytes | None) -> list[str]:
    """Return a unified diff of two texts; nothing where one is no text. None stands for a file that is not there."""
    old, new = as_text(b"" if a is None else a), as_text(b"" if b is None else b)
    if old is None or new is None:
        return []
    names = ("/dev/null" if a is None else f"a{path}", "/dev/null" if b is None else f"b{path}")
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="")
    return list(lines)
