"""Words for telling edits to people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. ``one inode time``, ``9 inode times``."""
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def listed(counts: dict[str, int]) -> list[str]:
    """Return what there is any of, each with its number."""
    return [counted(number, noun) for noun, number in counts.items() if number]
