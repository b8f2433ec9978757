"""A store as an OCI artifact: its index is the config, and each of its other files is a layer, as it is.

The digest of a layer is therefore the sha256 by which the store pins the file: whoever trusts the artifact's digest
trusts the store, releases share what they have in common, and any file can be fetched on its own.
Source: OCI image-spec 1.1, ``manifest.md``, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import enum
from pathlib import Path

from rehydrator.errors import UnsupportedError
from rehydrator.manifest.schema import File
from rehydrator.oci.c_oci import Annotation, Descriptor, Manifest
from rehydrator.oci.digest import digest_of_sha256
from rehydrator.oci.labels import created_of, labels_of
from rehydrator.store.layout import BLOBS, INDEX, SIGNATURES, STREAM
from rehydrator.store.reader import Store

ARTIFACT_TYPE = "application/vnd.rehydrator.store.v1"


class FileType(enum.StrEnum):
    """The media types of a store's files."""

    INDEX = "application/vnd.rehydrator.store.v1+json"
    STREAM = "application/vnd.rehydrator.stream.v1+json"
    SIGNATURE = "application/pgp-signature"
    CANONICAL = "application/vnd.rehydrator.canonical.v1+zstd"
    MANIFEST = "application/vnd.rehydrator.manifest.v1+json"
    BLOB = "application/vnd.rehydrator.blob.v1+zstd"


_TYPES = {
    INDEX: FileType.INDEX,
    STREAM: FileType.STREAM,
    SIGNATURES: FileType.SIGNATURE,
    BLOBS: FileType.BLOB,
}  # by the first part of a file's path; the others begin with an architecture


def artifact_of(store: Store, files: list[File], created: int | None) -> Manifest:
    """Return the artifact's manifest: a function of the store and of ``created``, seconds since the epoch or None.

    ``files`` are those of the store without its index.
    """
    index = descriptor_of(store.index_file)
    return Manifest(
        artifact_type=ARTIFACT_TYPE,
        config=index,
        layers=[descriptor_of(file) for file in files],
        annotations=labels_of(store, created_of(store, created)),
    )


def descriptor_of(file: File) -> Descriptor:
    """Return the descriptor of a file of a store; its path in the store is the title."""
    return Descriptor(
        media_type=_type_of(file.name),
        digest=digest_of_sha256(file.sha256),
        size=file.size,
        annotations={Annotation.TITLE.value: file.name},
    )


def _type_of(name: str) -> FileType:
    first, _, rest = name.partition("/")
    if first in _TYPES:
        return _TYPES[first]
    return FileType.MANIFEST if rest.startswith("manifests/") else FileType.CANONICAL


def index_of(manifest: Manifest, path: Path) -> Descriptor:
    """Return the descriptor of the store's index in the artifact ``path``. Raises UnsupportedError for others."""
    if manifest.config.media_type != FileType.INDEX:
        raise UnsupportedError(
            "is no rehydrator store", path=path, expected=FileType.INDEX.value, actual=manifest.config.media_type[:90]
        )
    return manifest.config
