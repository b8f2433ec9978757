"""Opening a store that is no directory: in an OCI layout, or in a registry."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from rehydrator.manifest.schema import File
from rehydrator.oci.artifact import descriptor_of
from rehydrator.oci.layout import blob_path
from rehydrator.oci.reference import LayoutReference, Reference
from rehydrator.progress import Progress
from rehydrator.registry.access import Access
from rehydrator.registry.cache import Cache
from rehydrator.registry.origin import RemoteOrigin, Shelf
from rehydrator.registry.place import source_of
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


def open_store(reference: Reference, access: Access, progress: Progress, threads: int | None = None) -> Store:
    """Open the store that a reference leads to; what is read of it in a registry is fetched and kept in the cache."""
    with ExitStack() as stack:
        source = stack.enter_context(closing(source_of(reference, access, progress)))
        shelf = stack.enter_context(closing(shelf_of(reference)))
        store = Store(RemoteOrigin(source, shelf, progress), threads=threads)
        stack.pop_all()  # the store closes them
        return store
