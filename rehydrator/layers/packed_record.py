"""What records say about compressed chunks, whatever the format."""

from __future__ import annotations

import msgspec


class Patched(msgspec.Struct, frozen=True):
    """``chunks`` of all ``of`` compressed chunks need patches, which have ``literal_bytes`` together."""

    chunks: int
    of: int
    literal_bytes: int


def words(encoder: str, patched: Patched | None, unit: str) -> str:
    """Say who compressed the chunks, which the format calls ``unit``."""
    said = f"{unit}s by {encoder}"
    if patched is not None:
        said += f", {patched.chunks:,} of {patched.of:,} patched, {patched.literal_bytes:,} literal bytes"
    return said
