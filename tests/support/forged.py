"""Edits whose values someone changed by hand."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator
from typing import Any

_NUMBERS = [-1, 0, 1, 255, 4096, (1 << 31) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
_TEXTS = ["", "0x", "0xzz", "0x00", "x" * 5000, "é/\0", "t7", "t999999"]


def forged(plain: dict[str, Any], choice: random.Random, *, texts: bool = False) -> dict[str, Any]:
    """Return a copy of an edit's JSON in which one number, or text where ``texts`` says so, is another one."""
    result = copy.deepcopy(plain)
    places = list(_values(result, (int, str) if texts else (int,)))
    holder, key = choice.choice(places)
    holder[key] = choice.choice(_TEXTS if isinstance(holder[key], str) else _NUMBERS)
    return result


def _values(value: dict[str, Any] | list[Any], kinds: tuple[type, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield the list or object that holds a value, and where in it; the op itself stays."""
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, kinds) and key != "op":
            yield value, key
        elif isinstance(item, (dict, list)):
            yield from _values(item, kinds)
