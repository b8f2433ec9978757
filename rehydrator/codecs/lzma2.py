"""LZMA2 encoders by name, so that what liblzma once compressed can be compressed again to the same bytes.

A name such as ``liblzma-9`` stands for liblzma, the library of XZ Utils, at a preset of the program ``xz``;
``liblzma-9e`` has ``--extreme``. Before an encoder is used it has to give the known answer for a test text, which is
that of liblzma 5.4.1: nothing promises that another version compresses to the same bytes.

Encoding at preset 9 takes some 670 MiB of memory, that of the program ``xz -9``: the match finder indexes a dictionary
of 64 MiB.
"""

from __future__ import annotations

import functools
import lzma
import os
import threading
import zlib
from collections.abc import Generator, Iterable

import msgspec

from rehydrator.codecs.c_xz import Check, StreamFooter, StreamHeader, index_size, padding, parse_index
from rehydrator.codecs.deflate import test_text
from rehydrator.disk.extents import CHUNK, Data, is_zero
from rehydrator.errors import OutputError, UnsupportedError

KIB, MIB = 1 << 10, 1 << 20
DICTIONARY_SIZES = (256 * KIB, 1 * MIB, 2 * MIB, 4 * MIB, 4 * MIB, 8 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, 64 * MIB)
_TEST_DICTIONARY = 1 * MIB  # presets 6 to 9 differ in nothing else
_BLOCK_HEADER = 12  # without sizes, as liblzma writes it for LZMA2 alone
_TAIL = 128  # more than what follows the data: check, index, footer
_MEMORY = 1 << 30  # of one encoder at preset 9 with a block's content and data
# CRC-32 of the test text as liblzma 5.4.1 compresses it, by preset, without and with --extreme
_KNOWN_ANSWERS = {
    "0": 0x59BD2173,
    "0e": 0xBD7E9C24,
    "1": 0x9CCD68B0,
    "1e": 0xBD7E9C24,
    "2": 0x8D6166F3,
    "2e": 0xBD7E9C24,
    "3": 0x906CBCFF,
    "3e": 0x3339690A,
    "4": 0xB89EFA00,
    "4e": 0xBD7E9C24,
    "5": 0x89BF8B7A,
    "5e": 0x3339690A,
    "6": 0xDF98C29D,
    "6e": 0xBD7E9C24,
    "7": 0xDF98C29D,
    "7e": 0xBD7E9C24,
    "8": 0xDF98C29D,
    "8e": 0xBD7E9C24,
    "9": 0xDF98C29D,
    "9e": 0xBD7E9C24,
}


class BlockData:
    """The LZMA2 data of a block, to be taken once and in pieces; then ``check`` is the block's check.

    ``source`` yields the pieces and returns the check.
    """

    def __init__(self, source: Generator[bytes, None, bytes]) -> None:
        self._source = source
        self.check = b""

    def __iter__(self) -> Generator[bytes, None, None]:
        self.check = yield from self._source


class Encoder(msgspec.Struct, frozen=True):
    """liblzma's LZMA2 encoder at ``preset``, with liblzma's bit for ``--extreme``."""

    name: str
    preset: int

    @property
    def dictionary_size(self) -> int:
        """Size of the dictionary in bytes."""
        return DICTIONARY_SIZES[self.preset & ~lzma.PRESET_EXTREME]

    def block(self, content: Iterable[Data], check: Check) -> BlockData:
        """Encode a block that holds ``content``, which must not be empty, while its data is taken."""
        return BlockData(_data_of(_stream(self.preset, content, check), check))

    def whole_block(self, content: Data, check: Check) -> bytes:
        """Return the data of a block with its check behind it; all at once, in few threads at a time."""
        if is_zero(content):
            return _zero_block(self, len(content), check)
        return _whole(self, content, check)


_FAMILY = "liblzma-"
NAMES = tuple(_FAMILY + setting for setting in _KNOWN_ANSWERS)


@functools.cache
def encoder(name: str) -> Encoder:
    """Return the encoder of this name after comparing its answer to a test text with the known one.

    Raises UnsupportedError for a name that this version does not know and for a library that compresses otherwise.
    """
    if name not in NAMES:
        raise UnsupportedError("unknown LZMA2 encoder", actual=repr(name[:40]), expected=", ".join(sorted(NAMES)))
    setting = name.removeprefix(_FAMILY)
    found = Encoder(name, int(setting[0]) | (lzma.PRESET_EXTREME if setting[1:] else 0))
    if known_answer(found) != _KNOWN_ANSWERS[setting]:
        raise UnsupportedError(
            f"the LZMA2 encoder {name} is needed, but this Python's liblzma compresses otherwise",
            hint="Use a Python that is built with liblzma 5.4",
        )
    return found


def known_answer(found: Encoder) -> int:
    """Return the CRC-32 of the test text as ``found`` compresses it, with a small dictionary."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": found.preset, "dict_size": _TEST_DICTIONARY}]
    return zlib.crc32(lzma.compress(test_text(), lzma.FORMAT_RAW, filters=filters))


def candidates(dictionary_size: int) -> list[str]:
    """Return the names of the encoders with this size of dictionary."""
    return [name for name in NAMES if DICTIONARY_SIZES[int(name[len(_FAMILY)])] == dictionary_size]


def _stream(preset: int, content: Iterable[Data], check: Check) -> Generator[bytes, None, None]:
    """Yield a .xz file of one block: liblzma computes the check as well."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset}]
    try:
        stream = lzma.LZMACompressor(lzma.FORMAT_XZ, check=check, filters=filters)
    except MemoryError as error:
        raise OutputError(
            f"no memory for liblzma's encoder at preset {preset & ~lzma.PRESET_EXTREME}",
            hint=f"It takes up to {_MEMORY >> 20} MiB; files that are not compressed need none",
        ) from error
    for item in content:
        view = memoryview(item)
        for at in range(0, len(view), CHUNK):
            yield stream.compress(view[at : at + CHUNK])
    yield stream.flush()


def _data_of(stream: Iterable[bytes], check: Check) -> Generator[bytes, None, bytes]:
    """Take the headers and what follows the data off a .xz file; return the check."""
    held = bytearray()
    ahead = StreamHeader.SIZE + _BLOCK_HEADER
    made = 0
    for piece in stream:
        held += piece
        if len(held) > ahead + _TAIL:
            yield bytes(held[ahead:-_TAIL])
            made += len(held) - ahead - _TAIL
            del held[:-_TAIL]
            ahead = 0
    size = _data_size(held, check)
    end = ahead + size - made
    yield bytes(held[ahead:end])
    end += padding(size)
    return bytes(held[end : end + check.size])


def _data_size(tail: bytes | bytearray, check: Check) -> int:
    """Return the size of the data from the index at the end of a .xz file of one block."""
    footer = StreamFooter.parse(tail, len(tail) - StreamFooter.SIZE)
    end = len(tail) - StreamFooter.SIZE
    (record,) = parse_index(bytes(tail[end - index_size(footer) : end]))
    return record.unpadded_size - _BLOCK_HEADER - check.size


def slots() -> int:
    """Return how many encoders may run at a time: one per processor, in a quarter of the memory but at least one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // 4 // _MEMORY))


RUNNING = threading.BoundedSemaphore(slots())  # to be held while an encoder and a block's content take memory


def _whole(found: Encoder, content: Data, check: Check) -> bytes:
    with RUNNING:
        data = found.block([content], check)
        return b"".join(data) + data.check


@functools.lru_cache(maxsize=4)
def _zero_block(found: Encoder, size: int, check: Check) -> bytes:
    """Blocks of zeros are what most of a large disk is."""
    return _whole(found, bytes(size), check)
