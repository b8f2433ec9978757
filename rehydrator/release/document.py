"""Reading a release's documents: small files, of which a large one is something else."""

from __future__ import annotations

from pathlib import Path

from rehydrator.errors import InputError

MAX_DOCUMENT = 16 << 20  # bytes; the stream metadata of Fedora CoreOS has 100 KiB


def read_document(path: Path) -> bytes:
    """Return the content of a document; raises InputError for one that can't be read or is larger than any is."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    if len(data) > MAX_DOCUMENT:
        raise InputError("is too large for a document of a release", path=path, expected=f"<= {MAX_DOCUMENT} bytes")
    return data
