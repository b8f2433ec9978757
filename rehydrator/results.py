"""What commands tell as JSON, besides the reports of list, info, check and explain; see docs/json.md."""

from __future__ import annotations

import msgspec

from rehydrator.destination import Written
from rehydrator.report import ArtifactReport
from rehydrator.verify import Finding

SCHEMA = 1


class RehydrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``rehydrate``: what was written, signatures included."""

    schema: int = SCHEMA
    files: list[Written]


class SynthesisResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``synthesize``: the file, and the edits that made its disk, in words."""

    schema: int = SCHEMA
    file: Written
    edits: list[str]


class VerificationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``verify``: every file and artifact that was looked at."""

    schema: int = SCHEMA
    right: bool
    findings: list[Finding]


class DehydrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``build dehydrate`` and ``build run``: the store, its size in bytes, and what is in it."""

    schema: int = SCHEMA
    store: str
    size: int
    artifacts: list[ArtifactReport]
    notes: list[str]


class BeginningResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``build init``: the stream, where its metadata came from, and the files that it lists."""

    schema: int = SCHEMA
    stream: str
    source: str
    files: list[ListedFile]


class ListedFile(msgspec.Struct, frozen=True):
    """A file that a stream lists."""

    name: str
    arch: str
    release: str
    sha256: str


class DownloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``build download``: the files that are here, all of which have the right sha256."""

    schema: int = SCHEMA
    files: list[DownloadedFile]


class DownloadedFile(msgspec.Struct, frozen=True):
    """A file that is here; ``signer`` is the fingerprint of who signed it, null where that was not checked."""

    name: str
    sha256: str
    signer: str | None


class ImageResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``push`` and ``build image``: where it is, and the digest that names it."""

    schema: int = SCHEMA
    reference: str
    digest: str


class StoreResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``pull``: the store that is here now, its architectures, and its size in bytes."""

    schema: int = SCHEMA
    store: str
    architectures: list[str]
    size: int


class DocumentsResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``build attest``: the paths of the files that were written."""

    schema: int = SCHEMA
    files: list[str]
