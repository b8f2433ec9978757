"""The schema of a manifest: everything that is known about one artifact of a release.

docs/manifest.md describes every field with examples; a test keeps the two together.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from rehydrator.edits.table import Edit
from rehydrator.edits.times import Time
from rehydrator.layers.table import CompressionRecord, LayerRecord
from rehydrator.osmet.record import OsmetRecord
from rehydrator.relocation.verity import HashTree

CANONICAL = "canonical"


class Rung(enum.StrEnum):
    """How well an artifact is understood, best first."""

    EDITS = "edits"
    RELOCATED = "relocated"
    STORED = "stored"


class BlobRef(msgspec.Struct, frozen=True):
    """A blob of the store. ``sha256`` and ``size`` are those of the file, ``content_size`` what it expands to."""

    sha256: str
    size: int
    content_size: int


class Identity(msgspec.Struct, frozen=True):
    """Which artifact of which release this is, in the words of CoreOS stream metadata."""

    platform: str
    arch: str
    format: str
    role: str
    release: str

    @property
    def key(self) -> str:
        """The name of the artifact within its architecture: ``platform.format.role``."""
        return f"{self.platform}.{self.format}.{self.role}"


class File(msgspec.Struct, frozen=True):
    """A file by name, size in bytes and sha256."""

    name: str
    size: int
    sha256: str


class Uncompressed(msgspec.Struct, frozen=True):
    """A file without its outer compression: size in bytes and sha256. Its name is that of the file without suffix."""

    size: int
    sha256: str


class EditedDisk(msgspec.Struct, tag="edits", tag_field="rung", frozen=True, omit_defaults=True):
    """A disk made from ``base`` by ``edits``, in order. Edits refer to ``times`` as ``t0``, ``t1``, ..."""

    base: str
    edits: list[Edit]
    times: list[Time] = []


class Relocated(msgspec.Struct, tag="relocated", tag_field="rung", frozen=True, omit_defaults=True):
    """Bytes copied from ``references`` (the canonical, other artifacts) plus literal ones.

    ``segments`` is a blob with the JSON list of :class:`~rehydrator.relocation.segments.Segment`. ``hash_trees`` are
    computed from the result and laid over it. ``prefix`` is a blob with the map of those blocks of the canonical that
    the compressed literals refer to.
    """

    size: int
    references: list[str]
    segments: BlobRef
    literals: BlobRef | None
    copied: int
    hash_trees: list[HashTree] = []
    prefix: BlobRef | None = None


class Stored(msgspec.Struct, tag="stored", tag_field="rung", frozen=True):
    """Kept whole, compressed."""

    blob: BlobRef


class DerivedOsmet(msgspec.Struct, tag="osmet", tag_field="rung", frozen=True):
    """An osmet file, which follows from the disk ``base`` (the canonical, another artifact) but for ``record``."""

    base: str
    record: OsmetRecord


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """``size`` bytes of a content that is made of several: ``layers``, outermost first, around ``body``.

    ``notes`` are as those of a :class:`Manifest`.
    """

    size: int
    body: Body
    layers: list[LayerRecord] = []
    notes: list[str] = []


class Parts(msgspec.Struct, tag="parts", tag_field="rung", frozen=True):
    """Parts one behind the other, each told by itself: the files of an archive."""

    parts: list[Part]


Body: TypeAlias = EditedDisk | Relocated | Stored | DerivedOsmet | Parts


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One artifact.

    ``shipped`` is the file as published, ``uncompressed`` what it holds where the release publishes a sha256 for that:
    then this is what rehydration gives back, unless asked for the shipped file: ``compression`` tells how to make that,
    where it is known. ``layers`` lie around ``body``, outermost first. ``notes`` are for people: what stood in the way
    of telling more when the store was made.
    """

    version: str
    artifact: Identity
    shipped: File
    uncompressed: Uncompressed | None = None
    compression: CompressionRecord | None = None
    layers: list[LayerRecord] = []
    body: Body
    blobs: list[BlobRef] = []
    notes: list[str] = []

    @property
    def content(self) -> File:
        """The file that rehydration gives back: uncompressed where there is a digest for that, else as shipped."""
        if self.uncompressed is None:
            return self.shipped
        suffix = "." + self.artifact.format.rpartition(".")[2]
        return File(self.shipped.name.removesuffix(suffix), self.uncompressed.size, self.uncompressed.sha256)

    @property
    def peeled(self) -> bool:
        """Whether ``content`` lacks the outer compression of ``shipped``."""
        return self.uncompressed is not None

    @property
    def exact(self) -> bool:
        """Whether the store gives the bytes of ``shipped`` back, and not only its content."""
        return not self.peeled or self.compression is not None

    @property
    def rung(self) -> Rung:
        """The rung that the body stands on."""
        match self.body:
            case EditedDisk():
                return Rung.EDITS
            case Stored():
                return Rung.STORED
        return Rung.RELOCATED


def literal_bytes(body: Body) -> int:
    """Bytes that the store carries for ``body`` without naming their cause."""
    match body:
        case EditedDisk():
            return sum(edit.literal_bytes() for edit in body.edits)
        case Relocated():
            return body.literals.content_size if body.literals else 0
        case Stored():
            return body.blob.content_size
        case DerivedOsmet():
            return body.record.literal_bytes()
        case Parts():
            return sum(literal_bytes(part.body) for part in body.parts)


def references_of(body: Body) -> set[str]:
    """Return the artifacts that ``body`` is told from, by key; the canonical is none."""
    match body:
        case EditedDisk(base=base) | DerivedOsmet(base=base):
            names = {base}
        case Relocated():
            names = set(body.references)
        case Stored():
            names = set()
        case Parts():
            names = {name for part in body.parts for name in references_of(part.body)}
    return names - {CANONICAL}


def notes_of(manifest: Manifest) -> list[str]:
    """Return the notes of a manifest, then those of its parts."""
    return [*manifest.notes, *_notes_of_parts(manifest.body)]


def _notes_of_parts(body: Body) -> Iterator[str]:
    if isinstance(body, Parts):
        for part in body.parts:
            yield from part.notes
            yield from _notes_of_parts(part.body)


class Pieces(msgspec.Struct, frozen=True):
    """A file cut into pieces of ``size`` bytes, the last one less: ``digests`` has the sha256 of each, 32 bytes."""

    size: int
    digests: BlobRef


class CanonicalRef(msgspec.Struct, frozen=True):
    """The canonical disk of an architecture: its file in the store, its content, its map of non-zero blocks.

    ``pieces`` are those of the file, for who fetches parts of it.
    """

    file: File
    content: File
    extents: BlobRef
    pieces: Pieces | None = None

    @property
    def blobs(self) -> list[BlobRef]:
        """All blobs that belong to it."""
        return [self.extents] if self.pieces is None else [self.extents, self.pieces.digests]


class ArchIndex(msgspec.Struct, frozen=True):
    """All that the store has for one architecture; ``manifests`` are files relative to the store."""

    release: str
    canonical: CanonicalRef
    manifests: list[File]


UNSEALED = "0" * 64


class StoreIndex(msgspec.Struct, frozen=True, kw_only=True):
    """``store.json``: pins every other file of the store by its sha256, and itself by ``seal``.

    ``seal`` is the sha256 of the file with 64 zeros in its place.
    """

    format: Literal["rehydrator-store"] = "rehydrator-store"
    version: str
    architectures: dict[str, ArchIndex]
    stream: File | None = None
    signatures: list[File] = []
    seal: str = UNSEALED
