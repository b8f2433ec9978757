"""Taking off the outer compression of a shipped file, as a stream of pieces."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rehydrator.codecs import inflating
from rehydrator.disk.extents import CHUNK
from rehydrator.errors import CorruptError, InputError
from rehydrator.release.formats import Compression

_DAMAGE: tuple[type[Exception], ...] = (
    lzma.LZMAError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    *inflating.ERRORS,
    NotImplementedError,
    RuntimeError,
)


@contextmanager
def _content(raw: IO[bytes], compression: Compression) -> Iterator[IO[bytes]]:
    match compression:
        case "xz":
            with lzma.open(raw) as stream:
                yield stream
        case "gzip":
            with inflating.open_gzip(raw) as stream:
                yield stream
        case "zip":
            with zipfile.ZipFile(raw) as archive:
                members = archive.infolist()
                if len(members) != 1:
                    raise CorruptError("a shipped zip holds one file", expected=1, actual=len(members))
                with archive.open(members[0]) as stream:
                    yield stream
        case "none":
            yield raw


def pieces(path: Path, compression: Compression, limit: int | None = None) -> Iterator[bytes]:
    """Yield the content of ``path`` in pieces of :data:`CHUNK` bytes (the last one less).

    More than ``limit`` bytes, a truncated or a damaged stream raise CorruptError.
    """
    try:
        with path.open("rb") as raw:
            yield from _pieces(raw, path, compression, limit)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error


def _pieces(raw: IO[bytes], path: Path, compression: Compression, limit: int | None) -> Iterator[bytes]:
    """Yield the content of an opened file. Errors tell the place up to which it was read, at most a buffer too far."""
    total = 0
    try:
        with _content(raw, compression) as stream:
            while piece := _read_full(stream):
                total += len(piece)
                _check_limit(total, limit)
                yield piece
    except CorruptError as error:
        raise error.located(path, raw.tell()) from error
    except EOFError as error:
        raise CorruptError(
            f"{compression} stream is truncated",
            path=path,
            offset=raw.tell(),
            expected="the end of the stream",
            actual=f"the end of the file after {total} bytes of content",
        ) from error
    except _DAMAGE as error:
        raise CorruptError(
            f"{compression} stream is damaged after {total} bytes",
            path=path,
            offset=raw.tell(),
            expected=f"{compression} data",
            actual=str(error),
        ) from error


def _check_limit(total: int, limit: int | None) -> None:
    if limit is not None and total > limit:
        raise CorruptError("holds more than its metadata says", expected=f"{limit} bytes", actual="more")


def _read_full(stream: IO[bytes]) -> bytes:
    """Read a whole chunk: decompressors return short reads at their block borders."""
    first = stream.read(CHUNK)
    if len(first) in (0, CHUNK):
        return first
    parts = [first]
    missing = CHUNK - len(first)
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
