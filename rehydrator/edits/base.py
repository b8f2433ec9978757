"""What every edit provides, and the places where it may keep bytes."""

from __future__ import annotations

from typing import Protocol

from rehydrator.edits.replay import Replay


class BlobWriter(Protocol):
    """Takes content and names it."""

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its name."""
        ...


class Edit(Protocol):
    """One named change of a disk."""

    def apply(self, replay: Replay) -> None:
        """Make the change."""
        ...

    def describe(self) -> str:
        """Say in a few words what the change is; the partition is told by whoever asks."""
        ...

    def literal_bytes(self) -> int:
        """Return how many bytes the edit carries without explaining them."""
        ...
