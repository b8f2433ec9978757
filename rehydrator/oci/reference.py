"""Names of images in OCI layouts: ``oci:PATH[:TAG]``, as containers-transports(5) has them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rehydrator.errors import UsageError

TRANSPORT = "oci:"


class LayoutReference(msgspec.Struct, frozen=True):
    """An image in a layout on disk; without a tag the only one that is there."""

    path: Path
    tag: str = ""

    def __str__(self) -> str:
        return f"{TRANSPORT}{self.path}" + (f":{self.tag}" if self.tag else "")


def parse_layout(text: str) -> LayoutReference:
    """Return the reference that ``text`` is. Raises UsageError for what is none."""
    path, _, tag = text.removeprefix(TRANSPORT).partition(":")
    if not text.startswith(TRANSPORT) or not path:
        raise UsageError(
            "is no image in an OCI layout", actual=repr(text), expected="oci:DIRECTORY or oci:DIRECTORY:TAG"
        )
    return LayoutReference(Path(path), tag)
