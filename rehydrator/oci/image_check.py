"""An image against the store that it should carry: the link from the image's digest to the store's index.

The layers of a store are a function of the store alone. They are made again, to nowhere, and their digests compared
with those that the image's manifest pins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from rehydrator.disk.sink import HashSink
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.oci.c_oci import Descriptor, ImageConfig, Index, Manifest, MediaType
from rehydrator.oci.digest import digest_of_sha256
from rehydrator.oci.labels import LABEL_SEAL
from rehydrator.oci.layout import Layout, file_pieces
from rehydrator.oci.reference import LayoutReference
from rehydrator.oci.store_layers import StoreLayer, layer_tar, store_layers
from rehydrator.oci.stored import gzip_stored
from rehydrator.store.reader import Store


class ImageCheck(msgspec.Struct, frozen=True):
    """One link of the chain: what is compared, and the comparison, which raises MismatchError."""

    name: str
    compare: Callable[[], None]


def image_checks(store: Store, reference: LayoutReference, digest: str = "") -> Iterator[ImageCheck]:
    """Yield the links from an image to the store, for each of its platforms.

    ``digest`` is that of the image where it is known from elsewhere. Raises MismatchError for damaged documents, which
    end the chain.
    """
    layout = Layout(reference.path)
    root = layout.find(reference)
    if digest:
        yield ImageCheck(f"{reference}: digest", lambda: _same("another image", str(reference), digest, root.digest))
    layers = store_layers(store)
    made: dict[str, str] = {}
    for descriptor in _images(layout, root):
        manifest = layout.document(descriptor, Manifest)
        config = layout.document(manifest.config, ImageConfig)
        name = f"{reference}: {config.os} {config.architecture}"
        seal = config.config.labels.get(LABEL_SEAL, "none")
        yield ImageCheck(f"{name}: label {LABEL_SEAL}", _Seal(store, layout, manifest.config, seal).compare)
        for blob in manifest.layers:
            yield ImageCheck(f"{name}: layer {blob.digest}", _Blob(layout, blob).compare)
        if len(manifest.layers) < len(layers):
            raise MismatchError(
                "has too few layers for the store",
                path=layout.path(descriptor),
                expected=len(layers),
                actual=len(manifest.layers),
            )
        for number, layer in enumerate(layers, len(manifest.layers) - len(layers)):
            check = _Layer(store, layout, layer, manifest.layers[number], made)
            yield ImageCheck(f"{name}: {layer.what}", check.compare)


def _images(layout: Layout, descriptor: Descriptor) -> Iterator[Descriptor]:
    """Yield the image, or those of all platforms."""
    match descriptor.media_type:
        case MediaType.MANIFEST:
            yield descriptor
        case MediaType.INDEX:
            for item in layout.document(descriptor, Index).manifests:
                yield from _images(layout, item)
        case _:
            raise UnsupportedError("is no OCI image", path=layout.root, actual=descriptor.media_type[:90])


class _Seal(msgspec.Struct, frozen=True):
    """The label with the seal of the store's index."""

    store: Store
    layout: Layout
    config: Descriptor
    seal: str

    def compare(self) -> None:
        _same("the image was made of another store", self.layout.path(self.config), self.store.index.seal, self.seal)


class _Blob(msgspec.Struct, frozen=True):
    """A layer's blob and its digest."""

    layout: Layout
    descriptor: Descriptor

    def compare(self) -> None:
        sha256 = HashSink()
        try:
            for piece in file_pieces(self.layout.path(self.descriptor), self.descriptor):
                sha256.write(piece)
            actual = digest_of_sha256(sha256.hexdigest())
        finally:
            sha256.close()
        _same("has another digest", self.layout.path(self.descriptor), self.descriptor.digest, actual)


class _Layer(msgspec.Struct, frozen=True):
    """A layer of the store, made again, and the one that the image's manifest pins; ``made`` remembers digests."""

    store: Store
    layout: Layout
    layer: StoreLayer
    pinned: Descriptor
    made: dict[str, str]

    def compare(self) -> None:
        if self.layer.what not in self.made:
            self.made[self.layer.what] = self._digest()
        _same(
            "holds something else than the store",
            self.layout.path(self.pinned),
            self.made[self.layer.what],
            self.pinned.digest,
        )

    def _digest(self) -> str:
        sha256 = HashSink()
        try:
            for piece in gzip_stored(layer_tar(self.layer, self.store)):
                sha256.write(piece)
            return digest_of_sha256(sha256.hexdigest())
        finally:
            sha256.close()


def _same(problem: str, path: object, expected: str, actual: str) -> None:
    if expected != actual:
        raise MismatchError(problem, path=str(path), expected=expected, actual=actual)
