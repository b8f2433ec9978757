"""The proof that a store gives an artifact back, without compressing twice.

Taking a compressing container off compares every byte of it with what putting it on again makes, and an encoder makes
the same of the same content. So an artifact comes back exactly if its records and tables do and if the store gives the
same content for the inside of that container. What lies around it, such as the tar of an OVA, is compared as well while
all is at hand. Containers that do not compress are cheap to put on again, and need none of this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from rehydrator.disk.digest import content_digest
from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import Source
from rehydrator.edits.replay import BlobReader
from rehydrator.engines.direct import artifact_source, blob_reader
from rehydrator.errors import MismatchError, RehydratorError
from rehydrator.layers.base import Layer, Unwrapped
from rehydrator.layers.forward import ForwardFile, equal_until
from rehydrator.layers.table import LayerRecord, layer_for
from rehydrator.manifest.schema import Manifest
from rehydrator.progress import Progress
from rehydrator.rehydrate import Options, check
from rehydrator.store.depot import Depot

_HEAD = 2 * CHUNK


class TakenOff(msgspec.Struct, frozen=True):
    """A container that was taken off ``outer``; ``record`` names the blobs of its tables."""

    outer: Source
    layer: Layer[Any]
    unwrapped: Unwrapped
    record: LayerRecord


class Proof(msgspec.Struct, frozen=True):
    """The outermost ``layers`` around any content with this digest give the artifact's file, which was compared.

    ``tables`` are the digests of their tables, ``size`` and ``head`` are those of the innermost one: its size and the
    digest of its beginning, which holds tables that depend on where the content is zero.
    """

    layers: list[LayerRecord]
    tables: list[bytes]
    content: bytes
    size: int
    head: bytes


def prove(taken: Sequence[TakenOff]) -> Proof | None:
    """Return the proof for containers that were taken off, outermost first; None where none of them compresses.

    Also None where one of those around it does not come back: then only the whole file tells.
    """
    count = max((number for number, item in enumerate(taken, 1) if item.unwrapped.proven), default=0)
    if not count:
        return None
    for item in taken[:count]:
        found = item.unwrapped
        if not found.proven:
            again = item.layer.wrap(found.inner, found.record, found.tables)
            if again.size != item.outer.size or equal_until(item.outer, again) != again.size:
                return None
    return Proof(
        layers=[item.record for item in taken[:count]],
        tables=[_sha256(table) for item in taken[:count] for table in item.unwrapped.tables],
        content=content_digest(taken[count - 1].unwrapped.inner),
        size=taken[count - 1].outer.size,
        head=_head(taken[count - 1].outer),
    )


def check_with(proof: Proof | None, manifest: Manifest, depot: Depot, progress: Progress) -> None:
    """Prove that ``depot`` gives an artifact back: by its proof, where it has one for these layers, else all of it.

    Raises MismatchError where it does not, and the errors of a damaged store.
    """
    if proof is None or manifest.layers[: len(proof.layers)] != proof.layers:
        check(manifest, depot, progress, Options())
        return
    name = manifest.content.name
    try:
        source = artifact_source(manifest, depot, without=len(proof.layers))
        with progress.task(name, source.size) as task:
            digest = content_digest(source, task.advance)
            task.note = "content ok, compressed before"
        if digest != proof.content or not _wraps(source, proof, blob_reader(manifest, depot)):
            raise MismatchError("the store gives other content for this file's container")
    except RehydratorError as error:
        raise error.located(name) from error


def _wraps(source: Source, proof: Proof, blobs: BlobReader) -> bool:
    """Tell whether tables come back, and the beginning of the innermost proven layer with them."""
    tables = [[blobs(name) for name in getattr(record, "tables", ())] for record in proof.layers]
    if [_sha256(table) for record in tables for table in record] != proof.tables:
        return False
    again = layer_for(proof.layers[-1]).wrap(source, proof.layers[-1], tables[-1])
    try:
        return again.size == proof.size and _head(again) == proof.head
    finally:
        if isinstance(again, ForwardFile):
            again.close()


def _head(source: Source) -> bytes:
    return _sha256(bytes(source.read(0, min(_HEAD, source.size))))


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
