"""Reading a gzip file at any place: decompressed once from start to end, with a way back in every few MiB."""

from __future__ import annotations

import bisect
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.disk.extents import CHUNK, Data, Extent, ExtentMap, nonzero_blocks
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.c_gzip import MAGIC, Flag, Header, Trailer

MAX_NAME = 4096
MAX_CONTENT = 1 << 44
_FEED = 1 << 16
_SPAN = 8 << 20  # content between two ways back in, each of which takes some 50 KB of memory


class GzipHeader(msgspec.Struct, frozen=True):
    """The head of a file, and where the compressed stream begins."""

    header: Header
    name: bytes | None
    length: int


def read_header(outer: Source, path: Path) -> GzipHeader:
    """Read the header; raises UnsupportedError for optional parts that GNU gzip does not write."""
    data = bytes(outer.read(0, min(outer.size, Header.SIZE + MAX_NAME)))
    try:
        header = Header.parse(data)
    except CorruptError as error:
        raise error.located(path) from error
    if data[: len(MAGIC)] != MAGIC:
        raise CorruptError("not a gzip file: wrong magic", path=path, offset=0, actual=data[:3].hex())
    if header.FLG & ~Flag.FNAME:
        raise UnsupportedError("gzip header with optional parts", path=path, offset=3, actual=f"flags {header.FLG:#x}")
    if not header.FLG & Flag.FNAME:
        return GzipHeader(header, None, Header.SIZE)
    end = data.find(b"\0", Header.SIZE)
    if end < 0:
        raise CorruptError("gzip file name without an end", path=path, offset=Header.SIZE)
    return GzipHeader(header, data[Header.SIZE : end], end + 1)


class _Cursor(msgspec.Struct):
    """A decoder and where it stands: in the file and in the content."""

    decoder: zlib._Decompress
    at: int
    offset: int

    def copy(self) -> _Cursor:
        return _Cursor(self.decoder.copy(), self.at, self.offset)


class GzipContent(Source):
    """The content of a gzip file. Decompresses all of it when made, which also checks it."""

    def __init__(self, outer: Source, start: int, path: Path) -> None:
        self._outer = outer
        self._path = path
        self._lock = threading.Lock()
        self._cursor = _Cursor(zlib.decompressobj(-zlib.MAX_WBITS), start, 0)
        self._ways = [self._cursor.copy()]
        self._nonzero = ExtentMap(self._scan())
        self._offsets = [way.offset for way in self._ways]
        self.size = self._cursor.offset
        self._check_end()

    def _scan(self) -> Iterator[Extent]:
        cursor = self._cursor
        self.crc32 = 0
        pending = b""
        while piece := self._next(cursor, CHUNK - len(pending)):
            self.crc32 = zlib.crc32(piece, self.crc32)
            pending += piece
            if len(pending) == CHUNK:
                yield from nonzero_blocks(pending, cursor.offset - CHUNK)
                pending = b""
            if cursor.offset - self._ways[-1].offset >= _SPAN:
                self._ways.append(cursor.copy())
            if cursor.offset > MAX_CONTENT:
                raise CorruptError("gzip content is impossibly large", path=self._path, offset=cursor.at)
        if pending:
            yield from nonzero_blocks(pending, cursor.offset - len(pending))

    def _next(self, cursor: _Cursor, limit: int) -> bytes:
        """Return the next piece of content, at most ``limit`` bytes; nothing at the end of the stream."""
        while not cursor.decoder.eof:
            feed = bytes(self._outer.read(cursor.at, min(_FEED, self._outer.size - cursor.at)))
            try:
                piece = cursor.decoder.decompress(feed, limit)
            except zlib.error as error:
                raise CorruptError(
                    f"gzip stream is damaged after {cursor.offset} bytes of content: {error}",
                    path=self._path,
                    offset=cursor.at,
                ) from error
            rest = cursor.decoder.unused_data if cursor.decoder.eof else cursor.decoder.unconsumed_tail
            cursor.at += len(feed) - len(rest)
            cursor.offset += len(piece)
            if piece:
                return piece
            if not feed:
                raise CorruptError(
                    f"gzip stream is truncated after {cursor.offset} bytes of content",
                    path=self._path,
                    offset=cursor.at,
                )
        return b""

    def _check_end(self) -> None:
        at = self._cursor.at
        rest = bytes(self._outer.read(at, min(Trailer.SIZE, self._outer.size - at)))
        try:
            trailer = Trailer.parse(rest)
        except CorruptError as error:
            error.offset = at
            raise error.located(self._path) from error
        for name, right in (("CRC32", self.crc32), ("ISIZE", self.size % (1 << 32))):
            found = getattr(trailer, name)
            if found != right:
                raise CorruptError(
                    f"gzip {name} is wrong",
                    path=self._path,
                    offset=at + Trailer.offset_of(name),
                    expected=f"{right:#x}",
                    actual=f"{found:#x}",
                )
        if at + Trailer.SIZE != self._outer.size:
            raise UnsupportedError("gzip file with something after its first member", path=self._path, offset=at + 8)

    def extents(self) -> Iterator[Extent]:
        """Yield the exact map."""
        yield from self._nonzero

    def nonzero(self) -> ExtentMap:
        """Return the map that was made on the way through."""
        return self._nonzero

    def read(self, offset: int, length: int) -> Data:
        """Decompress from where the last read ended, or from the nearest way in."""
        if not self._nonzero.touches(offset, length):
            return bytes(length)
        with self._lock:
            nearest = self._ways[bisect.bisect_right(self._offsets, offset) - 1]
            if not nearest.offset <= self._cursor.offset <= offset:
                self._cursor = nearest.copy()
            while self._cursor.offset < offset:
                self._next(self._cursor, min(CHUNK, offset - self._cursor.offset))
            parts = []
            while length > 0:
                parts.append(self._next(self._cursor, length))
                length -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)
