"""Disks that compress: words, holes and noise, made from nothing but a seed."""

from __future__ import annotations

import random


def compressible(seed: int, size: int, noise: float = 0.1, holes: float = 0.3) -> bytes:
    """Return ``size`` bytes of repeated words; shares of the pieces are random ``noise`` or zeros (``holes``)."""
    source = random.Random(seed)
    words = [source.randbytes(source.randrange(2, 20)) for _ in range(200)]
    disk = bytearray()
    while len(disk) < size:
        kind = source.random()
        if kind < noise:
            disk += source.randbytes(source.randrange(1, 70_000))
        elif kind < noise + holes:
            disk += bytes(source.randrange(1, 300_000))
        else:
            disk += b"".join(source.choices(words, k=source.randrange(1, 8000)))
    return bytes(disk[:size])
