"""Where the files of a store come from: a directory, or something that brings them there when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rehydrator.disk.source import ByteFile
from rehydrator.errors import AbsentError, UsageError
from rehydrator.manifest.schema import File
from rehydrator.store.files import open_stored, read_small
from rehydrator.store.layout import INDEX, inside
from rehydrator.store.pieces import PieceDigests


class Origin(Protocol):
    """Gives the files of one store; safe to use from several threads."""

    @property
    def name(self) -> Path:
        """What the store is called in messages; names of its files are told below it."""
        ...

    def index(self) -> bytes:
        """Return the index as it is; its seal is checked by whoever reads it."""
        ...

    def bring(self, files: Sequence[File]) -> None:
        """Have files at hand that will be asked for soon, several at once."""
        ...

    def local(self, file: File) -> Path:
        """Return where a file lies, after it was brought there.

        Whoever reads it compares its digest, and finds out where it is missing. Raises StoreDamagedError for an
        impossible name.
        """
        ...

    def opened(self, file: File, digests: Callable[[], PieceDigests | None]) -> ByteFile:
        """Open a file for reading in any order; close it.

        Only the parts that are read have to be brought where ``digests`` gives those of its pieces.
        """
        ...

    def stop(self) -> None:
        """Make what is under way in other threads fail now; nothing is asked for any more."""
        ...

    def close(self) -> None:
        """Give up what was opened or made for a while."""
        ...


class Directory:
    """A store as a directory; nothing has to be brought."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> Path:
        """The directory."""
        return self._root

    def index(self) -> bytes:
        """Read the index. Raises UsageError where there is none."""
        path = self._root / INDEX
        try:
            return read_small(path)
        except AbsentError as error:
            raise UsageError(
                f"no rehydrator store here: {error.message}",
                path=path,
                hint="Name one with --store or $REHYDRATOR_STORE",
            ) from error

    def bring(self, files: Sequence[File]) -> None:
        """Do nothing: all files are here."""

    def local(self, file: File) -> Path:
        """Return the file's path in the directory."""
        return inside(self._root, file.name)

    def opened(self, file: File, _: Callable[[], PieceDigests | None]) -> ByteFile:
        """Open the file in the directory, where all of it is."""
        return open_stored(self.local(file))

    def stop(self) -> None:
        """Do nothing: nothing is under way."""

    def close(self) -> None:
        """Do nothing: nothing was opened."""
