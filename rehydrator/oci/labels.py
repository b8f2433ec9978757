"""What images and artifacts say about the store in them: labels of the one, annotations of the other."""

from __future__ import annotations

from datetime import UTC, datetime

from rehydrator import __version__
from rehydrator.oci.c_oci import Annotation
from rehydrator.release.stream import stream_facts
from rehydrator.store.layout import STREAM
from rehydrator.store.reader import Store

LABEL_STREAM = "io.rehydrator.stream"
LABEL_ARCHITECTURES = "io.rehydrator.architectures"
LABEL_SEAL = "io.rehydrator.seal"
LABEL_LAYERS = "io.rehydrator.layers"
LABEL_PROGRAM = "io.rehydrator.program"
_TITLE = "CoreOS disk images"


def created_of(store: Store, created: int | None) -> str:
    """Return when an image was made: ``created``, else when the release's metadata was, else 1970; never the clock."""
    if created is None and store.index.stream is not None:
        told = stream_facts(store.stream_metadata(), store.name / STREAM).last_modified
        if told:
            return told
    return datetime.fromtimestamp(created or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def made_at(store: Store, created: int | None) -> int:
    """Return the same in seconds since 1970; 0 where the release's metadata tells no time that can be read."""
    try:
        told = datetime.fromisoformat(created_of(store, created))
        return max(int(told.replace(tzinfo=told.tzinfo or UTC).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0


def labels_of(store: Store, created: str) -> dict[str, str]:
    """Return the labels that tell what is in a store."""
    releases = sorted({store.arch(arch).release for arch in store.architectures})
    labels = {
        Annotation.TITLE.value: _TITLE,
        Annotation.VERSION.value: ",".join(releases),
        Annotation.CREATED.value: created,
        LABEL_ARCHITECTURES: ",".join(store.architectures),
        LABEL_SEAL: store.index.seal,
        LABEL_PROGRAM: __version__,
    }
    if store.index.stream is not None:
        labels[LABEL_STREAM] = stream_facts(store.stream_metadata(), store.name / STREAM).stream
    return labels
