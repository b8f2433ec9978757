"""The data of a .xz file's blocks, encoded while the file is read or a few blocks ahead."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator

import msgspec

from rehydrator.codecs.c_xz import Check
from rehydrator.codecs.deflate_pool import ReadAhead, Work
from rehydrator.codecs.lzma2 import BlockData, Encoder, slots
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.source import Source

_MAX_HELD = 256 << 20  # content of a block that is held in memory; xz -9 makes blocks of 192 MiB


class Shape(msgspec.Struct, frozen=True):
    """How content is cut into blocks, and what encodes and checks them."""

    encoder: Encoder
    check: Check
    block_size: int
    content_size: int

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.content_size // self.block_size) if self.content_size else 0

    def length(self, number: int) -> int:
        """Size of a block's content."""
        return min(self.block_size, self.content_size - number * self.block_size)

    @property
    def held(self) -> bool:
        """Whether the content of a block is small enough to be held in memory."""
        return min(self.block_size, self.content_size) <= _MAX_HELD


def pieces(content: Source, at: int, length: int) -> Iterator[Data]:
    """Yield a range of the content in pieces."""
    for start in range(at, at + length, CHUNK):
        yield content.read(start, min(CHUNK, at + length - start))


class EncodedBlocks:
    """Encodes blocks: several at a time where their content can be held, else while the content is read."""

    def __init__(self, content: Source, shape: Shape) -> None:
        self._content = content
        self._shape = shape
        self._ahead = ReadAhead(shape.count, self._work, ahead=slots() - 1)

    def data(self, number: int) -> BlockData:
        """Encode a block."""
        shape = self._shape
        if shape.count < 2 or not shape.held:
            content = pieces(self._content, number * shape.block_size, shape.length(number))
            return shape.encoder.block(content, shape.check)
        return BlockData(self._made_ahead(number))

    def _made_ahead(self, number: int) -> Generator[bytes, None, bytes]:
        block = self._ahead[number]
        end = len(block) - self._shape.check.size
        yield block[:end]
        return block[end:]

    def _work(self, number: int) -> Work[bytes]:
        shape = self._shape
        content = held(self._content, number * shape.block_size, shape.length(number))
        return functools.partial(shape.encoder.whole_block, content, shape.check)


def held(content: Source, at: int, length: int) -> bytes:
    """Read a range of the content into memory."""
    return b"".join(pieces(content, at, length))
