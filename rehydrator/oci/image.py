"""A container image with a store in it: the layers of a base image, and those of the store on top.

No container engine is needed, and the image is a function of base, store and settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from rehydrator import __version__
from rehydrator.disk.extents import Data
from rehydrator.disk.sink import HashSink
from rehydrator.errors import UnsupportedError, UsageError
from rehydrator.oci.c_oci import (
    Annotation,
    Descriptor,
    Execution,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
)
from rehydrator.oci.digest import digest_of_sha256
from rehydrator.oci.layout import Layout, LayoutWriter
from rehydrator.oci.reference import LayoutReference
from rehydrator.oci.store_layers import PLACE, StoreLayer, layer_tar, store_layers
from rehydrator.oci.stored import gzip_stored
from rehydrator.progress import Progress
from rehydrator.release.stream import stream_facts
from rehydrator.store.layout import STREAM
from rehydrator.store.reader import Store

LABEL_STREAM = "io.rehydrator.stream"
LABEL_ARCHITECTURES = "io.rehydrator.architectures"
LABEL_SEAL = "io.rehydrator.seal"
LABEL_PROGRAM = "io.rehydrator.program"
STORE_VARIABLE = "REHYDRATOR_STORE"
_TITLE = "CoreOS disk images"


class Settings(msgspec.Struct, frozen=True):
    """``labels`` go into the image besides its own and win over them; ``created`` is in seconds since the epoch."""

    labels: Mapping[str, str] = {}
    created: int | None = None


class _Layer(msgspec.Struct, frozen=True):
    """A layer that was written: its descriptor, its ``diff_id``, and what it is."""

    descriptor: Descriptor
    diff_id: str
    what: str


def build_image(
    store: Store, base: LayoutReference, target: LayoutReference, settings: Settings, progress: Progress
) -> Descriptor:
    """Write the image of ``store`` over ``base`` to a layout and tag it; return what the tag points to."""
    layout = Layout(base.path)
    root = layout.find(base.tag)
    with LayoutWriter(target.path) as writer:
        layers = [_write(layer, store, writer, progress) for layer in store_layers(store)]
        created = created_at(store, settings.created)
        builder = _Builder(layout, writer, layers, labels_of(store, created) | dict(settings.labels), created)
        descriptor = builder.add(root)
        writer.tag(descriptor, target.tag or "latest")
    return descriptor


def created_at(store: Store, seconds: int | None) -> str:
    """Return the time that what is made of a store states: as set, else that of the release's metadata, else 1970.

    It never follows the clock.
    """
    if seconds is None and store.index.stream is not None:
        told = stream_facts(store.stream_metadata(), store.name / STREAM).last_modified
        if told:
            return told
    return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def _write(layer: StoreLayer, store: Store, writer: LayoutWriter, progress: Progress) -> _Layer:
    """Write a layer of the store."""
    diff = HashSink()
    with progress.task(layer.what, sum(file.size for file in layer.files)) as task:

        def tar() -> Iterator[Data]:
            for piece in layer_tar(layer, store):
                diff.write(piece)
                task.advance(len(piece))
                yield piece

        try:
            descriptor = writer.put_pieces(gzip_stored(tar()), MediaType.LAYER_GZIP)
            return _Layer(descriptor, digest_of_sha256(diff.hexdigest()), layer.what)
        finally:
            diff.close()


class _Builder(msgspec.Struct, frozen=True):
    """Puts layers on top of the images of a base."""

    base: Layout
    writer: LayoutWriter
    layers: list[_Layer]
    labels: dict[str, str]
    created: str

    def add(self, descriptor: Descriptor) -> Descriptor:
        """Add an image, or those of several platforms, which share the layers; return the descriptor of the result."""
        match descriptor.media_type:
            case MediaType.MANIFEST:
                made = self._image(self.base.document(descriptor, Manifest))
                return msgspec.structs.replace(made, platform=descriptor.platform)
            case MediaType.INDEX:
                index = self.base.document(descriptor, Index)
                images = [self.add(item) for item in index.manifests]
                return self.writer.put(msgspec.structs.replace(index, manifests=images), MediaType.INDEX)
        raise UnsupportedError(
            "the base is no OCI image", path=self.base.path(descriptor), actual=descriptor.media_type[:90]
        )

    def _image(self, manifest: Manifest) -> Descriptor:
        config = self.base.document(manifest.config, ImageConfig)
        if LABEL_SEAL in config.config.labels:
            raise UsageError("the base holds a store already", path=self.base.root, hint="Name one without a store")
        for layer in manifest.layers:
            self.writer.copy(self.base, layer)
        made = msgspec.structs.replace(
            config,
            created=self.created,
            config=_execution(config.config, self.labels),
            rootfs=msgspec.structs.replace(
                config.rootfs, diff_ids=[*config.rootfs.diff_ids, *(layer.diff_id for layer in self.layers)]
            ),
            history=[*_history(config), *map(self._made, self.layers)],
        )
        return self.writer.put(
            msgspec.structs.replace(
                manifest,
                config=self.writer.put(made, MediaType.CONFIG),
                layers=[*manifest.layers, *(layer.descriptor for layer in self.layers)],
            ),
            MediaType.MANIFEST,
        )

    def _made(self, layer: _Layer) -> History:
        return History(created=self.created, created_by="rehydrator build image", comment=layer.what)


def _history(config: ImageConfig) -> list[History]:
    """Return the history of a base: an entry per layer, without words where it does not tell."""
    if sum(not step.empty_layer for step in config.history) == len(config.rootfs.diff_ids):
        return config.history
    return [History() for _ in config.rootfs.diff_ids]


def _execution(execution: Execution, labels: Mapping[str, str]) -> Execution:
    """Return how the image is run: as its base, with the store's place, and labels of its own."""
    return msgspec.structs.replace(
        execution,
        env=[*_without(execution.env, STORE_VARIABLE), f"{STORE_VARIABLE}=/{PLACE}"],
        labels=execution.labels | dict(labels),
    )


def _without(env: Iterable[str], variable: str) -> list[str]:
    return [item for item in env if not item.startswith(f"{variable}=")]
