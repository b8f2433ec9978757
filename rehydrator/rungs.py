"""From an artifact's content to its manifest, on the best rung that holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from rehydrator.codecs import seekable
from rehydrator.disk.extents import BLOCK, CHUNK, Data
from rehydrator.disk.gpt import PartitionTable, read_table, whole_disk
from rehydrator.disk.source import Padded, Source
from rehydrator.edits import blocks
from rehydrator.edits.grow import Grow
from rehydrator.edits.recognise import recognise
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.table import Edit, blob_of
from rehydrator.engines.direct import edited_disk
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.intake.intake import Content
from rehydrator.layers.table import LayerRecord, format_of
from rehydrator.manifest.schema import (
    CANONICAL,
    BlobRef,
    Body,
    EditedDisk,
    Manifest,
    Relocated,
    Stored,
    Uncompressed,
    literal_bytes,
)
from rehydrator.manifest.text import encode
from rehydrator.manifest.version import MANIFEST_VERSION
from rehydrator.proof import Proof, TakenOff, prove
from rehydrator.release.formats import RAW_CONTAINERS
from rehydrator.relocation.finder import ContentIndex, find
from rehydrator.relocation.segments import LITERAL, Segment
from rehydrator.store.blobs import BlobWriter

# A sibling differs in some 20 blocks, one that was edited twice in some 540, one formatted separately in 95 %.
MAX_DIFFERING_BLOCKS = 4096
_MAX_DIFFERING_SHARE = 0.5
# Below this share of copied bytes a dependency on other files is not worth its trouble.
_MIN_COPIED = 0.02
_MAX_LAYERS = 6


class Peeled(msgspec.Struct, frozen=True):
    """Content without the containers that could be taken off: ``layers`` outermost first, around ``disk``.

    Where one could not be taken off, ``container`` is its format and ``note`` says why. ``proof`` is that of the
    compressing ones among the layers.
    """

    content: Content
    disk: Source
    layers: tuple[LayerRecord, ...] = ()
    tables: tuple[BlobRef, ...] = ()
    note: str = ""
    container: str = ""
    proof: Proof | None = None

    @property
    def is_disk(self) -> bool:
        """Whether all containers were taken off and what is left may be a disk."""
        return not self.container and (bool(self.layers) or self.content.artifact.content_container in RAW_CONTAINERS)


class Base(msgspec.Struct, frozen=True):
    """A disk that others are told from: the canonical, or that of the artifact called ``name``."""

    source: Source
    table: PartitionTable
    name: str = CANONICAL


def canonical_of(content: Content) -> Base:
    """Read the partition table of the metal raw disk; one that is damaged is no table."""
    try:
        table = read_table(content.source)
    except CorruptError:
        table = whole_disk(content.source)
    return Base(content.source, table)


def peel(content: Content, blobs: BlobWriter) -> Peeled:
    """Take off the containers that can be put on again exactly, outermost first."""
    disk: Source = content.source
    taken: list[TakenOff] = []
    tables: list[BlobRef] = []
    note = container = ""
    while len(taken) < _MAX_LAYERS and (found := format_of(disk)) is not None:
        try:
            unwrapped = found.layer.unwrap(disk, content.artifact.path)
        except (UnsupportedError, CorruptError) as error:
            note, container = str(error), found.name
            break
        refs = [blobs.refs[blobs.put(table)] for table in unwrapped.tables]
        record = unwrapped.record
        if refs:
            record = msgspec.structs.replace(record, tables=[ref.sha256 for ref in refs])
        taken.append(TakenOff(disk, found.layer, unwrapped, record))
        tables += refs
        disk = unwrapped.inner
        if found.inside == "tree":  # what follows is many files
            break
    layers = tuple(item.record for item in taken)
    return Peeled(content, disk, layers, tuple(tables), note=note, container=container, proof=prove(taken))


def by_edits(peeled: Peeled, base: Base, blobs: BlobWriter) -> Manifest | None:
    """Tell a disk as edits of a base; None for what is no disk or of another lineage."""
    disk = peeled.disk
    if not peeled.is_disk or disk.size < base.source.size:
        return None
    edits: list[Edit] = []
    source = base.source
    if disk.size > source.size:
        edits.append(Grow(disk.size))
        source = Padded(source, disk.size)
    limit = min(MAX_DIFFERING_BLOCKS, int(_MAX_DIFFERING_SHARE * disk.nonzero().total / BLOCK) + 1)
    differing = list(itertools.islice(blocks.differing_blocks(source, disk), limit + 1))
    if len(differing) > limit:
        return None
    found = recognise(source, disk, base.table, differing, blobs)
    edits += found.edits
    refs = [blobs.refs[name] for edit in found.edits if (name := blob_of(edit))]
    return _manifest(peeled, EditedDisk(base.name, edits, found.times), refs)


def base_of(manifest: Manifest, canonical: Base, blobs: BlobReader) -> Base | None:
    """Return the disk of an artifact as a base for those that were made from it; ``blobs`` reads by name."""
    match manifest.body:
        case EditedDisk(base=name) as body if name == CANONICAL:
            return Base(edited_disk(canonical.source, body, blobs), canonical.table, manifest.artifact.key)
    return None


def relocated_bases(peeled: Peeled) -> Iterator[Base]:
    """Yield the disk that was told by relocation as a base for those that were made from it; nothing for no disk."""
    if peeled.is_disk:
        with suppress(CorruptError):
            yield Base(peeled.disk, read_table(peeled.disk), peeled.content.artifact.identity.key)


def by_cheapest(peeled: Peeled, bases: Iterable[Base], blobs: BlobWriter) -> Manifest | None:
    """Tell a disk from the one of ``bases`` that leaves the fewest bytes without a name, then the fewest at all.

    The disk itself is not taken as its base. None where it comes from none of them.
    """
    key = peeled.content.artifact.identity.key
    told = [by_edits(peeled, base, blobs) for base in bases if base.name != key]
    return min((item for item in told if item is not None), key=_cost, default=None)


def _cost(manifest: Manifest) -> tuple[int, int]:
    return literal_bytes(manifest), len(encode(manifest))


class Relocator:
    """Finds content in the canonical and in the artifacts that came before."""

    def __init__(self, canonical: Source, blobs: BlobWriter, *, level: int, threads: int) -> None:
        self._index = ContentIndex()
        self._index.add(canonical)
        self._names = [CANONICAL]
        self._blobs = blobs
        self._level = level
        self._threads = threads

    def by_relocation(self, peeled: Peeled) -> Manifest | None:
        """Tell the content as copies plus literals; None where next to nothing is found."""
        disk = peeled.disk
        segments = find(disk, self._index)
        copied = sum(segment.length for segment in segments if segment.reference != LITERAL)
        literal = sum(segment.length for segment in segments if segment.reference == LITERAL)
        if copied < _MIN_COPIED * (copied + literal) or copied < BLOCK:
            return None
        used = sorted({segment.reference for segment in segments} - {LITERAL})
        numbers = {LITERAL: LITERAL, **{reference: number for number, reference in enumerate(used)}}
        table = [Segment(item.offset, item.length, numbers[item.reference], item.at) for item in segments]
        table_ref = self._blobs.refs[self._blobs.put(msgspec.json.encode(table))]
        refs = [table_ref]
        literals: BlobRef | None = None
        if literal:
            literals = self._put(_literal_frames(disk, segments), literal)
            refs.append(literals)
        names = [self._names[reference] for reference in used]
        return _manifest(peeled, Relocated(disk.size, names, table_ref, literals, copied), refs)

    def whole(self, content: Content) -> Manifest:
        """Keep the content as it is, compressed."""
        return whole(content, self._blobs, level=self._level, threads=self._threads)

    def add_reference(self, content: Content) -> None:
        """Let later artifacts be told from this one's content."""
        self._index.add(content.source)
        self._names.append(content.artifact.identity.key)

    def _put(self, frames: seekable.Pieces, size: int) -> BlobRef:
        return self._blobs.put_stream(frames, size, level=self._level, threads=self._threads)


def _literal_frames(disk: Source, segments: list[Segment]) -> Iterator[Data]:
    """Yield the literal segments' bytes in pieces of one frame."""
    pending = bytearray()
    for segment in segments:
        if segment.reference != LITERAL:
            continue
        for at in range(segment.offset, segment.end, CHUNK):
            pending += disk.read(at, min(CHUNK, segment.end - at))
            while len(pending) >= seekable.FRAME:
                yield bytes(pending[: seekable.FRAME])
                del pending[: seekable.FRAME]
    if pending:
        yield bytes(pending)


def whole(content: Content, blobs: BlobWriter, *, level: int, threads: int) -> Manifest:
    """Keep content as it is, compressed: the rung that always holds."""
    frames = seekable.frames_of(content.source)
    ref = blobs.put_stream(frames, content.source.size, level=level, threads=threads)
    return _manifest(Peeled(content, content.source), Stored(ref), [ref])


def canonical_manifest(content: Content) -> Manifest:
    """Return the manifest of the canonical's own artifact: no edits."""
    return _manifest(Peeled(content, content.source), EditedDisk(CANONICAL, []), [])


def _manifest(peeled: Peeled, body: Body, blobs: list[BlobRef]) -> Manifest:
    content = peeled.content
    artifact = content.artifact
    return Manifest(
        version=MANIFEST_VERSION,
        artifact=artifact.identity,
        shipped=content.shipped,
        uncompressed=Uncompressed(content.content.size, content.content.sha256) if artifact.peeled else None,
        compression=content.compression,
        layers=list(peeled.layers),
        body=body,
        blobs=list(dict.fromkeys([*blobs, *peeled.tables])),
    )
