"""Deflate encoders by name for long streams, as gzip and zip files hold them.

``zlib-6`` and ``zlib-ng-2.3-6`` are the libraries at a level (see :mod:`rehydrator.codecs.deflate`), ``gzip-9`` is the
program GNU gzip, whose deflate Info-ZIP has too, and ``pigz-6`` pigz's way of using zlib.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence

from rehydrator.codecs import deflate, gzip_program, pigz, zlib_ng
from rehydrator.codecs.deflate import ZLIB, Encoder, StreamEncoder
from rehydrator.disk.extents import Data

_PROGRAMS = tuple(f"{gzip_program.PROGRAM}-{level}" for level in range(1, 10))
_USUAL = (gzip_program.PROGRAM, ZLIB, pigz.PROGRAM)


@functools.cache
def stream_encoder(name: str) -> StreamEncoder:
    """Return the encoder of this name after comparing its answer to a test text with the known one.

    Raises UnsupportedError for a name that this version does not know and where this machine lacks the encoder.
    """
    if name in _PROGRAMS:
        return gzip_program.encoder(_PROGRAMS.index(name) + 1)
    if name in pigz.NAMES:
        return pigz.encoder(name)
    found = deflate.encoder(name)
    return functools.partial(_by_zlib if found.family == ZLIB else _by_zlib_ng, found)


def candidates(likely: Sequence[int], first: str = gzip_program.PROGRAM) -> Iterator[str]:
    """Yield the names of encoders, the likeliest first.

    ``likely`` are the levels that the file speaks of. Of the families that use them, ``first`` comes before the others.
    """
    levels = (*likely, *(level for level in deflate.LIKELY_LEVELS if level not in likely))
    usual = sorted(_USUAL, key=lambda family: family != first)
    others = [f"{ZLIB}-ng-{version}" for version in zlib_ng.CLASSES]
    yield from (f"{family}-{level}" for level in levels for family in usual)
    yield from (f"{family}-{level}" for level in levels for family in others)
    yield from (f"{pigz.PROGRAM}-{level}-{option}" for level in levels for option in pigz.OPTIONS)
    yield from deflate.unusual_names()


def _by_zlib(encoder: Encoder, content: Iterable[Data]) -> Generator[bytes, None, None]:
    mem_level = encoder.mem_level or deflate.DEFAULT_MEM_LEVEL
    stream = zlib.compressobj(encoder.level, zlib.DEFLATED, -deflate.MAX_WBITS, mem_level, encoder.strategy)
    for piece in content:
        if packed := stream.compress(piece):
            yield packed
    yield stream.flush()


def _by_zlib_ng(encoder: Encoder, content: Iterable[Data]) -> Generator[bytes, None, None]:
    library = zlib_ng.library(encoder.family.rpartition("-")[2])
    mem_level = encoder.mem_level or deflate.DEFAULT_MEM_LEVEL
    return library.stream(content, encoder.level, -deflate.MAX_WBITS, mem_level, encoder.strategy)
