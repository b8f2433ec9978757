"""What replaying a manifest may ask a store for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from rehydrator.disk.source import Source
from rehydrator.manifest.schema import BlobRef, Manifest


class Signature(msgspec.Struct, frozen=True):
    """A detached signature, verbatim: the name of its file, and its bytes."""

    name: str
    data: bytes


class Prefix(msgspec.Struct, frozen=True):
    """Blocks of an architecture's canonical that the frames of a blob refer to; ``blocks`` has their map."""

    arch: str
    blocks: BlobRef


class Depot(Protocol):
    """A store, or one in the making."""

    def canonical(self, arch: str) -> Source:
        """Return the canonical disk of an architecture, shared by all callers."""
        ...

    def manifest_by_key(self, arch: str, key: str) -> Manifest:
        """Return the manifest of another artifact."""
        ...

    def content(self, manifest: Manifest, make: Callable[[], Source]) -> Source:
        """Return an artifact's content: what ``make`` opens, or what another caller had it open."""
        ...

    def small_blob(self, ref: BlobRef) -> bytes:
        """Return the whole, verified content of a blob."""
        ...

    def large_blob(self, ref: BlobRef, prefix: Prefix | None = None) -> Source:
        """Return a blob's content for random access; ``prefix`` is what its frames refer to."""
        ...

    def signature(self, manifest: Manifest) -> Signature | None:
        """Return the signature of an artifact's shipped file, None where the release had none."""
        ...
