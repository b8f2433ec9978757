"""Telling files that are no edited disk: by content found elsewhere, archives file by file, else whole."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from rehydrator.codecs import seekable
from rehydrator.disk.extents import BLOCK, CHUNK, Data, Extent
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.erofs.superblock import is_erofs
from rehydrator.intake.intake import Content
from rehydrator.layers.table import format_of
from rehydrator.manifest.schema import (
    CANONICAL,
    BlobRef,
    Body,
    DerivedOsmet,
    Manifest,
    Part,
    Parts,
    Relocated,
    Stored,
)
from rehydrator.osmet.derive import record_of
from rehydrator.osmet.table import is_osmet
from rehydrator.relocation.finder import ContentIndex, find
from rehydrator.relocation.prefix import metadata_blocks, prefix_source
from rehydrator.relocation.segments import LITERAL, Segment
from rehydrator.relocation.verity import find_trees, without_trees
from rehydrator.rungs import Bare, Peeled, manifest_of, take_off, whole
from rehydrator.store.blobs import BlobWriter
from rehydrator.store.canonical import encode_extents

# Below this share of copied bytes a dependency on other files is not worth its trouble.
_MIN_COPIED = 0.02
# With at most this share of literal bytes a container is found as it is: an initramfs in the canonical, rootfs.img for
# an ISO.
_FOUND_WHOLE = 0.05


class _Told(msgspec.Struct, frozen=True):
    """A part with the blobs that it needs."""

    part: Part
    blobs: list[BlobRef]


class _Prefix(msgspec.Struct, frozen=True):
    """Bytes of the canonical, and the blob that tells which blocks they are."""

    blocks: BlobRef
    data: bytes


class _Group(msgspec.Struct, frozen=True):
    """Files of an archive that are told together, and where they begin, from the start of the ``place``."""

    place: Extent
    starts: list[int]


class Relocator:
    """Finds content in the canonical and in the artifacts that came before."""

    def __init__(self, canonical: Source, blobs: BlobWriter, *, level: int, threads: int) -> None:
        self._index = ContentIndex()
        self._index.add(canonical)
        self._names = [CANONICAL]
        self._blobs = blobs
        self._level = level
        self._threads = threads

    @functools.cached_property
    def _prefix(self) -> _Prefix | None:
        """The canonical's metadata, which literals of disks are compressed after; None where there are none."""
        canonical = self._index.references[0]
        with suppress(CorruptError):
            blocks = metadata_blocks(canonical, read_table(canonical), seekable.MAX_PREFIX)
            if blocks:
                source = prefix_source(canonical, blocks)
                ref = self._blobs.refs[self._blobs.put(encode_extents(blocks))]
                return _Prefix(ref, bytes(source.read(0, source.size)))
        return None

    def tell(self, peeled: Peeled) -> Manifest:
        """Tell content by what is found of it elsewhere, or whole where that is next to nothing."""
        source = peeled.content.source
        # a partitioned disk is told without its containers, since others may be edits of it
        if peeled.table is None and (segments := self._found_whole(source)):
            found = self._copied(source, segments)
            return manifest_of(Peeled(peeled.content, Bare(source)), found.part.body, found.blobs)
        notes = list(peeled.bare.notes)
        if peeled.bare.cuts:
            parts = self._parts(peeled.disk, peeled.bare.cuts, peeled.content.artifact.path)
            body = Parts([item.part for item in parts])
            if not all(isinstance(item.part.body, Stored) for item in parts):
                return manifest_of(peeled, body, [ref for item in parts for ref in item.blobs])
            notes += [note for item in parts for note in item.part.notes]
        elif (told := self._disk(peeled)) is not None:
            return manifest_of(peeled, told.part.body, told.blobs)
        notes.append("hardly any of it lies elsewhere in the release")
        return whole(peeled.content, self._blobs, notes, level=self._level, threads=self._threads)

    def add_reference(self, content: Content) -> None:
        """Let later artifacts be told from this one's content."""
        self._index.add(content.source)
        self._names.append(content.artifact.identity.key)

    def _disk(self, peeled: Peeled) -> _Told | None:
        """Tell what lies inside all containers; hash trees of a partitioned disk are not looked for elsewhere."""
        trees = find_trees(peeled.disk, peeled.table) if peeled.table is not None else []
        told = self._copies(without_trees(peeled.disk, trees), prefix=peeled.table is not None)
        if told is None or not trees:
            return told
        body = msgspec.structs.replace(told.part.body, hash_trees=trees)
        return msgspec.structs.replace(told, part=msgspec.structs.replace(told.part, body=body))

    def _parts(self, inner: Source, cuts: Sequence[int], path: Path) -> list[_Told]:
        """Tell the files of an archive; ``path`` names it in errors."""
        return [self._part(Window(inner, *group.place), group.starts, path) for group in _groups(inner, cuts)]

    def _part(self, source: Source, starts: Sequence[int], path: Path) -> _Told:
        if segments := self._found_whole(source):
            return self._copied(source, segments)
        if is_osmet(source) and (osmet := self._osmet(source, path)) is not None:
            return osmet
        bare = take_off(source, path, self._blobs)
        tables = bare.tables
        if bare.cuts:
            parts = self._parts(bare.inner, bare.cuts, path)
            refs = [ref for item in parts for ref in item.blobs]
            body: Body = Parts([item.part for item in parts])
            return _Told(Part(source.size, body, bare.layers, bare.notes), [*refs, *tables])
        told = self._copies(bare.inner, () if bare.taken else starts)
        if told is not None:
            return _Told(Part(source.size, told.part.body, bare.layers, bare.notes), [*told.blobs, *tables])
        ref = self._put(seekable.frames_of(source), source.size)
        return _Told(Part(source.size, Stored(ref), notes=bare.notes), [ref])

    def _osmet(self, source: Source, path: Path) -> _Told | None:
        """Tell an osmet file by the disk that it describes, if that is known."""
        for name, disk in zip(self._names, self._index.references, strict=True):
            try:
                record = record_of(source, disk, path)
            except (UnsupportedError, CorruptError):
                continue
            return _Told(Part(source.size, DerivedOsmet(name, record)), [])
        return None

    def _copies(self, disk: Source, starts: Sequence[int] = (), *, prefix: bool = False) -> _Told | None:
        """Tell content as copies plus literals; None where next to nothing is found. Files begin at ``starts``.

        With ``prefix`` literals are compressed after the canonical's metadata, as those of a disk.
        """
        segments = find(disk, self._index, starts)
        copied, literal = _amounts(segments)
        if copied < _MIN_COPIED * (copied + literal) or copied < BLOCK:
            return None
        return self._copied(disk, segments, self._prefix if prefix else None)

    def _found_whole(self, source: Source) -> list[Segment]:
        """Return the segments of a container of which next to nothing is literal, none for another and for a tree."""
        found = format_of(source)
        if found is None or found.inside == "tree":
            return []
        segments = find(source, self._index)
        copied, literal = _amounts(segments)
        return segments if literal <= _FOUND_WHOLE * copied else []

    def _copied(self, disk: Source, segments: list[Segment], prefix: _Prefix | None = None) -> _Told:
        copied, literal = _amounts(segments)
        used = sorted({segment.reference for segment in segments} - {LITERAL})
        numbers = {LITERAL: LITERAL, **{reference: number for number, reference in enumerate(used)}}
        table = [Segment(item.offset, item.length, numbers[item.reference], item.at) for item in segments]
        table_ref = self._blobs.refs[self._blobs.put(msgspec.json.encode(table))]
        refs = [table_ref]
        literals: BlobRef | None = None
        if literal:
            literals = self._put(_literal_frames(disk, segments), literal, prefix.data if prefix else b"")
            refs.append(literals)
        prefix_ref = prefix.blocks if prefix and literal else None
        refs += [prefix_ref] if prefix_ref else []
        names = [self._names[reference] for reference in used]
        body = Relocated(disk.size, names, table_ref, literals, copied, prefix=prefix_ref)
        return _Told(Part(disk.size, body), refs)

    def _put(self, frames: seekable.Pieces, size: int, prefix: bytes = b"") -> BlobRef:
        return self._blobs.put_stream(frames, size, level=self._level, threads=self._threads, prefix=prefix)


def _groups(inner: Source, cuts: Sequence[int]) -> list[_Group]:
    """Return the files of an archive; neighbours of which nothing special is known are one part."""
    groups: list[_Group] = []
    alone = True
    at = 0
    for size in filter(None, cuts):
        file = Window(inner, at, size)
        before, alone = alone, is_osmet(file) or is_erofs(file) or format_of(file) is not None
        if alone or before:
            groups.append(_Group(Extent(at, size), [0]))
        else:
            start, length = groups[-1].place
            groups[-1] = _Group(Extent(start, length + size), [*groups[-1].starts, at - start])
        at += size
    return groups


def _amounts(segments: list[Segment]) -> tuple[int, int]:
    """Return how many bytes are copied, and how many are literal."""
    literal = sum(segment.length for segment in segments if segment.reference == LITERAL)
    return sum(segment.length for segment in segments) - literal, literal


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
