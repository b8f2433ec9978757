"""Tables of sizes as the store keeps them: the lowest bytes of all, then the next ones.

The lowest bytes are noise and the highest ones nearly equal; apart from each other they compress better.

A container's own tables come before its chunks and need the sizes of all. Without a table of them all chunks are
compressed, into a temporary file, before the first byte can be given out; so a table is kept where that takes long for
its size: :func:`is_worth_keeping`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

import zstandard

from rehydrator.disk.extents import Data
from rehydrator.errors import MismatchError

# What the store may grow by to save a second of waiting for the first byte in each rehydration of the file. For chunks
# of 64 KiB, VMDK's table takes some 400 bytes for that and qcow2's 900 with zlib, and less than twice that with
# zlib-ng; qcow2's with zstd takes 12 KiB, and so does that of clusters of 4 KiB.
BYTES_PER_SECOND = 2048
_LEVEL = 19  # of zstd in the store
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


def is_worth_keeping(table: bytes, seconds: float) -> bool:
    """Tell whether a table costs little, compressed, beside the ``seconds`` that compressing all chunks takes."""
    return len(zstandard.ZstdCompressor(level=_LEVEL).compress(table)) <= BYTES_PER_SECOND * seconds


def _little_endian(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
