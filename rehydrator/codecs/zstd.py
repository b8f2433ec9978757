"""Single zstd frames: an encoder by name, and decompression within bounds.

As for deflate, the bytes depend on the library's version; ``zstd-1.5.7-3`` is the library of version 1.5.7 at level 3,
and has to give the known answer before it is used. Format: RFC 8878.
"""

from __future__ import annotations

import functools
import zlib

import msgspec
import zstandard

from rehydrator.codecs.deflate import USUAL, Shape, test_text
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError

# CRC-32 of the test text as libzstd compresses it; qemu knows no other level than the default one
_KNOWN_ANSWERS = {"zstd-1.5.7-3": 0x95FD092C}
DEFAULT = "zstd-1.5.7-3"
_SPEED = 400
_RLE_BLOCK = 1
_CHECKSUM = 4


class ZstdEncoder(msgspec.Struct, frozen=True):
    """libzstd at a level, with the size of the content in the frame and no checksum."""

    name: str
    level: int

    @property
    def speed(self) -> int:
        """MiB of a disk that one processor compresses in a second, roughly."""
        return _SPEED

    def compress(self, data: Data, shape: Shape = USUAL) -> bytes | None:
        """Compress at once; None where the format has no room for the result."""
        packed = zstandard.ZstdCompressor(level=self.level, write_content_size=True).compress(data)
        return packed if shape.room is None or len(packed) <= shape.room else None


@functools.cache
def encoder(name: str) -> ZstdEncoder:
    """Return the encoder of this name; raises UnsupportedError for an unknown one and for another library."""
    if name not in _KNOWN_ANSWERS:
        raise UnsupportedError("unknown zstd encoder", actual=repr(name[:40]), expected=", ".join(_KNOWN_ANSWERS))
    found = ZstdEncoder(name, int(name.rpartition("-")[2]))
    if zlib.crc32(found.compress(test_text()) or b"") != _KNOWN_ANSWERS[name]:
        version = ".".join(map(str, zstandard.ZSTD_VERSION))
        raise UnsupportedError(
            f"the zstd encoder {name} is needed, but libzstd {version} compresses otherwise",
            hint="Install a release of the Python package zstandard that brings libzstd 1.5.7",
        )
    return found


def inflate(packed: Data, expected: int) -> tuple[bytes, int, str]:
    """Decompress one frame that says that it holds ``expected`` bytes.

    Return the content, the length of the frame, and what is wrong with it in words; these are empty if it is right.
    """
    data = bytes(packed)
    try:
        header = zstandard.get_frame_parameters(data)
        if header.content_size != expected:
            return b"", 0, f"a frame of {header.content_size} bytes"
        content = zstandard.ZstdDecompressor().decompress(data, max_output_size=expected, allow_extra_data=True)
    except zstandard.ZstdError as error:
        return b"", 0, str(error)
    return content, _frame_size(data, has_checksum=header.has_checksum), ""


def _frame_size(frame: bytes, *, has_checksum: bool) -> int:
    """Return the length of a frame that was decompressed well, by its block headers."""
    at = zstandard.frame_header_size(frame)
    last = False
    while not last:
        header = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == _RLE_BLOCK else size)
    return at + (_CHECKSUM if has_checksum else 0)
