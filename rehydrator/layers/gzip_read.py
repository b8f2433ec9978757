"""Reading a gzip file of one member: its header, and its content from front to back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.codecs import inflating
from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.c_gzip import MAGIC, Flag, Header, Trailer

MAX_NAME = 4096
MAX_CONTENT = 1 << 44
_FEED = 1 << 16


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


def member_content(outer: Source, start: int, path: Path) -> Iterator[bytes]:
    """Yield the content of the one member, whose stream begins at byte ``start``; then compare what its trailer says.

    Raises CorruptError for a damaged or truncated file, UnsupportedError for one with something after the member.
    """
    decoder = inflating.decoder(-inflating.MAX_WBITS)
    at, made, crc32 = start, 0, 0
    while not decoder.eof:
        feed = bytes(outer.read(at, min(_FEED, outer.size - at)))
        try:
            piece = decoder.decompress(feed, CHUNK)
        except inflating.ERRORS as error:
            message = f"gzip stream is damaged after {made} bytes of content: {error}"
            raise CorruptError(message, path=path, offset=at) from error
        at += len(feed) - len(decoder.unused_data if decoder.eof else decoder.unconsumed_tail)
        made += len(piece)
        crc32 = inflating.crc32(piece, crc32)
        if not piece and not feed:
            raise CorruptError(f"gzip stream is truncated after {made} bytes of content", path=path, offset=at)
        if made > MAX_CONTENT:
            raise CorruptError("gzip content is impossibly large", path=path, offset=at)
        yield piece
    _check_end(outer, at, Trailer(CRC32=crc32, ISIZE=made % (1 << 32)), path)


def _check_end(outer: Source, at: int, right: Trailer, path: Path) -> None:
    try:
        trailer = Trailer.parse(bytes(outer.read(at, min(Trailer.SIZE, outer.size - at))))
    except CorruptError as error:
        error.offset = at
        raise error.located(path) from error
    for name in ("CRC32", "ISIZE"):
        found, expected = getattr(trailer, name), getattr(right, name)
        if found != expected:
            raise CorruptError(
                f"gzip {name} is wrong",
                path=path,
                offset=at + Trailer.offset_of(name),
                expected=f"{expected:#x}",
                actual=f"{found:#x}",
            )
    if at + Trailer.SIZE != outer.size:
        raise UnsupportedError("gzip file with something after its first member", path=path, offset=at + Trailer.SIZE)
