"""From an artifact's content to its manifest, on the best rung that holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from rehydrator.codecs import seekable
from rehydrator.disk.extents import BLOCK
from rehydrator.disk.gpt import PartitionTable, read_table, whole_disk
from rehydrator.disk.source import Padded, Source
from rehydrator.edits import blocks
from rehydrator.edits.grow import Grow
from rehydrator.edits.recognise import recognise
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.table import Edit, blob_of
from rehydrator.engines.direct import edited_disk
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.erofs.superblock import compressions, is_erofs, read_superblock
from rehydrator.intake.intake import Content
from rehydrator.layers.table import LayerRecord, format_for, format_of
from rehydrator.manifest.schema import (
    CANONICAL,
    BlobRef,
    Body,
    EditedDisk,
    Manifest,
    Stored,
    Uncompressed,
    literal_bytes,
)
from rehydrator.manifest.text import encode
from rehydrator.manifest.version import MANIFEST_VERSION
from rehydrator.proof import Proof, TakenOff, prove
from rehydrator.release.formats import RAW_CONTAINERS
from rehydrator.store.blobs import BlobWriter

# A sibling differs in some 20 blocks, one that was edited twice in some 540, one formatted separately in 95 %.
MAX_DIFFERING_BLOCKS = 4096
_MAX_DIFFERING_SHARE = 0.5
# What edits may take in the store: those of siblings take some kilobytes, of a disk that was formatted separately more
# than relocation does, and nobody reads them.
_MAX_TOLD = 64 << 10
_MAX_LAYERS = 6
_DENSE = 0.98  # of its size after compression


class Bare(msgspec.Struct, frozen=True):
    """What is left of a file, ``inner``, without the containers that could be taken off, outermost first.

    ``tables`` are the containers' blobs. ``cuts`` are the sizes of the files that ``inner`` consists of, if the last
    container is an archive. Where one could not be taken off, ``container`` is its format. ``notes`` say why, and what
    else a person should know about how the content is kept.
    """

    inner: Source
    taken: list[TakenOff] = []
    tables: list[BlobRef] = []
    cuts: tuple[int, ...] = ()
    notes: list[str] = []
    container: str = ""

    @property
    def layers(self) -> list[LayerRecord]:
        """The records of the containers."""
        return [item.record for item in self.taken]

    @property
    def many_files(self) -> bool:
        """Whether what is left is the content of many files, which an archive or a file system held."""
        return bool(self.cuts) or any(format_for(record).inside == "tree" for record in self.layers)


class Peeled(msgspec.Struct, frozen=True):
    """An artifact's content and what is left of it; ``proof`` is that of its compressing containers."""

    content: Content
    bare: Bare
    proof: Proof | None = None

    @property
    def disk(self) -> Source:
        """What lies inside all containers."""
        return self.bare.inner

    @property
    def is_disk(self) -> bool:
        """Whether all containers were taken off and what is left may be a disk."""
        raw = bool(self.bare.taken) or self.content.artifact.content_container in RAW_CONTAINERS
        return raw and not (self.bare.container or self.bare.many_files)

    @property
    def table(self) -> PartitionTable | None:
        """The partition table of a disk that has one."""
        if not self.is_disk:
            return None
        try:
            table = read_table(self.disk)
        except CorruptError:
            return None
        return table if any(region.partition for region in table.regions) else None


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
    bare = take_off(content.source, content.artifact.path, blobs)
    return Peeled(content, bare, prove(bare.taken))


def take_off(source: Source, path: Path, blobs: BlobWriter) -> Bare:
    """Take the containers off any source; those of an archive's files stay on. ``path`` names it in errors."""
    taken: list[TakenOff] = []
    tables: list[BlobRef] = []
    cuts: tuple[int, ...] = ()
    notes: list[str] = []
    container = ""
    while len(taken) < _MAX_LAYERS and (found := format_of(source)) is not None:
        try:
            unwrapped = found.layer.unwrap(source, path)
        except (UnsupportedError, CorruptError) as error:
            notes.append(f"{found.name}: {error.reason}")
            container = found.name
            break
        refs = [blobs.refs[blobs.put(table)] for table in unwrapped.tables]
        record = unwrapped.record
        if refs:
            record = msgspec.structs.replace(record, tables=[ref.sha256 for ref in refs])
        taken.append(TakenOff(source, found.layer, unwrapped, record))
        tables += refs
        notes += unwrapped.notes
        source, cuts = unwrapped.inner, unwrapped.cuts
        if found.inside == "tree" or cuts:  # what follows is many files
            break
    else:
        notes += _about_erofs(source)
    return Bare(source, taken, tables, cuts, notes, container)


def _about_erofs(source: Source) -> Iterator[str]:
    """Say of an erofs file system why it is kept as it is: no layer writes one."""
    if is_erofs(source):
        with suppress(CorruptError, UnsupportedError):
            names = " and ".join(item.name.lower() for item in compressions(read_superblock(source)))
            how = f"blocks compressed by {names} are literal" if names else "only the ends of files are literal"
            yield f"erofs: its blocks are copied where the same content lies elsewhere uncompressed; {how}"


def by_edits(peeled: Peeled, base: Base, blobs: BlobWriter) -> Manifest | None:
    """Tell a disk as edits of a base; None for what is no disk, or of another lineage: too much to tell."""
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
    manifest = manifest_of(peeled, EditedDisk(base.name, edits, found.times), refs)
    return manifest if len(encode(manifest)) + sum(ref.size for ref in refs) <= _MAX_TOLD else None


def base_of(manifest: Manifest, canonical: Base, blobs: BlobReader) -> Base | None:
    """Return the disk of an artifact as a base for those that were made from it; ``blobs`` reads by name."""
    match manifest.body:
        case EditedDisk(base=name) as body if name == CANONICAL:
            return Base(edited_disk(canonical.source, body, blobs), canonical.table, manifest.artifact.key)
    return None


def relocated_bases(peeled: Peeled) -> Iterator[Base]:
    """Yield a disk that was told by relocation as a base for those that were made from it; nothing for no disk."""
    if (table := peeled.table) is not None:
        yield Base(peeled.disk, table, peeled.content.artifact.identity.key)


def by_cheapest(peeled: Peeled, bases: Iterable[Base], blobs: BlobWriter) -> Manifest | None:
    """Tell a disk from the one of ``bases`` that leaves the fewest bytes without a name, then the fewest at all.

    The disk itself is not taken as its base. None where it comes from none of them.
    """
    key = peeled.content.artifact.identity.key
    told = [by_edits(peeled, base, blobs) for base in bases if base.name != key]
    return min((item for item in told if item is not None), key=_cost, default=None)


def _cost(manifest: Manifest) -> tuple[int, int]:
    return literal_bytes(manifest.body), len(encode(manifest))


def whole(content: Content, blobs: BlobWriter, notes: list[str], *, level: int, threads: int) -> Manifest:
    """Keep content as it is, compressed: the rung that always holds; ``notes`` say why no other does."""
    frames = seekable.frames_of(content.source)
    ref = blobs.put_stream(frames, content.source.size, level=level, threads=threads)
    if ref.size > _DENSE * ref.content_size:
        notes = [*notes, "it does not compress: encrypted, random or compressed already"]
    return manifest_of(Peeled(content, Bare(content.source, notes=notes)), Stored(ref), [ref])


def canonical_manifest(content: Content) -> Manifest:
    """Return the manifest of the canonical's own artifact: no edits."""
    return manifest_of(Peeled(content, Bare(content.source)), EditedDisk(CANONICAL, []), [])


def manifest_of(peeled: Peeled, body: Body, blobs: list[BlobRef]) -> Manifest:
    """Return the manifest of content that ``body`` tells; ``blobs`` are those of the body."""
    content = peeled.content
    artifact = content.artifact
    return Manifest(
        version=MANIFEST_VERSION,
        artifact=artifact.identity,
        shipped=content.shipped,
        uncompressed=Uncompressed(content.content.size, content.content.sha256) if artifact.peeled else None,
        compression=content.compression,
        layers=peeled.bare.layers,
        body=body,
        blobs=list(dict.fromkeys([*blobs, *peeled.bare.tables])),
        notes=peeled.bare.notes,
    )
