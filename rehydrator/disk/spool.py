"""Content on its way to a sparse file, so that it can be read at any place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rehydrator.disk.extents import CHUNK, Data, Extent, ExtentMap, nonzero_blocks
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


def whole_chunks(pieces: Iterable[Data]) -> Iterator[Data]:
    """Cut content into pieces of :data:`CHUNK` bytes, the last one less: decompressors end theirs where they like."""
    held = bytearray()
    for piece in pieces:
        if not held and len(piece) == CHUNK:
            yield piece
            continue
        held += piece
        while len(held) >= CHUNK:
            yield bytes(held[:CHUNK])
            del held[:CHUNK]
    if held:
        yield bytes(held)


def spooled(pieces: Iterable[Data], name: str = "") -> FileSource:
    """Write content to a file under TMPDIR that has no name, so that nothing is left whatever happens.

    ``name`` is told in the OutputError of a full disk.
    """
    # Left to find the directory by itself, tempfile tries it with a file that has a name.
    with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or "/tmp") as stream:
        found: list[Extent] = []
        at = 0
        for piece in whole_chunks(pieces):
            try:
                found += write_sparse(stream.fileno(), piece, at)
            except OSError as error:
                hint = "Free some space or set TMPDIR"
                raise OutputError(f"no room for decompressing {name}: {error.strerror}", hint=hint) from error
            at += len(piece)
        os.ftruncate(stream.fileno(), at)
        return FileSource(Path(f"/proc/self/fd/{stream.fileno()}"), ExtentMap(found))
