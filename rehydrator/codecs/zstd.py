"""Single zstd frames: an encoder by name, and decompression within bounds.

As for deflate, the bytes depend on the library's version; ``zstd-1.5.7-3`` is the library of version 1.5.7 at level 3,
and has to give the known answer before it is used. The versions named here are those that compress differently from
each other at some level; which of them 1.5.3 and 1.5.4 are like depends on the level. Format: RFC 8878.
"""

from __future__ import annotations

import functools
import re
import zlib
from types import ModuleType

import msgspec
import zstandard

from rehydrator.codecs import wheels
from rehydrator.codecs.deflate import USUAL, Shape, test_text
from rehydrator.codecs.inflating import Attempt
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError

_LIBRARY = "zstandard/backend_c.*.so"
# By version of libzstd: a release of the distribution zstandard that brings it. The first is installed with rehydrator.
CLASSES = {
    "1.5.7": wheels.Wheel("zstandard", "0.25.0", _LIBRARY),
    "1.5.6": wheels.Wheel("zstandard", "0.23.0", _LIBRARY),
    "1.5.5": wheels.Wheel("zstandard", "0.22.0", _LIBRARY),
    "1.5.2": wheels.Wheel("zstandard", "0.19.0", _LIBRARY),
}
_LEVELS_10_TO_13 = (0x6C4508FB, 0xCA95B119, 0x97A848C1, 0x574BD0D5)
_LEVELS_16_TO_22 = (0x712182CC, 0x712182CC, 0x712182CC, 0x04F9B61A, 0x04F9B61A, 0x04F9B61A, 0x04F9B61A)
_LEVELS_5_TO_9 = (0xC139B1C1, 0x2AC25143, 0xE461CF17, 0x71003430, 0xCD88B77E)
# By version: CRC-32 of the test text as libzstd compresses it, from level 1 on
_KNOWN_ANSWERS = {
    "1.5.7": (
        *(0x645752E4, 0xCC646473, 0x95FD092C, 0xA0258B9C, *_LEVELS_5_TO_9),
        *(*_LEVELS_10_TO_13, 0x12A52CA3, 0x5C64FCF6, *_LEVELS_16_TO_22),
    ),
    "1.5.6": (
        *(0x645752E4, 0xCC646473, 0x8BAD489F, 0xAA1E274B, *_LEVELS_5_TO_9),
        *(*_LEVELS_10_TO_13, 0x12A52CA3, 0x5C64FCF6, *_LEVELS_16_TO_22),
    ),
    "1.5.5": (
        *(0x645752E4, 0xCC646473, 0x8BAD489F, 0xAA1E274B, *_LEVELS_5_TO_9),
        *(*_LEVELS_10_TO_13, 0xAB477563, 0xE3E8C466, *_LEVELS_16_TO_22),
    ),
    "1.5.2": (
        *(0x645752E4, 0xCC646473, 0x8BAD489F, 0xAA1E274B, 0xCD3BE794, 0xA83F1048, 0x7760D1C2, 0x8FA4B19D, 0xCA54280F),
        *(0x650B8D4A, *_LEVELS_10_TO_13[1:], 0xAB477563, 0xE3E8C466, *_LEVELS_16_TO_22),
    ),
}
DEFAULT = "zstd-1.5.7-3"
_FAST_LEVELS = 4  # up to this level speed hardly depends on it
_SPEED, _SLOW_SPEED = 400, 10
_RLE_BLOCK = 1
_CHECKSUM = 4
_NAME = re.compile(rf"zstd-({'|'.join(map(re.escape, CLASSES))})-([1-9]|1[0-9]|2[0-2])")


class ZstdEncoder(msgspec.Struct, frozen=True):
    """libzstd of a version at a level, with the size of the content in the frame and no checksum."""

    name: str
    version: str
    level: int

    @property
    def speed(self) -> int:
        """MiB of a disk that one processor compresses in a second, roughly."""
        return _SPEED if self.level <= _FAST_LEVELS else _SLOW_SPEED

    def compress(self, data: Data, shape: Shape = USUAL) -> bytes | None:
        """Compress at once; None where the format has no room for the result."""
        made = library(self.version).ZstdCompressor(level=self.level, write_content_size=True)
        packed: bytes = made.compress(data)
        return packed if shape.room is None or len(packed) <= shape.room else None


@functools.cache
def library(version: str) -> ModuleType:
    """Return the Python module around libzstd of a version; raises UnsupportedError where this machine has none."""
    number = tuple(map(int, version.split(".")))
    if number == zstandard.ZSTD_VERSION:
        return zstandard
    loaded = wheels.load_module(CLASSES[version])
    if number != loaded.ZSTD_VERSION:
        raise UnsupportedError("a wheel holds another libzstd", expected=version, actual=str(loaded.ZSTD_VERSION))
    return loaded


@functools.cache
def encoder(name: str) -> ZstdEncoder:
    """Return the encoder of this name after comparing its answer to a test text with the known one.

    Raises UnsupportedError for a name that this version does not know and for a library that is not there.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        expected = f"zstd-VERSION-LEVEL, of the versions {', '.join(CLASSES)}"
        raise UnsupportedError("unknown zstd encoder", actual=repr(name[:40]), expected=expected)
    version, level = match[1], int(match[2])
    found = ZstdEncoder(name, version, level)
    if zlib.crc32(found.compress(test_text()) or b"") != _KNOWN_ANSWERS[version][level - 1]:
        raise UnsupportedError(
            f"the zstd encoder {name} is needed, but libzstd {version} compresses otherwise here",
            hint=f"Run scripts/fetch-codecs, or: pip install {CLASSES[version].requirement}",
        )
    return found


def inflate(packed: Data, expected: int) -> Attempt:
    """Decompress one frame that says that it holds ``expected`` bytes."""
    data = bytes(packed)
    try:
        header = zstandard.get_frame_parameters(data)
        if header.content_size != expected:
            return Attempt(problem=f"a frame of {header.content_size} bytes")
        content = zstandard.ZstdDecompressor().decompress(data, max_output_size=expected, allow_extra_data=True)
    except zstandard.ZstdError as error:
        return Attempt(problem=str(error))
    return Attempt(content, _frame_size(data, has_checksum=header.has_checksum))


def _frame_size(frame: bytes, *, has_checksum: bool) -> int:
    """Return the length of a frame that was decompressed well, by its block headers."""
    at = zstandard.frame_header_size(frame)
    last = False
    while not last:
        header = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == _RLE_BLOCK else size)
    return at + (_CHECKSUM if has_checksum else 0)
