"""What every edit provides, and the places where it may keep bytes."""

from __future__ import annotations

from typing import Protocol

from rehydrator.disk.overlay import Overlay


class BlobReader(Protocol):
    """Gives the content of a blob by its name."""

    def blob(self, name: str) -> bytes:
        """Return the verified content of blob ``name``."""
        ...


class BlobWriter(Protocol):
    """Takes content and names it."""

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its name."""
        ...


class Edit(Protocol):
    """One named change, replayed on an overlay over the base disk."""

    def apply(self, disk: Overlay, blobs: BlobReader) -> None:
        """Make the change."""
        ...

    def describe(self) -> str:
        """Say in a few words what the change is."""
        ...

    def literal_bytes(self) -> int:
        """Return how many bytes the edit carries without explaining them."""
        ...
