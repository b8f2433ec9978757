"""Artifacts and releases as the rest of the program sees them, wherever they were described."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rehydrator.manifest.schema import Identity
from rehydrator.release.formats import Format, parse_format


class Artifact(msgspec.Struct, frozen=True):
    """One file of a release on this machine. Digests are sha256 in hexadecimal, sizes are in bytes.

    ``title`` is the name under which it was released, where it lies under another one.
    """

    identity: Identity
    path: Path
    sha256: str
    size: int | None = None
    uncompressed_sha256: str | None = None
    uncompressed_size: int | None = None
    signature: Path | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """The name under which the file was released."""
        return self.title or self.path.name

    @property
    def format(self) -> Format:
        """The format of the file."""
        return parse_format(self.identity.format)

    @property
    def peeled(self) -> bool:
        """Whether the outer compression is taken off: the release promises a digest for the file without it.

        That of the canonical is in any case, because all others are told from the disk in it.
        """
        promised = self.uncompressed_sha256 is not None or self.is_canonical
        return promised and self.format.compression != "none"

    @property
    def content_container(self) -> str:
        """The container format of the content; empty where a compression that has to stay hides it."""
        return self.format.container if self.peeled or self.format.compression == "none" else ""

    @property
    def content_name(self) -> str:
        """Name of the file that rehydration gives back."""
        return self.name.removesuffix(self.format.suffix) if self.peeled else self.name

    @property
    def is_canonical(self) -> bool:
        """Whether this is the metal raw disk, from which all others are told."""
        return (self.identity.platform, self.format.container, self.identity.role) == ("metal", "raw", "disk")


class Release(msgspec.Struct, frozen=True):
    """The artifacts of one build for one architecture."""

    arch: str
    release: str
    artifacts: tuple[Artifact, ...]


class Inputs(msgspec.Struct, frozen=True):
    """Releases, the stream metadata that came with them, if any, and what was left out of them."""

    releases: tuple[Release, ...]
    stream: bytes | None = None
    notes: tuple[str, ...] = ()
