"""Differences of container records, field by field, whatever the container."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.explain.peel import Opened
from rehydrator.explain.tree import FieldChange

_LONG = 60


def container_changes(a: Opened, b: Opened) -> Iterator[FieldChange]:
    """Yield the fields in which containers of the same format differ, outermost first."""
    if not same_containers(a, b):
        return
    for ours, theirs in zip(a.containers, b.containers, strict=True):
        before, after = msgspec.to_builtins(ours.record), msgspec.to_builtins(theirs.record)
        names = dict.fromkeys([*before, *after])
        for name in names:
            if before.get(name) != after.get(name):
                yield FieldChange(ours.format, name, _text(before.get(name)), _text(after.get(name)))


def same_containers(a: Opened, b: Opened) -> bool:
    """Tell whether both sides lay in the same formats, nested in the same way."""
    return [item.format for item in a.containers] == [item.format for item in b.containers]


def _text(value: object) -> str:
    if value is None:
        return "(default)"
    if isinstance(value, list) and value:
        return f"{len(value)} entries"
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def normalised(a: Opened, b: Opened) -> Iterator[str]:
    """Say which differences of the files are left out of the comparison unless asked for."""
    if a.compression != b.compression:
        yield f"compression: {a.compression} against {b.compression}"
    if not same_containers(a, b):
        yield f"container: {_formats(a)} against {_formats(b)}"


def _formats(side: Opened) -> str:
    return " in ".join(item.format for item in reversed(side.containers)) or "raw"
