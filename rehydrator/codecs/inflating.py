"""Taking deflate off: with zlib-ng where it is installed, which takes a fifth of zlib's time or less, else with zlib.

Which of them it is makes no difference to what good streams decompress to. They may notice damage at different places.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

import msgspec

from rehydrator.disk.extents import Data

try:
    from zlib_ng import gzip_ng, zlib_ng
except ImportError:  # where rehydrator is installed without it: neither x86_64 nor aarch64
    zlib_ng = None  # type: ignore[assignment]  # a module that may be missing

MAX_WBITS = zlib.MAX_WBITS
# What a decoder raises for a damaged stream.
ERRORS: tuple[type[Exception], ...] = (
    (zlib.error,) if zlib_ng is None else (zlib.error, cast(type[Exception], zlib_ng.error))
)


class Attempt(msgspec.Struct, frozen=True):
    """What came of decompressing one stream or frame that should hold so many bytes.

    ``content`` are the bytes that it holds, ``used`` is its length, and ``problem`` says in words what is wrong with
    it, "" if it is right.
    """

    content: bytes = b""
    used: int = 0
    problem: str = ""


class Decoder(Protocol):
    """A decompressing stream, with the meaning that Python's ``zlib`` gives these names."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What followed the end of the stream."""
        ...

    @property
    def unconsumed_tail(self) -> bytes:
        """What was fed and not used since the output was limited."""
        ...

    def decompress(self, data: Data, max_length: int = 0, /) -> bytes:
        """Return content, at most ``max_length`` bytes if that is not 0; raises one of :data:`ERRORS`."""
        ...


def decoder(wbits: int) -> Decoder:
    """Return a decoder of a raw stream (negative ``wbits``), or one in zlib's or gzip's frame."""
    return zlib.decompressobj(wbits) if zlib_ng is None else zlib_ng.decompressobj(wbits)


def inflate(packed: Data, expected: int, wbits: int) -> Attempt:
    """Decompress one stream that should hold ``expected`` bytes, and make no more than one byte above."""
    stream = decoder(wbits)
    try:
        content = stream.decompress(packed, expected + 1)
    except ERRORS as error:
        return Attempt(problem=str(error))
    used = len(packed) - len(stream.unused_data)
    if len(content) > expected:
        return Attempt(content, used, f"more than {expected} bytes")
    if not stream.eof:
        return Attempt(content, used, "the stream does not end")
    return Attempt(content, used, "" if len(content) == expected else f"{len(content)} bytes")


def open_gzip(raw: IO[bytes]) -> IO[bytes]:
    """Read the content of an opened gzip file of any number of members, as ``gzip.open`` does."""
    opening = cast(Callable[[IO[bytes]], IO[bytes]], gzip.open if zlib_ng is None else gzip_ng.open)
    return opening(raw)


def crc32(data: Data, value: int = 0) -> int:
    """Return the CRC-32 of data that follows on data with the CRC-32 ``value``."""
    return zlib.crc32(data, value) if zlib_ng is None else zlib_ng.crc32(data, value)
