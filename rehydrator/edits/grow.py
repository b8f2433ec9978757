"""``grow``: the disk is longer than its base, as after ``truncate -s``; partitions and backup GPT stay."""

from __future__ import annotations

import msgspec

from rehydrator.disk.source import Padded, Source
from rehydrator.edits.replay import Replay


class Grow(msgspec.Struct, tag="grow", tag_field="op", frozen=True):
    """The new ``size`` in bytes; everything beyond the base is zeros. Always the first edit."""

    size: int

    def grown(self, base: Source) -> Source:
        """Return the base with its tail of zeros."""
        return Padded(base, self.size)

    def apply(self, replay: Replay) -> None:
        """Nothing to write: the tail is zeros."""

    def describe(self) -> str:
        """Name the new size."""
        return f"disk grown to {self.size} bytes"

    def literal_bytes(self) -> int:
        """Return none."""
        return 0
