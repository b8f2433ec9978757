"""What the header of an outer compression says beside the content: names and times."""

from __future__ import annotations

from pathlib import Path

from rehydrator.disk.source import FileSource
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.gzip_read import read_header
from rehydrator.layers.views import utc, view_of
from rehydrator.layers.zip import read_headers
from rehydrator.release.formats import Compression


def compression_header(path: Path, compression: Compression) -> dict[str, object]:
    """Return the header's fields by the names of its specification; none for what is not read here."""
    match compression:
        case "gzip":
            return _gzip(path)
        case "zip":
            return _zip(path)
    return {}


def _gzip(path: Path) -> dict[str, object]:
    try:
        with FileSource(path) as source:
            found = read_header(source, path)
    except (CorruptError, UnsupportedError):
        return {}  # decompressing tells what is wrong
    name = None if found.name is None else found.name.decode("latin-1")
    header = found.header
    return {"FNAME": name, "MTIME": utc(header.MTIME), "XFL": header.XFL, "OS": header.OS}


def _zip(path: Path) -> dict[str, object]:
    try:
        with FileSource(path) as source:
            return view_of(read_headers(source, path))
    except (CorruptError, UnsupportedError):
        return {}  # decompressing tells what is wrong
