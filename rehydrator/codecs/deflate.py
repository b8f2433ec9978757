"""Deflate encoders by name, so that what one of them once compressed can be compressed again to the same bytes.

The deflate format leaves every choice to the encoder: two libraries, or two levels, give different bytes for the
same content. A record therefore names the encoder, for example ``zlib-6`` for the library of zlib.net at level 6.
Before it is used, an encoder has to give the known answer for a test text: on some systems Python's own ``zlib`` is
built on another library (zlib-ng), which compresses to other bytes.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Sequence

import msgspec

from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError

MAX_WBITS = 15  # a 32 KiB window, the usual one
DEFAULT_MEM_LEVEL = 8
_TEST_WORDS = 12_000
# CRC-32 of the test text as zlib 1.2.13 compresses it, by level
_KNOWN_ANSWERS = {
    1: 0x2F79A631,
    2: 0x2503BCB2,
    3: 0xD357A778,
    4: 0x59888A9B,
    5: 0x60F1B6AE,
    6: 0xD51FD143,
    7: 0x696BC464,
    8: 0xC63ACF55,
    9: 0xC63ACF55,
}


class Encoder(msgspec.Struct, frozen=True):
    """One encoder: zlib's deflate at ``level``, which gave the known answer."""

    name: str
    level: int

    def compress(self, data: Data, *, wbits: int = MAX_WBITS, mem_level: int = DEFAULT_MEM_LEVEL) -> bytes:
        """Compress at once; ``wbits`` means what it means to zlib: 8..15 with its header, negative without."""
        stream = zlib.compressobj(self.level, zlib.DEFLATED, wbits, mem_level)
        return stream.compress(data) + stream.flush()


NAMES = tuple(f"zlib-{level}" for level in (6, 9, 1, 8, 7, 5, 4, 3, 2))


@functools.cache
def encoder(name: str) -> Encoder:
    """Return the encoder of this name after comparing its answer to a test text with the known one.

    Raises UnsupportedError for a name that this version does not know and for a library that compresses otherwise.
    """
    if name not in NAMES:
        raise UnsupportedError("unknown deflate encoder", actual=repr(name[:40]), expected=", ".join(sorted(NAMES)))
    found = Encoder(name, int(name.rpartition("-")[2]))
    answer = known_answer(found)
    if answer != _KNOWN_ANSWERS[found.level]:
        raise UnsupportedError(
            f"the deflate encoder {name} is needed, but this Python's zlib {zlib.ZLIB_RUNTIME_VERSION} compresses "
            "otherwise",
            hint="Use a Python that is built with the zlib of zlib.net, not with zlib-ng",
        )
    return found


def known_answer(found: Encoder) -> int:
    """Return the CRC-32 of the test text as ``found`` compresses it."""
    return zlib.crc32(found.compress(test_text()))


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


def recognise(
    samples: Sequence[tuple[Data, Data]], *, wbits: int = MAX_WBITS, mem_level: int = DEFAULT_MEM_LEVEL
) -> Encoder:
    """Return the encoder that compresses each sample's content (first) to its bytes (second).

    Raises UnsupportedError where none does, with the best one and how often it was right.
    """
    best, most = "", 0
    missing: UnsupportedError | None = None
    for name in NAMES:
        try:
            candidate = encoder(name)
        except UnsupportedError as error:
            missing = error
            continue
        hits = sum(candidate.compress(plain, wbits=wbits, mem_level=mem_level) == packed for plain, packed in samples)
        if hits == len(samples):
            return candidate
        if hits > most:
            best, most = name, hits
    if missing is not None:
        raise missing
    closest = f"{best} for {most} of {len(samples)} samples" if best else f"none of {', '.join(sorted(NAMES))}"
    raise UnsupportedError("compressed by an unknown deflate encoder", actual=closest)
