"""CoreOS stream metadata: what a stream's artifacts are, with local files beside it.

Source: https://github.com/coreos/stream-metadata-go (``stream/stream.go``).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from rehydrator.errors import InputError, UsageError
from rehydrator.manifest.schema import Identity
from rehydrator.manifest.text import decode
from rehydrator.release.artifact import Artifact, Release
from rehydrator.release.document import read_document


class _File(msgspec.Struct, rename="kebab"):
    location: str
    sha256: str
    signature: str = ""
    uncompressed_sha256: str | None = None


class _Platform(msgspec.Struct):
    release: str
    formats: dict[str, dict[str, _File]]


class _Arch(msgspec.Struct):
    artifacts: dict[str, _Platform]


class _Stream(msgspec.Struct):
    stream: str
    architectures: dict[str, _Arch]


class _Metadata(msgspec.Struct, frozen=True, rename="kebab"):
    last_modified: str = ""


class _Head(msgspec.Struct):
    stream: str
    metadata: _Metadata = _Metadata()


class _Released(msgspec.Struct):
    release: str


class _ArchReleases(msgspec.Struct):
    artifacts: dict[str, _Released] = {}


class _Releases(msgspec.Struct):
    architectures: dict[str, _ArchReleases] = {}


class Listed(msgspec.Struct, frozen=True):
    """A file that stream metadata lists; ``signature`` is the address of its detached signature, "" for none."""

    identity: Identity
    name: str
    location: str
    sha256: str
    signature: str = ""
    uncompressed_sha256: str | None = None


class StreamFacts(msgspec.Struct, frozen=True):
    """What stream metadata says of itself: the stream's name and, in the form of RFC 3339, when it was written."""

    stream: str
    last_modified: str


def stream_facts(document: bytes, path: Path) -> StreamFacts:
    """Read what a stream metadata document, which lies at ``path``, says of itself."""
    head = decode(document, _Head, path)
    return StreamFacts(head.stream, head.metadata.last_modified)


def listed_releases(document: bytes, path: Path) -> dict[str, frozenset[str]]:
    """Return the names of the releases that a stream metadata document lists, by architecture; it lies at ``path``."""
    releases = decode(document, _Releases, path)
    return {
        arch: frozenset(item.release for item in content.artifacts.values())
        for arch, content in releases.architectures.items()
    }


def list_stream(document: bytes, path: Path) -> list[Listed]:
    """Return all files that a stream metadata document, which lies at ``path``, lists, by architecture."""
    stream = decode(document, _Stream, path)
    return [
        _listed(file, Identity(platform, arch, suffix, role, item.release), path)
        for arch, content in stream.architectures.items()
        for platform, item in content.artifacts.items()
        for suffix, roles in item.formats.items()
        for role, file in roles.items()
    ]


def _listed(file: _File, identity: Identity, path: Path) -> Listed:
    name = PurePosixPath(unquote(urlsplit(file.location).path)).name
    if not name or name in {".", ".."}:
        raise InputError("a location has no file name", path=path, actual=file.location)
    return Listed(identity, name, file.location, file.sha256, file.signature, file.uncompressed_sha256)


def read_stream(path: Path) -> list[Release]:
    """Read the releases whose files lie near the stream metadata file ``path``.

    A file is looked for beside it and, as in a build directory, under ``builds/<release>/<arch>/``. An
    architecture of which no file is there is passed over; one of which only some are there is an error.
    """
    return local_releases(list_stream(read_document(path), path), path)


def local_releases(listed: list[Listed], path: Path) -> list[Release]:
    """Return the releases of these files, which lie near the stream metadata file ``path``, likewise."""
    releases = []
    for arch in dict.fromkeys(item.identity.arch for item in listed):
        artifacts = tuple(_artifact(item, path.parent) for item in listed if item.identity.arch == arch)
        missing = [artifact.path.name for artifact in artifacts if not artifact.path.is_file()]
        if len(missing) == len(artifacts):
            continue
        if missing:
            raise InputError(
                f"{len(missing)} of {len(artifacts)} files for {arch} are not here",
                path=path,
                actual=", ".join(missing[:5]) + (" …" if len(missing) > 5 else ""),
            )
        releases.append(Release(arch, artifacts[0].identity.release, artifacts))
    if not releases:
        raise InputError("none of the files it names are here", path=path, hint="Put it beside the downloaded files")
    return releases


def build_path(root: Path, identity: Identity, name: str) -> Path:
    """Return where a build directory below ``root`` has a file."""
    return root / "builds" / identity.release / identity.arch / name


def _artifact(listed: Listed, root: Path) -> Artifact:
    nested = build_path(root, listed.identity, listed.name)
    path = nested if nested.is_file() else root / listed.name
    signature = path.with_name(listed.name + ".sig")
    return Artifact(
        identity=listed.identity,
        path=path,
        sha256=listed.sha256,
        uncompressed_sha256=listed.uncompressed_sha256,
        signature=signature if signature.is_file() else None,
    )


def merge_streams(documents: list[bytes]) -> bytes | None:
    """Return the one stream metadata document of several inputs.

    A single document, or equal ones, stay verbatim; documents of different architectures are joined.
    """
    distinct = list(dict.fromkeys(documents))
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    joined: dict[str, Any] = msgspec.json.decode(distinct[0])
    for document in distinct[1:]:
        other = msgspec.json.decode(document)
        both = joined["architectures"].keys() & other["architectures"].keys()
        if other.get("stream") != joined.get("stream") or both:
            raise UsageError(
                "the inputs bring stream metadata that can't be joined",
                actual=f"streams {joined.get('stream')} and {other.get('stream')}, both with {sorted(both)}",
            )
        joined["architectures"].update(other["architectures"])
    return msgspec.json.format(msgspec.json.encode(joined), indent=4)
