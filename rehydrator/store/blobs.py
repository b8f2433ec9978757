"""Blobs: content by name, where the name is the sha256 of the compressed file."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import zstandard

from rehydrator.codecs import seekable
from rehydrator.disk.extents import Data
from rehydrator.disk.source import Source
from rehydrator.errors import StoreDamagedError, UsageError
from rehydrator.manifest.schema import BlobRef, File
from rehydrator.store.files import MAX_SMALL, open_stored, read_pinned, sha256_file
from rehydrator.store.layout import BLOBS
from rehydrator.store.origin import Origin

_NAME = re.compile(r"[0-9a-f]{64}")
_SMALL_LEVEL = 19


def blob_file(ref: BlobRef) -> File:
    """Return the file of a blob, with its path relative to the store."""
    if not _NAME.fullmatch(ref.sha256):
        raise StoreDamagedError("a blob's name is not a sha256", actual=repr(ref.sha256[:80]))
    return File(f"{BLOBS}/{ref.sha256}", ref.size, ref.sha256)


class BlobReader:
    """Reads the blobs of a store."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def small(self, ref: BlobRef) -> bytes:
        """Return the whole content of a blob after comparing its digest."""
        file = blob_file(ref)
        path = self._origin.local(file)
        if not 0 <= ref.content_size <= MAX_SMALL:
            raise StoreDamagedError("a blob that is too large to be read at once", path=path, actual=ref.content_size)
        data = read_pinned(path, file)
        try:
            # one byte more than it should hold shows a bomb, and is all that is decompressed of one
            content = zstandard.ZstdDecompressor().stream_reader(data).read(ref.content_size + 1)
        except zstandard.ZstdError as error:
            raise StoreDamagedError(f"can't be decompressed: {error}", path=path) from error
        if len(content) != ref.content_size:
            found = "more" if len(content) > ref.content_size else len(content)
            raise StoreDamagedError("has another size", path=path, expected=ref.content_size, actual=found)
        return content

    def large(self, ref: BlobRef, threads: int, prefix: Source | None = None) -> seekable.SeekableSource:
        """Open a blob for random access; each frame's checksum is compared when it is read."""
        file = open_stored(self._origin.local(blob_file(ref)))
        source = seekable.SeekableSource(file, threads=threads, prefix=prefix)
        if source.size != ref.content_size:
            raise StoreDamagedError("has another size", path=file.path, expected=ref.content_size, actual=source.size)
        return source


class BlobWriter:
    """Adds blobs to a store that is being made; safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        (root / BLOBS).mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self.refs: dict[str, BlobRef] = {}

    def put(self, content: bytes) -> str:
        """Store small content; return the blob's name."""
        if len(content) > MAX_SMALL:
            raise UsageError("content too large for a small blob", actual=len(content))
        data = zstandard.ZstdCompressor(level=_SMALL_LEVEL, write_content_size=True).compress(content)
        with tempfile.NamedTemporaryFile(dir=self._root / BLOBS, delete=False) as stream:
            stream.write(data)
        return self._adopt(Path(stream.name), hashlib.sha256(data).hexdigest(), len(content)).sha256

    def put_stream(
        self, pieces: Iterable[Data], size: int, *, level: int, threads: int, prefix: bytes = b""
    ) -> BlobRef:
        """Store large content of ``size`` bytes, given in pieces of one frame each, for random access.

        Who opens it has to know ``prefix``, to which the frames refer.
        """
        with tempfile.NamedTemporaryFile(dir=self._root / BLOBS, delete=False) as stream:
            seekable.compress(pieces, stream, level=level, threads=threads, prefix=prefix)
        path = Path(stream.name)
        return self._adopt(path, sha256_file(path), size)

    def _adopt(self, path: Path, sha256: str, content_size: int) -> BlobRef:
        ref = BlobRef(sha256, path.stat().st_size, content_size)
        path.chmod(0o644)
        with self._lock:
            path.replace(self._root / blob_file(ref).name)
            self.refs[sha256] = ref
        return ref

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove blobs that nothing refers to."""
        wanted = set(names)
        for entry in os.scandir(self._root / BLOBS):
            if entry.name not in wanted:
                Path(entry.path).unlink()
