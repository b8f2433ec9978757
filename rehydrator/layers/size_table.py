"""Tables of sizes as the store keeps them: the lowest bytes of all, then the next ones.

The lowest bytes are noise and the highest ones nearly equal; apart from each other they compress better.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from rehydrator.disk.extents import Data
from rehydrator.errors import MismatchError

_WIDTH = array("I").itemsize


def pack(sizes: Sequence[int], width: int) -> bytes:
    """Return the table of sizes that fit into ``width`` bytes."""
    words = _little_endian(array("I", sizes))
    return b"".join(words[plane::_WIDTH] for plane in range(width))


def parse(table: Data, count: int, width: int) -> array[int]:
    """Read a table of ``count`` sizes; raises MismatchError for one of another length."""
    data = bytes(table)
    if len(data) != count * width:
        raise MismatchError("the disk does not fit the table of sizes", expected=len(data) // width, actual=count)
    words = bytearray(count * _WIDTH)
    for plane in range(width):
        words[plane::_WIDTH] = data[plane * count : (plane + 1) * count]
    sizes = array("I", bytes(words))
    if sys.byteorder == "big":
        sizes.byteswap()
    return sizes


def _little_endian(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
