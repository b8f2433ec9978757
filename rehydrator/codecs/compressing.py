"""Compressing what is made while it is made, on all cores: the same bytes on every machine with the same libraries.

Nothing here has to match what somebody else compressed; for that see :mod:`rehydrator.codecs.deflate_stream` and
:mod:`rehydrator.codecs.lzma2`, whose encoders these use.
"""

from __future__ import annotations

import enum
import functools
import os
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator

import zstandard

from rehydrator.codecs import c_xz, lzma2
from rehydrator.codecs.c_xz import BlockHeader, Check, IndexRecord
from rehydrator.codecs.deflate_pool import Work, in_order
from rehydrator.codecs.deflate_stream import stream_encoder
from rehydrator.disk.extents import Data, whole_chunks

_GZIP_ENCODER = "pigz-6"
_GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")  # no name, no time, an unknown system: RFC 1952
_XZ_PRESET = 6
_XZ_BLOCK = 24 << 20  # three times the dictionary, as xz cuts it for several threads
_XZ_HEADER = 12  # bytes of a block's head without sizes
_ZSTD_LEVEL = 3


class Compressor(enum.StrEnum):
    """What files can be compressed with."""

    XZ = "xz"
    GZIP = "gzip"
    ZSTD = "zstd"

    @property
    def suffix(self) -> str:
        """What names of such files end with."""
        return {Compressor.XZ: ".xz", Compressor.GZIP: ".gz", Compressor.ZSTD: ".zst"}[self]

    def compress(self, content: Iterable[Data]) -> Generator[bytes, None, None]:
        """Yield a file with this content, which is gone through in the reader's thread."""
        return {Compressor.XZ: _xz, Compressor.GZIP: _gzip, Compressor.ZSTD: _zstd}[self](content)


def _gzip(content: Iterable[Data]) -> Generator[bytes, None, None]:
    """Yield one member, its deflate in blocks as pigz makes them."""
    crc32 = size = 0

    def told() -> Iterator[Data]:
        nonlocal crc32, size
        for piece in content:
            crc32 = zlib.crc32(piece, crc32)
            size += len(piece)
            yield piece

    yield _GZIP_HEADER
    yield from stream_encoder(_GZIP_ENCODER)(told())
    yield struct.pack("<II", crc32, size % (1 << 32))


def _xz(content: Iterable[Data]) -> Generator[bytes, None, None]:
    """Yield one stream of blocks, as many of them encoded at once as there is memory for."""
    encoder = lzma2.Encoder(f"liblzma-{_XZ_PRESET}", _XZ_PRESET)
    header = c_xz.pack_block_header(BlockHeader(_XZ_HEADER, encoder.dictionary_size, None, None))
    lengths: list[int] = []

    def works() -> Iterator[Work[bytes]]:
        for block in whole_chunks(content, _XZ_BLOCK):
            lengths.append(len(block))
            yield functools.partial(encoder.whole_block, block, Check.CRC64)

    yield c_xz.stream_header(Check.CRC64)
    records = []
    for number, block in enumerate(in_order(works(), lzma2.slots())):
        size = len(block) - Check.CRC64.size
        records.append(IndexRecord(len(header) + len(block), lengths[number]))
        yield header + block[:size] + bytes(c_xz.padding(size)) + block[size:]
    index = c_xz.pack_index(records)
    yield index + c_xz.stream_footer(Check.CRC64, len(index))


def _zstd(content: Iterable[Data]) -> Generator[bytes, None, None]:
    """Yield one frame. How it is cut into jobs depends on the level, and not on how many are worked on at once."""
    workers = len(os.sched_getaffinity(0))
    stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=workers, write_checksum=True).compressobj()
    for piece in content:
        if made := stream.compress(piece):
            yield made
    yield stream.flush()
