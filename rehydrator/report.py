"""What ``list``, ``info`` and ``build dehydrate`` tell about artifacts, as structs and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from rehydrator.disk.source import Source
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.platform import Platform
from rehydrator.edits.replay import Replay
from rehydrator.edits.table import Edit, partition_of
from rehydrator.edits.words import counted
from rehydrator.engines.direct import base_source, body_source, segments_of
from rehydrator.errors import RehydratorError
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.layers.iso_record import IsoRecord
from rehydrator.layers.table import layer_for
from rehydrator.literals import literal_owners
from rehydrator.manifest.schema import (
    CANONICAL,
    Body,
    DerivedOsmet,
    EditedDisk,
    Manifest,
    Part,
    Parts,
    Relocated,
    Stored,
    literal_bytes,
    notes_of,
)
from rehydrator.origins import file_origins
from rehydrator.release.formats import LIVE_CONTAINERS, parse_format
from rehydrator.selection import short_name
from rehydrator.store.reader import Store

SCHEMA = 1
_SHORT_HASH = 12
_WIDTH = 100
_FILESYSTEMS = {"ext4": "ext4", "xfs": "XFS"}


class ArtifactReport(msgspec.Struct, frozen=True):
    """One artifact as ``--json`` shows it. Sizes in bytes; ``stored_size`` is what the store holds for it alone."""

    name: str
    short_name: str
    key: str
    platform: str
    arch: str
    format: str
    role: str
    release: str
    rung: str
    shipped_size: int
    sha256: str
    content_name: str
    content_size: int
    content_sha256: str
    compressed: str
    compression: str
    stored_size: int
    literal_bytes: int
    layers: list[str]
    changes: list[str]
    notes: list[str]


class StoreReport(msgspec.Struct, frozen=True):
    """The versioned JSON document of ``list --json`` and ``info --json``."""

    schema: int
    artifacts: list[ArtifactReport]


def stored_size(manifest: Manifest, store: Store) -> int:
    """Bytes in the store for this artifact: manifest and blobs, and the canonical for the metal disk."""
    index = store.arch(manifest.artifact.arch)
    size = store.manifest_file(manifest).size + sum(ref.size for ref in manifest.blobs)
    if is_canonical(manifest, store):
        size += index.canonical.file.size + sum(ref.size for ref in index.canonical.blobs)
    return size


def is_canonical(manifest: Manifest, store: Store) -> bool:
    """Whether the artifact's content is the canonical itself."""
    return manifest.content.sha256 == store.arch(manifest.artifact.arch).canonical.content.sha256


def describe_changes(manifest: Manifest, store: Store, *, texts: bool = False) -> list[str]:
    """Tell the body as a person would; ``texts`` also reads what the manifest leaves to the base disk."""
    if manifest.body == EditedDisk(CANONICAL, []) and is_canonical(manifest, store):
        return ["the canonical disk itself"]
    words = _body_words(manifest.body, partial(base_source, manifest, store) if texts else None)
    return [*words, *(_files(manifest, store) if texts else ())]


def _body_words(body: Body, base: Callable[[], Source] | None) -> list[str]:
    match body:
        case EditedDisk(edits=[]):
            return ["no change"]
        case EditedDisk():
            return [*_base_words(body), *_tell(body.edits, base)]
        case Relocated():
            sources = ", ".join(body.references)
            packed = f", compressed to {body.literals.size}" if body.literals else ""
            lines = [f"{body.copied} bytes copied from {sources}", f"{literal_bytes(body)} literal bytes{packed}"]
            trees = len(body.hash_trees)
            return [*lines, *([f"{counted(trees, 'hash tree')} computed from the data"] if trees else [])]
        case Stored():
            return [f"kept whole: {body.blob.content_size} bytes compressed to {body.blob.size}"]
        case DerivedOsmet():
            return [f"osmet file of {body.base}", f"{literal_bytes(body)} literal bytes"]
        case Parts():
            return [line for number, part in enumerate(body.parts, 1) for line in _part_words(number, part)]


def _part_words(number: int, part: Part) -> Iterator[str]:
    wrapping = "".join(f", {layer_for(record).describe(record)}" for record in part.layers)
    yield f"part {number}, {part.size} bytes{wrapping}"
    yield from (f"  {line}" for line in _body_words(part.body, None))


def _files(manifest: Manifest, store: Store) -> Iterator[str]:
    """Tell where the files in a live image come from, and what on a disk has to be kept literally."""
    record = manifest.layers[-1] if manifest.layers else None
    if not isinstance(manifest.body, Relocated):
        return
    with suppress(RehydratorError):  # the store's damage is for others to tell
        segments = segments_of(manifest.body, store)
        if isinstance(record, IsoRecord):
            yield from file_origins(record, manifest.body, segments)
        elif parse_format(manifest.artifact.format).container not in LIVE_CONTAINERS:
            yield from literal_owners(body_source(manifest, store), segments)


def _base_words(body: EditedDisk) -> list[str]:
    return [] if body.base == CANONICAL else [f"told from the disk of {body.base}"]


def _tell(edits: Sequence[Edit], base: Callable[[], Source] | None) -> Iterator[str]:
    """Yield one line for each edit of the whole disk, and one per partition: content first, then bookkeeping."""
    partitions: dict[str, list[Edit]] = {}
    for edit in edits:
        partitions.setdefault(partition_of(edit), []).append(edit)
    yield from (edit.describe() for edit in partitions.pop("", []))
    for name, changes in partitions.items():
        changes.sort(key=lambda edit: not isinstance(edit, Platform | FileContent))
        yield f"{name}{_filesystem(changes)}: " + "; ".join(_words(edit, base) for edit in changes)


def _filesystem(edits: Sequence[Edit]) -> str:
    """Name the file system that the ops speak of."""
    kinds = {str(edit.__struct_config__.tag).partition(".")[0] for edit in edits}
    return next((f" ({name})" for kind, name in _FILESYSTEMS.items() if kind in kinds), "")


def _words(edit: Edit, base: Callable[[], Source] | None) -> str:
    if isinstance(edit, Platform) and base is not None:
        with suppress(RehydratorError):  # the store's damage is for others to tell
            return edit.describe_texts(Ext4(Replay(base()).before(edit.partition)))
    return edit.describe()


def artifact_report(manifest: Manifest, store: Store, *, texts: bool = False) -> ArtifactReport:
    """Gather everything about one artifact; for ``texts`` see :func:`describe_changes`."""
    identity = manifest.artifact
    return ArtifactReport(
        name=manifest.shipped.name,
        short_name=short_name(manifest.artifact.key),
        key=identity.key,
        platform=identity.platform,
        arch=identity.arch,
        format=identity.format,
        role=identity.role,
        release=identity.release,
        rung=manifest.rung.value,
        shipped_size=manifest.shipped.size,
        sha256=manifest.shipped.sha256,
        content_name=manifest.content.name,
        content_size=manifest.content.size,
        content_sha256=manifest.content.sha256,
        compressed="exact" if manifest.exact else "by content",
        compression=layer_for(manifest.compression).describe(manifest.compression) if manifest.compression else "",
        stored_size=stored_size(manifest, store),
        literal_bytes=literal_bytes(manifest.body),
        layers=[layer_for(record).describe(record) for record in manifest.layers],
        changes=describe_changes(manifest, store, texts=texts),
        notes=notes_of(manifest),
    )


def store_report(manifests: Sequence[Manifest], store: Store, *, texts: bool = False) -> StoreReport:
    """Gather everything about several artifacts."""
    return StoreReport(SCHEMA, [artifact_report(item, store, texts=texts) for item in manifests])


def human(size: int) -> str:
    """A size in binary units, e.g. ``1.4 MiB``."""
    value, unit = float(size), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def _table(rows: Sequence[Sequence[str]], right: frozenset[int]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def list_table(artifacts: Sequence[ArtifactReport]) -> Iterator[str]:
    """Lines of ``list``."""
    head = ("NAME", "PLATFORM", "ARCH", "RUNG", "SHIPPED", "CONTENT", "STORED", "SHA256", "CONTENT SHA256")
    rows = [
        (
            item.name,
            item.short_name,
            item.arch,
            item.rung,
            human(item.shipped_size),
            human(item.content_size),
            human(item.stored_size),
            item.sha256[:_SHORT_HASH],
            item.content_sha256[:_SHORT_HASH],
        )
        for item in artifacts
    ]
    yield from _table([head, *rows], frozenset({4, 5, 6}))


def info_text(item: ArtifactReport) -> Iterator[str]:
    """Lines of ``info`` for one artifact."""
    yield item.name
    yield f"  platform      {item.platform} ({item.format}, {item.role}), {item.arch}, release {item.release}"
    yield f"  shipped       {item.shipped_size} bytes, sha256 {item.sha256}"
    yield f"  rehydrates to {item.content_name}, {item.content_size} bytes, sha256 {item.content_sha256}"
    how = f": {item.compression}" if item.compression else ""
    yield f"  compressed    {item.compressed}{how}"
    yield f"  rung          {item.rung}, stored in {human(item.stored_size)}"
    for layer in item.layers:
        yield f"  layer         {layer}"
    for change in item.changes:
        yield from _wrapped("  change        ", change)
    yield f"  literal bytes {item.literal_bytes}"
    for note in item.notes:
        yield from _wrapped("  note          ", note)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def dehydration_table(artifacts: Sequence[ArtifactReport], size: int) -> Iterator[str]:
    """Lines that ``build dehydrate`` ends with; ``size`` is that of the store."""
    head = ("ARTIFACT", "RUNG", "SHIPPED", "STORED")
    rows = [(item.name, item.rung, human(item.shipped_size), human(item.stored_size)) for item in artifacts]
    rows.append(("total", "", human(sum(item.shipped_size for item in artifacts)), human(size)))
    yield from _table([head, *rows], frozenset({2, 3}))
