"""Blobs in memory."""

from __future__ import annotations


class Blobs:
    """Takes content and names it by its number."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def put(self, content: bytes) -> str:
        """Keep ``content``; return its name."""
        name = f"{len(self.content):064x}"
        self.content[name] = content
        return name
