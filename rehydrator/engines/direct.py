"""The direct engine: edits become block writes over the canonical, in memory, without a VM."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rehydrator.disk.deferred import Deferred
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Source
from rehydrator.edits.grow import Grow
from rehydrator.edits.replay import BlobReader, Replay
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.layers.early import Archive, Early
from rehydrator.layers.table import LayerRecord, layer_for
from rehydrator.manifest.schema import (
    CANONICAL,
    BlobRef,
    Body,
    DerivedOsmet,
    EditedDisk,
    Manifest,
    Part,
    Parts,
    Relocated,
    Stored,
)
from rehydrator.manifest.text import decode
from rehydrator.osmet.derive import osmet_of
from rehydrator.relocation.segments import Segment, SegmentSource
from rehydrator.relocation.verity import with_trees
from rehydrator.store.depot import Depot, Prefix

_MAX_DEPTH = 8  # artifacts that refer to artifacts: deeper than any real chain
_MAX_ARCHIVES = 8  # archives in archives, likewise


class Chain:
    """The way from an artifact to those that it is told from; what was opened on it is opened once."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._opened: dict[str, Source] = {}

    def follow(self, key: str, make: Callable[[], Source]) -> Source:
        """Return what ``make`` opens of artifact ``key``; raises StoreDamagedError for a circle or a long chain."""
        if key in self._keys:
            raise StoreDamagedError("artifacts refer to each other in a circle", actual=" > ".join([*self._keys, key]))
        if len(self._keys) >= _MAX_DEPTH:
            raise StoreDamagedError(
                "too many artifacts are told from each other", expected=f"at most {_MAX_DEPTH}", actual=key
            )
        if key not in self._opened:
            self._keys.append(key)
            self._opened[key] = make()
            self._keys.pop()
        return self._opened[key]


# Makes a disk from its base and the edits of a body.
Engine: TypeAlias = Callable[[Source, EditedDisk, BlobReader], Source]


def blob_reader(manifest: Manifest, depot: Depot) -> BlobReader:
    """Return a reader of the blobs that the manifest lists, by name."""
    refs: dict[str, BlobRef] = {ref.sha256: ref for ref in manifest.blobs}

    def read(name: str) -> bytes:
        if name not in refs:
            raise StoreDamagedError("an edit names a blob that its manifest does not list", actual=name)
        return depot.small_blob(refs[name])

    return read


def edited_disk(base: Source, body: EditedDisk, blobs: BlobReader) -> Overlay:
    """Replay the edits of a body over its base disk."""
    if body.edits and isinstance(body.edits[0], Grow):
        if body.edits[0].size < base.size:
            raise StoreDamagedError("a grow edit would shrink the disk", actual=body.edits[0].size)
        base = body.edits[0].grown(base)
    replay = Replay(base, body.times, blobs)
    for edit in body.edits:
        try:
            edit.apply(replay)
        except (CorruptError, ValueError, IndexError, OverflowError, struct.error) as error:
            raise StoreDamagedError(f"edit can't be applied: {error}", actual=edit.describe()) from error
    return replay.disk


def artifact_source(
    manifest: Manifest, depot: Depot, *, chain: Chain | None = None, engine: Engine = edited_disk, without: int = 0
) -> Source:
    """Return the artifact's content, computed while it is read; ``engine`` replays its own edits.

    As many of the outermost layers as ``without`` says are left out.
    """

    def make() -> Source:
        source = body_source(manifest, depot, chain=chain, engine=engine)
        return _wrapped(source, manifest.layers[without:], blob_reader(manifest, depot))

    return make() if without else depot.content(manifest, make)


def _wrapped(source: Source, layers: Sequence[LayerRecord], blobs: BlobReader) -> Source:
    """Put layers, which are told from the outermost on, around ``source``."""
    for record in reversed(layers):
        tables = [blobs(name) for name in getattr(record, "tables", ())]
        source = layer_for(record).wrap(source, record, tables)
    return source


def shipped_source(manifest: Manifest, depot: Depot, *, engine: Engine = edited_disk) -> Source:
    """Return the file as it was shipped, compressed while it is read from front to back; see ``Manifest.exact``."""
    source = artifact_source(manifest, depot, engine=engine)
    record = manifest.compression
    return source if record is None else layer_for(record).wrap(source, record)


def body_source(
    manifest: Manifest, depot: Depot, *, chain: Chain | None = None, engine: Engine = edited_disk
) -> Source:
    """Return what lies inside the manifest's layers: usually the raw disk.

    ``chain`` is the way to this artifact, if others led to it. Raises StoreDamagedError where it makes a circle.
    """
    made = _Made(manifest, depot, chain or Chain(), engine)
    return made.chain.follow(manifest.artifact.key, lambda: made.of(manifest.body))


def base_source(manifest: Manifest, depot: Depot, *, chain: Chain | None = None) -> Source:
    """Return the disk that the manifest's edits are applied to; for a body without edits the canonical."""
    base = manifest.body.base if isinstance(manifest.body, EditedDisk) else CANONICAL
    arch = manifest.artifact.arch
    if base == CANONICAL:
        return depot.canonical(arch)
    return body_source(depot.manifest_by_key(arch, base), depot, chain=chain)


class _Made:
    """What the bodies of one manifest tell, its own and those of its parts."""

    def __init__(self, manifest: Manifest, depot: Depot, chain: Chain, engine: Engine) -> None:
        self.chain = chain
        self._manifest = manifest
        self._depot = depot
        self._engine = engine

    def of(self, body: Body, level: int = 0) -> Source:
        """Return what ``body`` tells, which lies ``level`` archives deep."""
        match body:
            case EditedDisk():
                base = base_source(self._manifest, self._depot, chain=self.chain)
                return self._engine(base, body, blob_reader(self._manifest, self._depot))
            case Relocated():
                prefix = Prefix(self._manifest.artifact.arch, body.prefix) if body.prefix else None
                literals = self._depot.large_blob(body.literals, prefix) if body.literals else None
                references = [self._reference(name) for name in body.references]
                disk = SegmentSource(body.size, segments_of(body, self._depot), references, literals)
                return with_trees(disk, body.hash_trees)
            case Stored():
                return self._depot.large_blob(body.blob)
            case DerivedOsmet():
                return Early(osmet_of(self._reference(body.base), body.record))
            case Parts():
                if level == _MAX_ARCHIVES:
                    raise StoreDamagedError("too many archives within each other", expected=f"at most {_MAX_ARCHIVES}")
                parts = [self._part(part, level + 1) for part in body.parts]
                return Archive(parts, [part for part in parts if isinstance(part, Early)])

    def _part(self, part: Part, level: int) -> Source:
        if isinstance(part.body, DerivedOsmet) and not part.layers:  # its table takes longer than all else to find
            make = partial(osmet_of, self._reference(part.body.base), part.body.record)
            return Early(Deferred(part.size, make))
        source = _wrapped(self.of(part.body, level), part.layers, blob_reader(self._manifest, self._depot))
        if source.size != part.size:
            raise StoreDamagedError("a part has another size", expected=part.size, actual=source.size)
        return source

    def _reference(self, name: str) -> Source:
        arch = self._manifest.artifact.arch
        if name == CANONICAL:
            return self._depot.canonical(arch)
        return artifact_source(self._depot.manifest_by_key(arch, name), self._depot, chain=self.chain)


def segments_of(body: Relocated, depot: Depot) -> list[Segment]:
    """Return what a relocated body is put together of, as the store has it: unchecked."""
    name = Path(f"blob {body.segments.sha256}")
    return decode(depot.small_blob(body.segments), list[Segment], name)
