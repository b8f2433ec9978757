"""A container image with a store in it: the layers of a base image, and those of the store on top.

No container engine is needed, and the image is a function of base, store and settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from rehydrator.disk.extents import Data
from rehydrator.disk.sink import HashSink
from rehydrator.errors import UnsupportedError, UsageError
from rehydrator.oci.c_oci import (
    Descriptor,
    Execution,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
)
from rehydrator.oci.digest import digest_of_sha256
from rehydrator.oci.labels import LABEL_LAYERS, LABEL_SEAL, created_of, labels_of
from rehydrator.oci.layout import Layout, LayoutWriter
from rehydrator.oci.reference import DEFAULT_TAG, LayoutReference
from rehydrator.oci.store_layers import PLACE, StoreLayer, layer_tar, store_layers
from rehydrator.oci.stored import gzip_stored
from rehydrator.progress import Progress
from rehydrator.store.reader import Store

STORE_VARIABLE = "REHYDRATOR_STORE"


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
    root = layout.find(base)
    _check_base(layout, root)
    with LayoutWriter(target.path) as writer:
        layers = [_write(layer, store, writer, progress) for layer in store_layers(store)]
        created = created_of(store, settings.created)
        labels = labels_of(store, created) | {LABEL_LAYERS: ",".join(layer.diff_id for layer in layers)}
        builder = _Builder(layout, writer, layers, labels | dict(settings.labels), created)
        descriptor = builder.add(root)
        writer.tag(descriptor, target.tag or DEFAULT_TAG)
    return descriptor


def _check_base(base: Layout, descriptor: Descriptor) -> None:
    """Read the documents of a base before anything is written.

    Raises UnsupportedError for what is no image of a container, UsageError for one that holds a store.
    """
    match descriptor.media_type:
        case MediaType.INDEX:
            for item in base.document(descriptor, Index).manifests:
                _check_base(base, item)
        case MediaType.MANIFEST:
            config = base.document(descriptor, Manifest).config
            if config.media_type != MediaType.CONFIG:
                raise UnsupportedError(
                    "the base is no image of a container",
                    path=base.path(descriptor),
                    expected=MediaType.CONFIG.value,
                    actual=config.media_type[:90],
                )
            if LABEL_SEAL in base.document(config, ImageConfig).config.labels:
                raise UsageError("the base holds a store already", path=base.root, hint="Name one without a store")
        case other:
            raise UnsupportedError("the base is no OCI image", path=base.path(descriptor), actual=other[:90])


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
        if descriptor.media_type == MediaType.INDEX:
            index = self.base.document(descriptor, Index)
            images = [self.add(item) for item in index.manifests]
            return self.writer.put(msgspec.structs.replace(index, manifests=images), MediaType.INDEX)
        made = self._image(self.base.document(descriptor, Manifest))
        return msgspec.structs.replace(made, platform=descriptor.platform)

    def _image(self, manifest: Manifest) -> Descriptor:
        config = self.base.document(manifest.config, ImageConfig)
        for layer in manifest.layers:
            self.writer.put_file(self.base.path(layer), layer)
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
