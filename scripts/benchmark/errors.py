"""What ends a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark can't go on; the message says why in one sentence."""
