"""Decompressing the blocks of a squashfs file system within bounds."""

from __future__ import annotations

import lzma

import zstandard

from rehydrator.codecs import deflate, inflating
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.squashfs.c_squashfs import Compression

_XZ_MEMORY = 64 << 20  # of a decoder; a dictionary of the largest block is 1 MiB
_UNKNOWN_FILTER = "Invalid or unsupported options"  # what Python's lzma says of LZMA_OPTIONS_ERROR
_ERRORS: tuple[type[Exception], ...] = (*inflating.ERRORS, lzma.LZMAError, zstandard.ZstdError)


def inflate(compression: Compression, packed: bytes, limit: int) -> bytes:
    """Decompress one block, of ``limit`` bytes at most.

    Raises CorruptError for a damaged one, UnsupportedError for a filter that this Python's liblzma does not know.
    """
    try:
        match compression:
            case Compression.GZIP:
                decoder = inflating.decoder(deflate.MAX_WBITS)
                content = decoder.decompress(packed, limit + 1)
                complete = decoder.eof
            case Compression.XZ:
                stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
                content = stream.decompress(packed, limit + 1)
                complete = stream.eof
            case _:
                return _inflate_zstd(packed, limit)
    except _ERRORS as error:
        if str(error) == _UNKNOWN_FILTER:
            raise UnsupportedError(
                "a block went through a filter for code that is not known here",
                expected="those of this Python's liblzma",
                actual="another",
            ) from error
        raise CorruptError(
            f"a compressed block is damaged: {error}", expected=f"up to {limit} bytes", actual="damage"
        ) from error
    if len(content) > limit or not complete:
        raise CorruptError("a compressed block of another size", expected=f"up to {limit} bytes", actual="more")
    return content


def _inflate_zstd(packed: bytes, limit: int) -> bytes:
    size = zstandard.get_frame_parameters(packed).content_size
    if size > limit:  # also where the frame does not tell
        raise CorruptError("a zstd block of another size", expected=f"up to {limit} bytes", actual=size)
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=limit, allow_extra_data=True)
