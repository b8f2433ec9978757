"""The data of a .xz file's blocks: encoded, or taken from a file for which it was proven."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator
from typing import Protocol

import msgspec

from rehydrator.codecs.c_xz import Check, padding
from rehydrator.codecs.deflate_pool import ReadAhead, Work
from rehydrator.codecs.lzma2 import BlockData, Encoder, slots
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.source import Source
from rehydrator.layers.xz_read import XzLayout

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


class Blocks(Protocol):
    """Gives the data of blocks in order."""

    def data(self, number: int) -> BlockData:
        """Return the data of a block and its check."""
        ...


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


class _Key(msgspec.Struct, frozen=True):
    """Everything that a block's data and check follow from."""

    encoder: str
    check: Check
    content_sha256: bytes


class ProvenBlocks:
    """Which data was proven for which content: digests only. Safe to use from several threads.

    The disks of a release share most of their blocks; each is encoded once.
    """

    def __init__(self) -> None:
        self._digests: dict[_Key, bytes] = {}
        self._guard = threading.Lock()
        self._locks: dict[_Key, threading.Lock] = defaultdict(threading.Lock)

    @contextlib.contextmanager
    def claim(self, key: _Key) -> Iterator[bytes | None]:
        """Give the digest of the data for ``key``, or None to who is first and is to prove it."""
        with self._guard:
            lock = self._locks[key]
        with lock:
            yield self._digests.get(key)

    def add(self, key: _Key, digest: bytes) -> None:
        """Note what ``key`` was encoded to."""
        self._digests[key] = digest


class ProvingBlocks:
    """Blocks to compare a shipped file with: encoded, or taken from the file itself where that was proven before."""

    def __init__(self, content: Source, shape: Shape, outer: Source, layout: XzLayout, proven: ProvenBlocks) -> None:
        self._content = content
        self._shape = shape
        self._outer = outer
        self._layout = layout
        self._proven = proven

    def data(self, number: int) -> BlockData:
        """Return the data of a block and its check."""
        shape = self._shape
        at, length = number * shape.block_size, shape.length(number)
        if not shape.held:
            return shape.encoder.block(pieces(self._content, at, length), shape.check)
        return BlockData(self._proving(number, held(self._content, at, length)))

    def _proving(self, number: int, content: bytes) -> Generator[bytes, None, bytes]:
        shape = self._shape
        key = _Key(shape.encoder.name, shape.check, hashlib.sha256(content).digest())
        with self._proven.claim(key) as digest:
            shipped = BlockData(self._shipped(number))
            if digest is not None and digest == _sha256(shipped):
                return (yield from self._shipped(number))
            sha256 = hashlib.sha256()
            encoded = shape.encoder.block([content], shape.check)
            for piece in encoded:
                sha256.update(piece)
                yield piece
            sha256.update(encoded.check)
            self._proven.add(key, sha256.digest())
            return encoded.check

    def _shipped(self, number: int) -> Generator[bytes, None, bytes]:
        block = self._layout.blocks[number]
        yield from map(bytes, pieces(self._outer, block.at, block.size))
        return bytes(self._outer.read(block.at + block.size + padding(block.size), self._shape.check.size))


def _sha256(data: BlockData) -> bytes:
    sha256 = hashlib.sha256()
    for piece in data:
        sha256.update(piece)
    sha256.update(data.check)
    return sha256.digest()
