"""Opening a store that is no directory: in an OCI layout, or in a registry; as an artifact, or in a container image."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from rehydrator.manifest.schema import File
from rehydrator.manifest.text import decode
from rehydrator.oci.artifact import descriptor_of
from rehydrator.oci.c_oci import CONFIGS, INDEXES, MANIFESTS, Index, Manifest
from rehydrator.oci.layout import blob_path
from rehydrator.oci.reference import LayoutReference, Reference
from rehydrator.oci.store_image import SeenConfig, StoreImage, find_store
from rehydrator.progress import Progress
from rehydrator.registry.access import Access
from rehydrator.registry.cache import Cache
from rehydrator.registry.image_origin import ImageOrigin
from rehydrator.registry.origin import RemoteOrigin, Shelf
from rehydrator.registry.place import Source, source_of
from rehydrator.store.origin import Origin
from rehydrator.store.reader import Store


class _LayoutShelf:
    """The blobs of a layout, read where they lie."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, file: File) -> Path:
        """Return where the blob lies."""
        return blob_path(self._root, descriptor_of(file))

    def has(self, _: File) -> bool:
        """Say yes: whoever reads a file finds out where it is missing."""
        return True

    def close(self) -> None:
        """Do nothing: nothing is open."""


def shelf_of(reference: Reference) -> Shelf:
    """Return where what a reference leads to is kept: a layout where it is, else this user's cache; close it."""
    return _LayoutShelf(reference.path) if isinstance(reference, LayoutReference) else Cache()


def store_image(source: Source) -> StoreImage | None:
    """Return the store's layers in the container image that a reference leads to, None for what is no container image.

    Of an image for several platforms any has them. Raises UnsupportedError for an image without a store.
    """
    top, data = source.resolve()
    if top.media_type in INDEXES:
        entries = [item for item in decode(data, Index, source.name).manifests if item.media_type in MANIFESTS]
        documents = [source.read(item) for item in entries[:1]]
    else:
        documents = [data]
    manifests = [decode(document, Manifest, source.name) for document in documents]
    for manifest in manifests:
        if manifest.config.media_type in CONFIGS:
            config = decode(source.read(manifest.config), SeenConfig, source.name)
            return find_store(manifest, config, source.name)
    return None


def origin_of(source: Source, shelf: Shelf, progress: Progress, image: StoreImage | None) -> Origin:
    """Return the files of the store that a source leads to: those of an artifact, or of the image that carries it."""
    if image is None:
        return RemoteOrigin(source, shelf, progress)
    return ImageOrigin(source, image, shelf, progress)


def open_store(reference: Reference, access: Access, progress: Progress, threads: int | None = None) -> Store:
    """Open the store that a reference leads to; what is read of it in a registry is fetched and kept in the cache."""
    with ExitStack() as stack:
        source = stack.enter_context(closing(source_of(reference, access, progress)))
        image = store_image(source)  # whose layers are unpacked, wherever they lie
        shelf = stack.enter_context(closing(shelf_of(reference) if image is None else Cache()))
        store = Store(origin_of(source, shelf, progress, image), threads=threads)
        stack.pop_all()  # the store closes them
        return store
