"""Reading a release's documents: small files, of which a large one is something else."""

from __future__ import annotations

from pathlib import Path

from rehydrator.disk.source import read_bounded

MAX_DOCUMENT = 16 << 20  # bytes; the stream metadata of Fedora CoreOS has 100 KiB


def read_document(path: Path) -> bytes:
    """Return the content of a document; raises InputError for one that can't be read or is larger than any is."""
    return read_bounded(path, MAX_DOCUMENT)
