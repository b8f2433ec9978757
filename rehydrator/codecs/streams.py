"""Compressed streams that begin somewhere in a file: how far they reach, and what is in them.

An initramfs is several of them, one behind the other, of whatever compression.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import zstandard

from rehydrator.codecs.c_xz import HEADER_MAGIC as XZ
from rehydrator.codecs.c_zstd import (
    BLOCK_HEADER,
    CHECKSUM,
    CONTENT_SIZE,
    DICTIONARY_ID,
    WINDOW_DESCRIPTOR,
    BlockType,
    Descriptor,
)
from rehydrator.codecs.c_zstd import MAGIC as ZSTD
from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP = b"\x1f\x8b\x08"
MAGICS = {"gzip": GZIP, "xz": XZ, "zstd": ZSTD}
_HEAD = max(map(len, MAGICS.values()))
_GZIP_WBITS = 31
_MAX_WINDOW = 1 << 27  # bytes: what zstd --ultra asks for at most, and more than kernels take
_XZ_MEMORY = 256 << 20
_INPUT = 1 << 16


def stream_at(source: Source, at: int = 0) -> str:
    """Return the name of the compression of a stream that begins at byte ``at``, empty for none that is known."""
    head = bytes(source.read(at, min(_HEAD, source.size - at)))
    return next((name for name, magic in MAGICS.items() if head.startswith(magic)), "")


def end_of(source: Source, at: int = 0) -> int:
    """Return where the stream at byte ``at`` ends. Raises CorruptError for a damaged one."""
    if stream_at(source, at) == "zstd":
        return _end_of_frame(source, at)
    pieces = _unpacked(source, at)
    while True:
        try:
            next(pieces)
        except StopIteration as stop:
            return int(stop.value)


def content(source: Source, at: int = 0) -> Iterator[bytes]:
    """Yield what the stream at byte ``at`` holds, in pieces of at most CHUNK bytes. Raises CorruptError for damage."""
    if stream_at(source, at) != "zstd":
        yield from _unpacked(source, at)
        return
    try:
        decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        frame = Window(source, at, end_of(source, at) - at)
        with decoder.stream_reader(io.BufferedReader(_Stream(frame), _INPUT)) as stream:
            while piece := stream.read(CHUNK):
                yield piece
    except zstandard.ZstdError as error:
        raise _damaged("zstd", at, str(error)) from error


def _damaged(name: str, at: int, problem: str) -> CorruptError:
    return CorruptError(f"a {name} stream is damaged", offset=at, expected=f"{name} data", actual=problem)


def _unpacked(source: Source, at: int) -> Generator[bytes, None, int]:
    """Yield the content of a stream of gzip or xz; return where it ends."""
    name = stream_at(source, at)
    inflated = _inflated(source, at) if name == "gzip" else _unxz(source, at)
    try:
        return (yield from inflated)
    except (zlib.error, lzma.LZMAError) as error:
        raise _damaged(name, at, str(error)) from error


def _inflated(source: Source, at: int) -> Generator[bytes, None, int]:
    decoder = zlib.decompressobj(_GZIP_WBITS)
    waiting = b""
    place = at
    while not decoder.eof:
        if not waiting:
            waiting = _input(source, place, at, "gzip")
            place += len(waiting)
        yield decoder.decompress(waiting, CHUNK)
        waiting = decoder.unconsumed_tail
    return place - len(decoder.unused_data)


def _unxz(source: Source, at: int) -> Generator[bytes, None, int]:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    place = at
    while not decoder.eof:
        waiting = b""
        if decoder.needs_input:
            waiting = _input(source, place, at, "xz")
            place += len(waiting)
        yield decoder.decompress(waiting, CHUNK)
    return place - len(decoder.unused_data)


def _input(source: Source, place: int, at: int, name: str) -> bytes:
    data = bytes(source.read(place, min(_INPUT, source.size - place)))
    if not data:
        raise _damaged(name, at, "the end of the file")
    return data


def _end_of_frame(source: Source, at: int) -> int:
    """Go from block to block, without decompressing any."""
    place = at + len(ZSTD)
    flags = _number(source, place, 1, at)
    single = bool(flags & Descriptor.SINGLE_SEGMENT)
    size = CONTENT_SIZE[flags >> 6] or int(single)
    place += 1 + (0 if single else WINDOW_DESCRIPTOR) + DICTIONARY_ID[flags & 3] + size
    last = False
    while not last:
        header = _number(source, place, BLOCK_HEADER, at)
        last, kind, length = bool(header & 1), BlockType(header >> 1 & 3), header >> 3
        if kind is BlockType.RESERVED:
            raise _damaged("zstd", at, f"a block of a reserved type at {place:#x}")
        place += BLOCK_HEADER + (1 if kind is BlockType.RLE else length)
    place += CHECKSUM if flags & Descriptor.CONTENT_CHECKSUM else 0
    if place > source.size:
        raise _damaged("zstd", at, "the end of the file")
    return place


def _number(source: Source, place: int, size: int, at: int) -> int:
    if place + size > source.size:
        raise _damaged("zstd", at, "the end of the file")
    return int.from_bytes(source.read(place, size), "little")


class _Stream(io.RawIOBase):
    """A source as a file that is read from front to back."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read on."""
        view = memoryview(buffer).cast("B")
        data = self._source.read(self._at, min(len(view), self._source.size - self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
