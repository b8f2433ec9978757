"""pigz's deflate: zlib of zlib.net in blocks of 128 KiB, each of which ends at a byte.

Usually every block is a stream of its own that knows the last 32 KiB before it (``pigz-6``), so that blocks are made
side by side. With ``-p1`` all are one stream, with ``-i`` none knows the one before. A block that does not end at a
byte is followed by empty ones of ten bits until one does, or, since that never ends for an odd number of bits, by an
empty stored one.

Source: pigz 2.6 ``pigz.c``, compress_thread and single_compress, with zlib 1.2.6 or later.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator

from rehydrator.codecs import deflate
from rehydrator.codecs.deflate import StreamEncoder
from rehydrator.codecs.deflate_pool import Work, in_order
from rehydrator.disk.extents import Data, whole_chunks

PROGRAM = "pigz"
OPTIONS = ("p1", "i")
NAMES = tuple(
    f"{PROGRAM}-{level}{option}" for level in range(1, 10) for option in ("", *(f"-{word}" for word in OPTIONS))
)
_BLOCK = 128 << 10
_WINDOW = 32 << 10
_AHEAD = 32  # blocks
_Z_BLOCK = 5  # zlib's flush that ends a block and keeps the bits of an unfinished byte
_EMPTY_BITS = 10  # of an empty block with fixed codes
_TEST_TEXTS = 3  # are more than two blocks
# CRC-32 of that as pigz 2.6 compresses it, by option and level
_KNOWN_ANSWERS: dict[str, tuple[int, ...]] = {
    "": (
        *(0xA318622A, 0xDEFB4026, 0xFB626DF6, 0xCE2D2239, 0x819EFC8A, 0x5C0EF4BD),
        *(0xC5949913, 0x637DC894, 0x637DC894),
    ),
    "p1": (
        *(0x00799243, 0x153EB07F, 0x94DDACAA, 0xCE2D2239, 0x819EFC8A, 0x5C0EF4BD),
        *(0xC5949913, 0x637DC894, 0x637DC894),
    ),
    "i": (
        *(0xE40CB99E, 0x3EDC89D0, 0x1FC3FD46, 0x3E25DB38, 0xBCC09D7E, 0x6BACE925),
        *(0x36897287, 0x9081ED7A, 0x9081ED7A),
    ),
}


def encoder(name: str) -> StreamEncoder:
    """Return the encoder of one of :data:`NAMES`, after comparing its answer to a test text with the known one.

    Raises UnsupportedError where this Python's zlib compresses otherwise.
    """
    _, level, option = f"{name}-".split("-")[:3]
    found: StreamEncoder = functools.partial(_WAYS[option], int(level))
    if zlib.crc32(b"".join(found([deflate.test_text()] * _TEST_TEXTS))) != _KNOWN_ANSWERS[option][int(level) - 1]:
        raise deflate.other_zlib(name)
    return found


def _one_stream(level: int, content: Iterable[Data]) -> Generator[bytes, None, None]:
    stream = _stream(level)
    for block, last in _blocks(content):
        yield stream.compress(block) + (stream.flush() if last else _to_a_byte(stream))


def _dependent(level: int, content: Iterable[Data]) -> Generator[bytes, None, None]:
    def works() -> Iterator[Work[bytes]]:
        known = b""
        for block, last in _blocks(content):
            yield functools.partial(_block, level, known, block, None if last else _to_a_byte)
            known = bytes(block[-_WINDOW:])

    return in_order(works(), _AHEAD)


def _independent(level: int, content: Iterable[Data]) -> Generator[bytes, None, None]:
    works = (
        functools.partial(_block, level, b"", block, None if last else _marked_twice)
        for block, last in _blocks(content)
    )
    return in_order(works, _AHEAD)


_WAYS = {"": _dependent, "p1": _one_stream, "i": _independent}


def _blocks(content: Iterable[Data]) -> Iterator[tuple[Data, bool]]:
    """Yield at least one block, and of each whether it is the last."""
    held: Data = b""
    for block in whole_chunks(content, _BLOCK):
        if held:
            yield held, False
        held = block
    yield held, True


def _stream(level: int, known: bytes = b"") -> zlib._Compress:
    parameters = (level, zlib.DEFLATED, -deflate.MAX_WBITS, deflate.DEFAULT_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY)
    return zlib.compressobj(*parameters, known) if known else zlib.compressobj(*parameters)


def _block(level: int, known: bytes, block: Data, end: Callable[[zlib._Compress], bytes] | None) -> bytes:
    stream = _stream(level, known)
    return stream.compress(block) + (stream.flush() if end is None else end(stream))


def _to_a_byte(stream: zlib._Compress) -> bytes:
    """End the deflate block, and then the byte, with as few empty blocks as pigz does."""
    packed = stream.flush(_Z_BLOCK)
    bits = _pending(stream)
    if bits % 2:
        return packed + stream.flush(zlib.Z_SYNC_FLUSH)
    while bits % 8:
        stream.compress(b"")  # else zlib takes the next flush for the same one again
        packed += stream.flush(zlib.Z_PARTIAL_FLUSH)
        bits += _EMPTY_BITS
    return packed


def _marked_twice(stream: zlib._Compress) -> bytes:
    return stream.flush(_Z_BLOCK) + stream.flush(zlib.Z_SYNC_FLUSH) + stream.flush(zlib.Z_FULL_FLUSH)


def _pending(stream: zlib._Compress) -> int:
    """Return how many bits of an unfinished byte a stream holds back (deflatePending, which Python lacks).

    They come out in front of an empty block, of whose bits only the second is set.
    """
    packed = stream.copy().flush(zlib.Z_PARTIAL_FLUSH)
    return int.from_bytes(packed, "little").bit_length() - 2
