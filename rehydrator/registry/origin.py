"""The files of a store in a registry or layout, brought when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rehydrator.disk.source import ByteFile
from rehydrator.errors import BusyError
from rehydrator.manifest.schema import File
from rehydrator.manifest.text import decode
from rehydrator.oci.artifact import descriptor_of, index_of
from rehydrator.oci.c_oci import Manifest
from rehydrator.progress import Progress
from rehydrator.registry.pieced import PiecedFile
from rehydrator.registry.place import Source
from rehydrator.store.files import open_stored
from rehydrator.store.pieces import PieceDigests
from rehydrator.workers import worker_pool

WAIT = 0.2  # seconds between two looks at what somebody else fetches


class Shelf(Protocol):
    """Where files arrive."""

    def path(self, file: File) -> Path:
        """Return where a file lies, or has to arrive."""
        ...

    def has(self, file: File) -> bool:
        """Whether the file is there, as it should be."""
        ...

    def close(self) -> None:
        """Let the shelf go."""
        ...


class RemoteOrigin:
    """An origin of a store: see :class:`~rehydrator.store.origin.Origin`."""

    def __init__(self, source: Source, shelf: Shelf, progress: Progress) -> None:
        self._source = source
        self._shelf = shelf
        self._progress = progress
        self._pieced: list[PiecedFile] = []

    @property
    def name(self) -> Path:
        """The reference."""
        return self._source.name

    def index(self) -> bytes:
        """Return the index: the config of the artifact that the reference leads to."""
        _, data = self._source.resolve()
        return self._source.read(index_of(decode(data, Manifest, self.name), self.name))

    def bring(self, files: Sequence[File]) -> None:
        """Fetch what is not there yet, several at once."""
        missing = [file for file in files if not self._shelf.has(file)]
        with worker_pool(self._source.at_once, "fetch", self._progress) as pool:
            try:
                for _ in pool.map(self.local, missing):
                    pass
            except BaseException:
                self._source.abort()
                raise

    def local(self, file: File) -> Path:
        """Return where a file lies, after fetching it if it was not there."""
        path = self._shelf.path(file)
        while not self._shelf.has(file):
            try:
                self._source.fetch(descriptor_of(file), path, file.name)
            except BusyError:
                self._progress.pause(WAIT)
        return path

    def opened(self, file: File, digests: Callable[[], PieceDigests | None]) -> ByteFile:
        """Open a file that is there, or one whose parts are fetched when they are read."""
        known = None if self._shelf.has(file) else digests()
        made = None if known is None else self._source.open_parts(file, known, self._shelf.path(file))
        if made is None:
            return open_stored(self.local(file))
        self._pieced.append(made)
        return made

    def stop(self) -> None:
        """Make what is under way in other threads fail now."""
        for file in self._pieced:
            file.stop()
        self._source.abort()

    def close(self) -> None:
        """Let shelf and source go."""
        self._shelf.close()
        self._source.close()
