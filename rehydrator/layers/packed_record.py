"""What records say about compressed chunks, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Patched(msgspec.Struct, frozen=True):
    """``chunks`` of all ``of`` compressed chunks need patches, which have ``literal_bytes`` together."""

    chunks: int
    of: int
    literal_bytes: int


def words(encoder: str, patched: Patched | None, tables: Sequence[str], unit: str) -> str:
    """Say who compressed the chunks, which the format calls ``unit``, and how their sizes are known beforehand."""
    said = f"{unit}s by {encoder}"
    kept = len(tables) > (patched is not None)
    said += ", their sizes in a table" if kept else ", their sizes by compressing first"
    if patched is not None:
        said += f", {patched.chunks:,} of {patched.of:,} patched, {patched.literal_bytes:,} literal bytes"
    return said
