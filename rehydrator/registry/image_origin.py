"""The files of a store that a container image carries: of its layers only those are fetched that are needed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from rehydrator.disk.sink import FileSink
from rehydrator.disk.source import ByteFile
from rehydrator.errors import BusyError, StoreDamagedError, UnsupportedError
from rehydrator.manifest.schema import File
from rehydrator.oci.c_oci import Descriptor
from rehydrator.oci.digest import sha256_of
from rehydrator.oci.layer_files import LayerFile, layer_files
from rehydrator.oci.store_image import StoreImage
from rehydrator.progress import Progress
from rehydrator.registry.origin import WAIT, Shelf
from rehydrator.registry.place import Source
from rehydrator.store.files import MAX_SMALL, open_stored
from rehydrator.store.layout import INDEX, canonical_name
from rehydrator.store.pieces import PieceDigests

_UNKNOWN = "0" * 64
_EXPANDS = 64  # times its size is the most that a layer may hold: what is in a store is compressed already


class ImageOrigin:
    """An origin of a store: see :class:`~rehydrator.store.origin.Origin`.

    The layer with the index, the manifests and the blobs stays on the shelf; that of a canonical disk goes when the
    disk was taken out of it.
    """

    def __init__(self, source: Source, image: StoreImage, shelf: Shelf, progress: Progress) -> None:
        self._source = source
        self._image = image
        self._shelf = shelf
        self._progress = progress
        self._lock = threading.Lock()

    @property
    def name(self) -> Path:
        """The reference."""
        return self._source.name

    def index(self) -> bytes:
        """Return the index, which is in the layer that all but the canonical disks are in."""
        path = self._fetched(self._image.rest)
        for file in layer_files(path):
            if file.name == INDEX and file.size <= MAX_SMALL:
                return b"".join(file.content)
        raise UnsupportedError("has a layer without the index of a store", path=self.name, expected=INDEX)

    def bring(self, files: Sequence[File]) -> None:
        """Fetch what is not there yet."""
        for file in files:
            self.local(file)

    def local(self, file: File) -> Path:
        """Return where a file lies, after its layer was fetched and unpacked if it was not there."""
        path = self._shelf.path(file)
        with self._lock:
            if not self._shelf.has(file):
                self._unpack(file)
                if not self._shelf.has(file):
                    raise StoreDamagedError("is not in the image as its index says", path=self.name / file.name)
        return path

    def opened(self, file: File, _: Callable[[], PieceDigests | None]) -> ByteFile:
        """Open a file after all of it has come."""
        return open_stored(self.local(file))

    def _unpack(self, wanted: File) -> None:
        """Put files of the layer that holds ``wanted`` on the shelf: the canonical disk alone, or all."""
        for arch, layer in self._image.canonicals.items():
            if wanted.name == canonical_name(arch):
                path = self._fetched(layer)
                for file in layer_files(path):
                    if (file.name, file.size) == (wanted.name, wanted.size):
                        self._keep(file)
                path.unlink()
                return
        room = self._image.rest.size * _EXPANDS
        for file in layer_files(self._fetched(self._image.rest)):
            room -= file.size
            if room < 0:
                raise StoreDamagedError("has a layer that expands to too much", path=self.name)
            self._keep(file)

    def _keep(self, file: LayerFile) -> None:
        """Put a file under the name that its digest gives it."""
        digest = hashlib.sha256()
        with FileSink(self._shelf.path(File(file.name, file.size, _UNKNOWN)), sparse=False) as sink:
            for piece in file.content:
                digest.update(piece)
                sink.write(piece)
            sink.commit(self._shelf.path(File(file.name, file.size, digest.hexdigest())))

    def _fetched(self, layer: Descriptor) -> Path:
        sha256 = sha256_of(layer.digest, self.name)
        file = File(f".{sha256}.layer", layer.size, sha256)  # hidden: no file of a store
        path = self._shelf.path(file)
        while not self._shelf.has(file):
            try:
                self._source.fetch(layer, path, f"layer {layer.digest}")
            except BusyError:
                self._progress.pause(WAIT)
        return path

    def stop(self) -> None:
        """Make what is under way in other threads fail now."""
        self._source.abort()

    def close(self) -> None:
        """Let shelf and source go."""
        self._shelf.close()
        self._source.close()
