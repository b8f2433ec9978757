"""Damaging bytes and JSON documents at random, but where it hurts."""

from __future__ import annotations

import copy
import random
from typing import Any, TypeAlias

_LINE = 32
_MAX_EDITS = 4
_WIDTHS = (1, 2, 4, 8)
_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 511, 512, 513, 4096, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 62)

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None


class Mutator:
    """Damages one seed again and again; ``order`` decides how."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        lines = range(0, len(seed), _LINE)
        self._hot = [at for at in lines if seed.count(0, at, at + _LINE) != len(seed[at : at + _LINE])] or [0]

    def mutated(self, order: random.Random) -> bytes:
        """Return a damaged copy of the seed."""
        data = bytearray(self.seed)
        for _ in range(order.randint(1, _MAX_EDITS)):
            self._edit(order, data)
        return bytes(data)

    def _place(self, order: random.Random, data: bytearray) -> int:
        """Choose a place, mostly in what is not zero, and there mostly near the start or the end."""
        kind = order.random()
        if kind < 0.3:
            at = order.choice(self._hot[:64]) + order.randrange(_LINE)
        elif kind < 0.5:
            at = order.choice(self._hot[-64:]) + order.randrange(_LINE)
        elif kind < 0.9:
            at = order.choice(self._hot) + order.randrange(_LINE)
        else:
            at = order.randrange(len(data) + 1)
        return min(at, max(len(data) - 1, 0))

    def _edit(self, order: random.Random, data: bytearray) -> None:
        at = self._place(order, data)
        kind = order.random()
        if not data:
            data += order.randbytes(8)
        elif kind < 0.3:
            data[at] ^= 1 << order.randrange(8)
        elif kind < 0.7:
            width = order.choice(_WIDTHS)
            value = order.choice([*_NUMBERS, len(data), len(data) // 512, order.getrandbits(64)])
            value = (value + order.choice([0, 0, 0, -1, 1])) % (1 << 8 * width)
            data[at : at + width] = value.to_bytes(width, order.choice(["little", "big"]))[: len(data) - at]
        elif kind < 0.78:
            data[at : at + 8] = (b"%07o\0" % order.getrandbits(21))[: len(data) - at]
        elif kind < 0.86:
            length = order.choice([1, 16, 512, 4096])
            other = self._place(order, data)
            data[at : at + length] = data[other : other + length]
        elif kind < 0.92:
            del data[at : at + order.choice([1, 4, 512])]
        elif kind < 0.96:
            del data[at:]
        else:
            data += order.choice([b"\0", bytes(512), order.randbytes(100), bytes(data[:512])])


_VALUES: tuple[Json, ...] = (
    0, 1, -1, 2, 9, 255, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1, -(1 << 63), 1 << 64, 1.5, True, None,
    "", "x", "\x00", "\ud7ff", "ÿ" * 300, "../../x", "nonzero", [], {}, [0], [[0, 1]], [[0, 1, 2, 3]],
)  # fmt: skip


def mutated_json(order: random.Random, document: Json) -> Json:
    """Return a copy of a document with other values in some places."""
    made = {"": copy.deepcopy(document)}
    for _ in range(order.randint(1, _MAX_EDITS)):
        _edit_json(order, made)
    return made[""]


def _edit_json(order: random.Random, made: dict[str, Json]) -> None:
    """Go down at random to some place and change what is there."""
    holder: Any = made
    key: Any = ""
    while isinstance(holder[key], dict | list) and holder[key] and order.random() < 0.85:
        holder = holder[key]
        key = order.choice(list(holder)) if isinstance(holder, dict) else order.randrange(len(holder))
    value = holder[key]
    kind = order.random()
    if kind < 0.15 and isinstance(holder, dict | list) and holder is not made:
        del holder[key]
    elif kind < 0.3 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(value))
    elif kind < 0.5 and isinstance(value, int):
        holder[key] = value + order.choice([-1, 1, 2, 1 << 16, 1 << 40])
    else:
        holder[key] = copy.deepcopy(order.choice(_VALUES))
