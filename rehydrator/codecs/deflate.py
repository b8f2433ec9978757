"""Deflate encoders by name, so that what one of them once compressed can be compressed again to the same bytes.

The deflate format leaves every choice to the encoder: two libraries, or two levels, give different bytes for the
same content. A record therefore names the encoder: ``zlib-6`` is the library of zlib.net at level 6,
``zlib-ng-2.3-6`` the library zlib-ng, of a version 2.3. A format's usual memLevel and strategy are implied; an encoder
that used others names them: ``zlib-6-mem9-filtered``. Before it is used, an encoder has to give the known answer for a
test text: on some systems Python's own ``zlib`` is built on zlib-ng, which compresses to other bytes.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeAlias

import msgspec

from rehydrator.codecs import zlib_ng
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError

# Turns content, in pieces, into a raw deflate stream, in pieces.
StreamEncoder: TypeAlias = Callable[[Iterable[Data]], Generator[bytes, None, None]]

MAX_WBITS = 15  # a 32 KiB window, the usual one
DEFAULT_MEM_LEVEL = 8
ZLIB = "zlib"
NAMES = tuple(f"{ZLIB}-{level}" for level in range(1, 10))  # those that every Python with zlib has
LIKELY_LEVELS = (6, 9, 1, 8, 7, 5, 4, 3, 2)
_MEM_LEVELS = (8, 9, 7, 6, 5, 4, 3, 2, 1)
STRATEGIES = {"filtered": 1, "huffman": 2, "rle": 3, "fixed": 4}
# MiB of a disk in a second of a processor, roughly: how levels differ matters less than how disks do
_SPEED = 30
_NG_SPEED = 50
_TEST_WORDS = 12_000
# Pieces of the test text, as long as two windows, of which zlib-ng 2.2 and 2.3 compress at least one otherwise.
_TEST_PIECES = (7668, 11928, 27690)
_TEST_PIECE = 1 << 16
# By family and level: CRC-32 of the test text as the encoder compresses it; for zlib-ng followed by its pieces.
_KNOWN_ANSWERS: dict[str, tuple[int, ...]] = {
    ZLIB: (
        *(0x2F79A631, 0x2503BCB2, 0xD357A778, 0x59888A9B, 0x60F1B6AE, 0xD51FD143),
        *(0x696BC464, 0xC63ACF55, 0xC63ACF55),
    ),
    "zlib-ng-2.3": (
        *(0xA5829AFB, 0x2BE50B41, 0x374D475C, 0xE5966C11, 0x190CDB7F, 0xF0B2A490),
        *(0xC4B763C8, 0x07ABB883, 0x18192F2E),
    ),
    "zlib-ng-2.2": (
        *(0xA5829AFB, 0x3C380DA0, 0x374D475C, 0xAF9B57AC, 0xBBA851C1, 0x26364968),
        *(0x076104B3, 0xB9791854, 0x327DD859),
    ),
    "zlib-ng-2.1": (
        *(0x4F368ABE, 0xF6468D97, 0x75E2DD82, 0xFD89691E, 0x593C7F9A, 0x7C51DB7F),
        *(0x4F76426F, 0xB9791854, 0x327DD859),
    ),
}
_NAME = re.compile(
    rf"({ZLIB}|zlib-ng-(?:{'|'.join(map(re.escape, zlib_ng.CLASSES))}))"
    rf"-([1-9])(?:-mem([1-9]))?(?:-({'|'.join(STRATEGIES)}))?"
)


class Shape(msgspec.Struct, frozen=True):
    """How a format has its chunks compressed, in zlib's terms.

    ``wbits`` is 8 to 15 with zlib's header, negative without. A chunk that does not fit into a buffer of ``room`` bytes
    is not kept compressed.
    """

    wbits: int = MAX_WBITS
    mem_level: int = DEFAULT_MEM_LEVEL
    room: int | None = None


USUAL = Shape()


class Encoder(msgspec.Struct, frozen=True):
    """One encoder that gave the known answer; ``mem_level`` is None where it is the format's usual one."""

    name: str
    family: str
    level: int
    mem_level: int | None = None
    strategy: int = 0

    @property
    def speed(self) -> int:
        """MiB of a disk that one processor compresses in a second, roughly."""
        return _SPEED if self.family == ZLIB else _NG_SPEED

    def compress(self, data: Data, shape: Shape = USUAL) -> bytes | None:
        """Compress at once; None where the format has no room for the result."""
        mem_level = self.mem_level or shape.mem_level
        if self.family != ZLIB:
            room = zlib_ng.room_for(len(data)) if shape.room is None else shape.room
            library = zlib_ng.library(self.family.rpartition("-")[2])
            return library.compress(data, self.level, shape.wbits, mem_level, self.strategy, room)
        stream = zlib.compressobj(self.level, zlib.DEFLATED, shape.wbits, mem_level, self.strategy)
        packed = stream.compress(data) + stream.flush()
        # zlib calls a stream that fills its buffer to the last byte unfinished
        return packed if shape.room is None or len(packed) < shape.room else None


def parse(name: str) -> Encoder:
    """Return the encoder of this name without testing it; raises UnsupportedError for an unknown name."""
    match = _NAME.fullmatch(name)
    if match is None:
        expected = f"zlib-LEVEL or zlib-ng-VERSION-LEVEL, of the versions {', '.join(zlib_ng.CLASSES)}"
        expected += "; in gzip and zip files also gzip-LEVEL and pigz-LEVEL"
        raise UnsupportedError("unknown deflate encoder", actual=repr(name[:40]), expected=expected)
    family, level, mem_level, strategy = match.groups()
    return Encoder(name, family, int(level), int(mem_level) if mem_level else None, STRATEGIES.get(strategy, 0))


def unusual_names(shape: Shape = USUAL) -> Iterator[str]:
    """Yield the names of zlib's encoders with another memLevel than ``shape`` has, then of those with a strategy."""
    memories = [memory for memory in _MEM_LEVELS if memory != shape.mem_level]
    yield from (f"{ZLIB}-{level}-mem{memory}" for memory in memories for level in LIKELY_LEVELS)
    yield from (f"{ZLIB}-6-{strategy}" for strategy in STRATEGIES)


@functools.cache
def encoder(name: str) -> Encoder:
    """Return the encoder of this name after comparing its answer to a test text with the known one.

    Raises UnsupportedError for a name that this version does not know, for a library that is not there and for one
    that compresses otherwise.
    """
    found = parse(name)
    if known_answer(found.family, found.level) != _KNOWN_ANSWERS[found.family][found.level - 1]:
        raise _other_answer(found)
    return found


def other_zlib(name: str) -> UnsupportedError:
    """Return the error of a Python whose zlib can't be the encoder of this name."""
    return UnsupportedError(
        f"the deflate encoder {name} is needed, but this Python's zlib {zlib.ZLIB_RUNTIME_VERSION} "
        "compresses otherwise",
        hint="Use a Python that is built with the zlib of zlib.net, not with zlib-ng",
    )


def _other_answer(found: Encoder) -> UnsupportedError:
    if found.family == ZLIB:
        return other_zlib(found.name)
    return UnsupportedError(
        f"the deflate encoder {found.name} is needed, but its library compresses otherwise on this processor",
        hint="zlib-ng 2.1 depends on the processor; use one of the kind that built the release",
    )


@functools.cache
def known_answer(family: str, level: int) -> int:
    """Return the CRC-32 of the test text as a family compresses it at a level."""
    tested = Encoder("", family, level)
    crc32 = 0
    for text in _tests(family):
        crc32 = zlib.crc32(tested.compress(text) or b"", crc32)
    return crc32


def _tests(family: str) -> Iterator[bytes]:
    yield test_text()
    if family != ZLIB:
        yield from (test_text()[at : at + _TEST_PIECE] for at in _TEST_PIECES)


@functools.cache
def test_text() -> bytes:
    """Words with repetitions near and far: long enough for several deflate blocks and for lazy matching to matter."""
    digests = [hashlib.sha256(b"%d" % number).digest() for number in range(64)]
    words: list[bytes] = []
    state = 1
    for _ in range(_TEST_WORDS):
        state = (state * 1103515245 + 12345) % (1 << 31)
        digest = digests[(state >> 16) % len(digests) & (state >> 22)]
        words.append(digest[: 2 + (state >> 12) % 15])
    return b"".join(words)
