"""Gzip without compression: stored blocks, whose bytes do not depend on the version of any library.

What a store holds is compressed already. As plain tar its layers would be compressed once more, and get other digests,
by every program that pushes them to a registry; gzip is left as it is.
Source: RFC 1951, section 3.2.4, and RFC 1952.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from rehydrator.binary import Structure, field
from rehydrator.disk.extents import Data
from rehydrator.layers.c_gzip import CM_DEFLATE, MAGIC, OS_UNIX, Header, Trailer

_LONGEST = 0xFFFF
_BTYPE_STORED = 0
_BFINAL = 1


class StoredBlock(Structure, byteorder="<"):
    """The head of a block that begins on a byte; its three bits fill the byte up with zeros."""

    BTYPE_BFINAL: int = field("B")
    LEN: int = field("H")
    NLEN: int = field("H")


def gzip_stored(pieces: Iterable[Data]) -> Iterator[bytes]:
    """Turn content in pieces into a gzip file in pieces; how it was cut does not matter."""
    yield Header(ID=MAGIC[:2], CM=CM_DEFLATE, FLG=0, MTIME=0, XFL=0, OS=OS_UNIX).pack()
    crc = size = 0
    rest = b""
    for piece in pieces:
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        data = rest + piece
        whole = len(data) - len(data) % _LONGEST
        if whole:
            yield b"".join(_block(data[at : at + _LONGEST]) for at in range(0, whole, _LONGEST))
        rest = data[whole:]
    yield _block(rest, last=_BFINAL) + Trailer(CRC32=crc, ISIZE=size & 0xFFFFFFFF).pack()


def _block(data: bytes, last: int = 0) -> bytes:
    length = len(data)
    return StoredBlock(BTYPE_BFINAL=_BTYPE_STORED << 1 | last, LEN=length, NLEN=length ^ 0xFFFF).pack() + data
