"""The compressors of squashfs as mksquashfs calls them: encoders by name, and decompression within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from rehydrator.codecs import deflate, lzma2, xz_buffer, zlib_ng, zstd
from rehydrator.codecs.deflate import ZLIB, Shape
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError
from rehydrator.fs.squashfs.c_squashfs import METADATA_SIZE, MIN_BLOCK, Compression
from rehydrator.fs.squashfs.tables import SquashfsOptions
from rehydrator.layers.packed import ChunkEncoder

_MIN_WBITS = 9
# By bit of ``strategy`` in the options of gzip: what the names of zlib's encoders end in, the default one's in nothing.
_STRATEGIES = ("", *(f"-{strategy}" for strategy in deflate.STRATEGIES))
_ALIGNED = "-aligned"  # what the name of liblzma's encoder ends in where LZMA2 is set as the filters are best served
_GZIP_LEVEL, _ZSTD_LEVEL, _XZ_PRESET = 9, 15, 6  # what mksquashfs takes where no option says otherwise


class BlockEncoder(Protocol):
    """Compresses blocks of data and of metadata; goes by the name of its library."""

    def compress(self, data: Data, *, metadata: bool = False) -> bytes | None:
        """Compress a block; None where it does not become smaller, and is kept as it is."""
        ...


class _Chunks(msgspec.Struct, frozen=True):
    """Encoders of chunks, which get a buffer of one block each: the first of the shortest results of ``for_data``."""

    for_metadata: ChunkEncoder
    for_data: Sequence[ChunkEncoder]
    wbits: int
    block_size: int

    def compress(self, data: Data, *, metadata: bool = False) -> bytes | None:
        shape = Shape(wbits=self.wbits, room=METADATA_SIZE if metadata else self.block_size)
        encoders = (self.for_metadata,) if metadata else self.for_data
        made = filter(None, (item.compress(data, shape) for item in encoders))
        return _smaller(min(made, key=len, default=None), data)


class _Xz(msgspec.Struct, frozen=True):
    """liblzma, which tries the filters for code as well; metadata gets none."""

    preset: int
    dictionary_size: int
    bcj: tuple[str, ...]
    aligned: bool

    def compress(self, data: Data, *, metadata: bool = False) -> bytes | None:
        if metadata:
            return _smaller(xz_buffer.encode(data, xz_buffer.Filters(self.preset, METADATA_SIZE)), data)
        made = (
            xz_buffer.encode(data, xz_buffer.Filters(self.preset, self.dictionary_size, name, self.aligned))
            for name in (None, *self.bcj)
        )
        return _smaller(min(made, key=len), data)


def _smaller(packed: bytes | None, data: Data) -> bytes | None:
    return packed if packed is not None and len(packed) < len(data) else None


def candidates(compression: Compression, options: SquashfsOptions | None) -> Iterator[str]:
    """Yield the names of the encoders that may have written a file system, the likeliest first."""
    match compression:
        case Compression.GZIP:
            level = options.compression_level if options else _GZIP_LEVEL
            yield f"{ZLIB}-{level}"
            yield from (f"zlib-ng-{version}-{level}" for version in zlib_ng.CLASSES)
        case Compression.XZ:
            yield f"liblzma-{_XZ_PRESET}"
            if options and options.flags:
                yield f"liblzma-{_XZ_PRESET}{_ALIGNED}"
        case Compression.ZSTD:
            level = options.compression_level if options else _ZSTD_LEVEL
            yield from (f"zstd-{version}-{level}" for version in zstd.CLASSES)


def _strategies(bits: int) -> list[str]:
    """Return the suffixes of the encoders for a set of strategies; no bit stands for the default one alone."""
    found = [suffix for bit, suffix in enumerate(_STRATEGIES) if bits >> bit & 1]
    if bits >> len(_STRATEGIES):
        raise UnsupportedError("unknown strategy of gzip", expected=f"{len(_STRATEGIES)} bits", actual=f"{bits:#x}")
    return found or [""]


def encoder(name: str, compression: Compression, options: SquashfsOptions | None, block_size: int) -> BlockEncoder:
    """Return the encoder of this name; raises UnsupportedError for one that is unknown or not to be had here."""
    match compression:
        case Compression.GZIP:
            wbits = options.window_size if options else deflate.MAX_WBITS
            if not _MIN_WBITS <= wbits <= deflate.MAX_WBITS:
                raise UnsupportedError(
                    "impossible size of the gzip window",
                    expected=f"{_MIN_WBITS} to {deflate.MAX_WBITS} bits",
                    actual=wbits,
                )
            suffixes = _strategies(options.strategy if options else 0)
            made = [deflate.encoder(name + suffix) for suffix in suffixes]
            return _Chunks(deflate.encoder(name), made, wbits, block_size)
        case Compression.ZSTD:
            return _Chunks(zstd.encoder(name), [zstd.encoder(name)], deflate.MAX_WBITS, block_size)
        case Compression.XZ:
            preset = lzma2.encoder(name.removesuffix(_ALIGNED)).preset
            dictionary = options.dictionary_size if options else block_size
            if not MIN_BLOCK <= dictionary <= block_size:
                raise UnsupportedError(
                    "impossible size of the xz dictionary",
                    expected=f"{MIN_BLOCK} to {block_size} bytes",
                    actual=dictionary,
                )
            bcj = tuple(item for bit, item in enumerate(xz_buffer.BCJ) if options and options.flags >> bit & 1)
            return _Xz(preset, dictionary, bcj, aligned=name.endswith(_ALIGNED))
    raise UnsupportedError("no encoder for this compression", expected="another", actual=compression.name.lower())
