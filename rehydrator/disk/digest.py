"""A digest of content for comparing two sources of the same bytes, in time that grows with data, not with size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from rehydrator.disk.extents import CHUNK, Extent, is_zero, merge
from rehydrator.disk.source import Source

_WORD = 8  # bytes of a number


def content_digest(source: Source, seen: Callable[[int], None] | None = None) -> bytes:
    """Return the sha256 of the size and of each piece of :data:`CHUNK` bytes that is not zero, with its place.

    A function of the bytes alone. ``seen`` is told how far it is, in bytes from the last time.
    """
    sha256 = hashlib.sha256(source.size.to_bytes(_WORD, "little"))
    last = 0
    for run in merge(_whole_chunks(extent) for extent in source.extents()):
        for at in range(run.offset, min(run.end, source.size), CHUNK):
            piece = source.read(at, min(CHUNK, source.size - at))
            if not is_zero(piece):
                sha256.update(at.to_bytes(_WORD, "little"))
                sha256.update(piece)
            if seen is not None:
                seen(at - last)
                last = at
    return sha256.digest()


def _whole_chunks(extent: Extent) -> Extent:
    start = extent.offset // CHUNK * CHUNK
    return Extent(start, -(-extent.end // CHUNK) * CHUNK - start)
