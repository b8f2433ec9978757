"""The canonical's map of non-zero blocks as a blob: distances and lengths in blocks, a JSON list."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.disk.extents import BLOCK, Extent, ExtentMap
from rehydrator.errors import StoreDamagedError
from rehydrator.manifest.text import JSON_ERRORS


def encode_extents(extents: ExtentMap) -> bytes:
    """Return the map as JSON ``[gap, length, gap, length, ...]`` in blocks; compresses to little."""
    numbers: list[int] = []
    at = 0
    for extent in extents:
        length = -(-extent.length // BLOCK)
        numbers += [extent.offset // BLOCK - at, length]
        at = extent.offset // BLOCK + length
    return msgspec.json.encode(numbers)


def decode_extents(data: bytes, size: int) -> ExtentMap:
    """Read what :func:`encode_extents` wrote for a disk of ``size`` bytes."""
    try:
        numbers = msgspec.json.decode(data, type=list[int])
    except JSON_ERRORS as error:
        raise StoreDamagedError(f"extent map can't be read: {error}") from error

    def extents() -> Iterator[Extent]:
        at = 0
        for gap, length in zip(numbers[0::2], numbers[1::2], strict=True):
            start, end = (at + gap) * BLOCK, min((at + gap + length) * BLOCK, size)
            if gap < 0 or length < 1 or end <= start:
                raise StoreDamagedError("impossible extent map", offset=start)
            yield Extent(start, end - start)
            at += gap + length

    if len(numbers) % 2:
        raise StoreDamagedError("extent map with half an entry")
    return ExtentMap(extents())
