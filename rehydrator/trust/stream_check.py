"""Stream metadata against manifests: the link from what a store gives back to what was published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rehydrator.errors import MismatchError
from rehydrator.manifest.schema import Manifest
from rehydrator.release.stream import Listed, list_stream


class StreamCheck:
    """Compares manifests with a stream metadata document, which lies at ``path``."""

    def __init__(self, document: bytes, path: Path) -> None:
        self._path = path
        self._listed = {_key(item.identity.arch, item.identity.key): item for item in list_stream(document, path)}

    def lists(self, manifest: Manifest) -> bool:
        """Whether the document lists an artifact of this platform, format and role."""
        return _key(manifest.artifact.arch, manifest.artifact.key) in self._listed

    def check(self, manifest: Manifest) -> None:
        """Raise MismatchError where the document says something else than the manifest."""
        key = _key(manifest.artifact.arch, manifest.artifact.key)
        listed = self._listed.get(key)
        if listed is None:
            raise MismatchError(f"does not list {key}, which the store has", path=self._path)
        for what, expected, actual in _facts(listed, manifest):
            if expected != actual:
                raise MismatchError(
                    f"another {what} of {key} than the manifest's", path=self._path, expected=expected, actual=actual
                )

    def missing(self, manifests: Sequence[Manifest]) -> list[str]:
        """Return the artifacts that the document lists for the architectures of these manifests, which lack them."""
        there = {_key(item.artifact.arch, item.artifact.key) for item in manifests}
        arches = {item.artifact.arch for item in manifests}
        return [key for key, item in self._listed.items() if item.identity.arch in arches and key not in there]


def _key(arch: str, key: str) -> str:
    return f"{arch} {key}"


def _facts(listed: Listed, manifest: Manifest) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield what both tell: what it is, the manifest's word for it, and the stream's."""
    uncompressed = manifest.uncompressed.sha256 if manifest.uncompressed else None
    yield "release", manifest.artifact.release, listed.identity.release
    yield "name", manifest.shipped.name, listed.name
    yield "sha256", manifest.shipped.sha256, listed.sha256
    if uncompressed is not None and listed.uncompressed_sha256 is not None:  # it may be ours, and not promised
        yield "uncompressed-sha256", uncompressed, listed.uncompressed_sha256
