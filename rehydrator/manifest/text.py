"""JSON as people like to read it: an object a line where it fits, long lists of small items on shared lines.

Lines that are alike also compress to less than objects that are sometimes broken up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from rehydrator.errors import CorruptError

T = TypeVar("T")
JSON_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # the last for what is nested too deeply
_WIDTH = 200
_SHARED_WIDTH = 110
_MAX_INDENT = 2


def encode(value: msgspec.Struct) -> bytes:
    """Return the indented JSON text of a struct, a function of the value alone."""
    return (_format(msgspec.to_builtins(value), 0) + "\n").encode()


def decode(data: bytes, kind: type[T], path: Path) -> T:
    """Read JSON into ``kind``; raises CorruptError that names the field."""
    try:
        return msgspec.json.decode(data, type=kind)
    except JSON_ERRORS as error:
        raise CorruptError(f"is not a valid {kind.__name__.lstrip('_')}: {error}", path=path) from error


def _format(value: object, indent: int) -> str:
    compact = _compact(value)
    if len(compact) + indent <= _WIDTH and not (isinstance(value, dict) and indent == 0):
        return compact
    pad, end = _pad(indent + 1), _pad(indent)
    if isinstance(value, dict):
        items = [
            f"{pad}{msgspec.json.encode(key).decode()}: {_format(item, indent + 1)}" for key, item in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{end}}}"
    if isinstance(value, list | tuple):
        return "[\n" + ",\n".join(_lines([_format(item, indent + 1) for item in value], pad)) + f"\n{end}]"
    return compact


def _pad(indent: int) -> str:
    """Indentation; deeper than a few levels it only costs room."""
    return " " * min(indent, _MAX_INDENT)


def _compact(value: object) -> str:
    """One line: spaces between the members of an object, lists tight."""
    if isinstance(value, dict) and value:
        return "{" + ", ".join(f"{_compact(key)}: {_compact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_compact(item) for item in value) + "]"
    return msgspec.json.encode(value).decode()


def _lines(items: list[str], pad: str) -> list[str]:
    """Fill lines with short items; an item that is an object or long gets lines of its own."""
    lines: list[str] = []
    for item in items:
        small = len(item) <= 30 and not item.startswith("{")
        room = bool(lines) and len(lines[-1]) + len(item) < _SHARED_WIDTH
        if small and room and lines[-1].endswith(("]", '"', *"0123456789")):
            lines[-1] += f",{item}"
        else:
            lines.append(pad + item)
    return lines
