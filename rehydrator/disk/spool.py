"""Content on its way to a sparse file, so that it can be read at any place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from rehydrator.disk.extents import Data, Extent, ExtentMap, nonzero_blocks, whole_chunks
from rehydrator.disk.source import FileSource
from rehydrator.errors import OutputError


def write_sparse(fd: int, piece: Data, at: int) -> list[Extent]:
    """Write the blocks of ``piece`` that are not zero to byte ``at`` on; return where they lie."""
    view = memoryview(piece)
    runs = list(nonzero_blocks(piece, at))
    for run in runs:
        part = view[run.offset - at : run.end - at]
        done = 0
        while done < len(part):
            done += os.pwrite(fd, part[done:], run.offset + done)
    return runs


def nameless() -> IO[bytes]:
    """Open a file under TMPDIR that has no name; left to find the directory, tempfile tries it with one that has.

    Raises OutputError where no file can be made there.
    """
    directory = Path(os.environ.get("TMPDIR") or "/tmp")
    try:
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        hint = "Set TMPDIR to a directory that can be written to"
        raise OutputError(f"no temporary file can be made: {error.strerror}", path=directory, hint=hint) from error


def no_room(name: str, error: OSError) -> OutputError:
    """Return the error of a full disk; ``name`` is what was being decompressed."""
    hint = "Free some space or set TMPDIR"
    return OutputError(f"no room in TMPDIR for {name}: {error.strerror}", hint=hint)


def spooled(pieces: Iterable[Data], name: str = "") -> FileSource:
    """Write content to a file under TMPDIR that has no name, so that nothing is left whatever happens.

    ``name`` is told in the OutputError of a full disk.
    """
    with nameless() as stream:
        found: list[Extent] = []
        at = 0
        for piece in whole_chunks(pieces):
            try:
                found += write_sparse(stream.fileno(), piece, at)
            except OSError as error:
                raise no_room(name, error) from error
            at += len(piece)
        os.ftruncate(stream.fileno(), at)
        return FileSource(Path(f"/proc/self/fd/{stream.fileno()}"), ExtentMap(found))
