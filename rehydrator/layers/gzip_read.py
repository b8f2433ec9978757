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
from rehydrator.layers.exactness import KEEP, reading

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
    with reading(path):
        header = Header.parse(data)
    if data[: len(MAGIC)] != MAGIC:
        raise CorruptError(
            "not a gzip file: wrong magic", path=path, offset=0, expected=MAGIC.hex(), actual=data[: len(MAGIC)].hex()
        )
    if header.FLG & ~Flag.FNAME:
        raise UnsupportedError(
            "gzip header with optional parts",
            path=path,
            offset=Header.offset_of("FLG"),
            expected=f"flags 0 or {Flag.FNAME:#x}",
            actual=f"{header.FLG:#x}",
            hint=KEEP,
        )
    if not header.FLG & Flag.FNAME:
        return GzipHeader(header, None, Header.SIZE)
    end = data.find(b"\0", Header.SIZE)
    if end < 0:
        raise CorruptError(
            "gzip file name without an end",
            path=path,
            offset=Header.SIZE,
            expected=f"at most {MAX_NAME} bytes",
            actual=f"{len(data) - Header.SIZE} bytes without a zero",
        )
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
            raise _damaged("gzip stream is damaged", at, made, "a deflate stream", str(error), path) from error
        at += len(feed) - len(decoder.unused_data if decoder.eof else decoder.unconsumed_tail)
        made += len(piece)
        crc32 = inflating.crc32(piece, crc32)
        if not piece and not feed:
            raise _damaged("gzip stream is truncated", at, made, "the end of the stream", "that of the file", path)
        if made > MAX_CONTENT:
            raise _damaged("gzip content is impossibly large", at, made, f"at most {MAX_CONTENT}", "more", path)
        yield piece
    _check_end(outer, at, Trailer(CRC32=crc32, ISIZE=made % (1 << 32)), path)


def _damaged(what: str, at: int, made: int, expected: str, actual: str, path: Path) -> CorruptError:
    """Return the error about a stream of which ``made`` bytes of content were read."""
    message = f"{what} after {made} bytes of content"
    return CorruptError(message, path=path, offset=at, expected=expected, actual=actual)


def _check_end(outer: Source, at: int, right: Trailer, path: Path) -> None:
    with reading(path, at=lambda: at):
        trailer = Trailer.parse(bytes(outer.read(at, min(Trailer.SIZE, outer.size - at))))
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
        end = at + Trailer.SIZE
        raise UnsupportedError(
            "gzip file with something after its first member",
            path=path,
            offset=end,
            expected=f"{end} bytes",
            actual=f"{outer.size} bytes",
            hint=KEEP,
        )
