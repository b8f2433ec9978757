"""Differences of containers, field by field, whatever the container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from rehydrator.explain.peel import Opened
from rehydrator.explain.tree import FieldChange
from rehydrator.layers.views import fields, view_of

_LONG = 60
_MAX_PLACES = 3
_MISSING = "(none)"


def container_changes(a: Opened, b: Opened) -> Iterator[FieldChange]:
    """Yield the fields in which compressions and containers of the same format differ, outermost first."""
    if a.compression == b.compression:
        yield from _changes(a.compression, "", a.header, b.header)
    if not same_containers(a, b):
        return
    for ours, theirs in zip(a.containers, b.containers, strict=True):
        yield from _changes(ours.format, "", view_of(ours.complete()), view_of(theirs.complete()))


def same_containers(a: Opened, b: Opened) -> bool:
    """Tell whether both sides lay in the same formats, nested in the same way."""
    return [item.format for item in a.containers] == [item.format for item in b.containers]


def _changes(layer: str, name: str, a: object, b: object) -> Iterator[FieldChange]:
    """Go down both values side by side to where they differ."""
    if a == b and type(a) is type(b):
        return
    if isinstance(a, msgspec.Struct) and isinstance(b, msgspec.Struct):
        a, b = fields(a), fields(b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _changes(layer, f"{name} {key}".strip(), a.get(key), b.get(key))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        yield from _row_changes(layer, name, a, b)
    else:
        yield FieldChange(layer, name, _text(a), _text(b))


def _row_changes(layer: str, name: str, a: Sequence[object], b: Sequence[object]) -> Iterator[FieldChange]:
    """Tell a short row place by place, a long one by its first difference."""
    if len(a) == len(b) and len(a) <= _MAX_PLACES:
        for number, (ours, theirs) in enumerate(zip(a, b, strict=True)):
            yield from _changes(layer, f"{name} {number}", ours, theirs)
        return
    unlike = [number for number, (ours, theirs) in enumerate(zip(a, b, strict=False)) if ours != theirs]
    first = unlike[0] if unlike else min(len(a), len(b))
    label = f"{name} ({len(unlike)} of {len(a)})" if len(a) == len(b) else name
    yield FieldChange(layer, label, _row_text(a, first), _row_text(b, first))


def _row_text(row: Sequence[object], at: int) -> str:
    shown = f", number {at} is {_text(row[at])}" if at < len(row) else ""
    return f"{len(row)} entries{shown}"


def _text(value: object) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, msgspec.Struct | list | tuple | dict):
        value = msgspec.json.encode(value).decode()
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def normalised(a: Opened, b: Opened) -> Iterator[str]:
    """Say which differences of the files are left out of the comparison unless asked for."""
    if a.compression != b.compression:
        yield f"compression: {a.compression} against {b.compression}"
    if not same_containers(a, b):
        yield f"container: {_formats(a)} against {_formats(b)}"


def _formats(side: Opened) -> str:
    return " in ".join(item.format for item in reversed(side.containers)) or "raw"
