"""Disks in chunks that are compressed one by one, as VMDK grains and qcow2 clusters are: reading and writing them."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from rehydrator.codecs import fingerprint, wheels
from rehydrator.codecs.deflate import Shape
from rehydrator.codecs.deflate_pool import ReadAhead, Work
from rehydrator.codecs.patches import Patch, Patches, patch_for
from rehydrator.disk.extents import Data
from rehydrator.disk.source import Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers import size_table
from rehydrator.layers.base import Layer, Unwrapped
from rehydrator.layers.exactness import KEEP
from rehydrator.layers.forward import equal_until
from rehydrator.layers.packed_record import Patched

_SAMPLES = 16
_TELLING = 16 << 10  # chunks that compress to more than this tell more encoders apart
_AHEAD_BYTES = 4 << 20
_MAX_AHEAD = 64  # chunks
# Patches that are a larger share of the compressed bytes cost more than finding the file's content elsewhere.
_MAX_PATCHED_SHARE = 0.1


class ChunkEncoder(Protocol):
    """What compresses a chunk; it goes by its name in records."""

    @property
    def speed(self) -> int:
        """MiB of a disk that one processor compresses in a second, roughly: the same on every machine."""
        ...

    @property
    def name(self) -> str:
        """The name."""
        ...

    def compress(self, data: Data, shape: Shape) -> bytes | None:
        """Compress a chunk; None where it does not fit into the room of ``shape``."""
        ...


class Inflated(msgspec.Struct, frozen=True):
    """A decompressed chunk: the bytes that it was compressed to, and what wrapping will compress again."""

    packed: bytes
    content: bytes


class StoredChunks(Protocol):
    """The compressed chunks of a file in file order, numbered from 0; ``number_of`` gives a chunk's place on the disk.

    ``prepare`` reads a chunk and returns the work of decompressing it, which raises CorruptError for a damaged one.
    """

    def __len__(self) -> int: ...

    def number_of(self, position: int) -> int:
        """Return the number of a chunk on the disk."""
        ...

    def room_of(self, position: int) -> int:
        """Return the bytes that a chunk takes in the file, or a few more."""
        ...

    def prepare(self, position: int) -> Work[Inflated]:
        """Read a chunk."""
        ...


def find_encoder(chunks: StoredChunks, shape: Shape) -> ChunkEncoder:
    """Return the encoder of some chunks spread over the file; raises UnsupportedError where none comes near."""
    telling = [at for at in range(len(chunks)) if chunks.room_of(at) > _TELLING] or list(range(len(chunks)))
    step = max(len(telling) // _SAMPLES, 1)
    samples = [chunks.prepare(at)() for at in telling[::step][:_SAMPLES]]
    found = fingerprint.recognise([(item.content, item.packed) for item in samples], shape)
    if found.literal > _MAX_PATCHED_SHARE * found.packed:
        raise UnsupportedError(
            "compressed by an unknown deflate encoder",
            expected="an encoder that gives most chunks back",
            actual=f"{found.encoder.name} for {found.hits} of {found.tried} chunks",
            hint=wheels.advice(found.missing),
        )
    return found.encoder


def sizes_in_file(chunks: StoredChunks, chunk_size: int) -> array[int]:
    """Decompress every chunk, on all cores, to learn how many bytes it takes; raises CorruptError for a damaged one."""
    made = ReadAhead(len(chunks), lambda at: _packed_length(chunks.prepare(at)), ahead=ahead_for(chunk_size))
    return array("I", (made[position] for position in range(len(chunks))))


def _packed_length(work: Work[Inflated]) -> Work[int]:
    return lambda: len(work().packed)


def proven(outer: Source, tell: Callable[[Patches], Unwrapped], layer: Layer[Any], survey: Survey) -> Unwrapped:
    """Return what tells a file from which ``layer`` makes every byte of ``outer`` again.

    It is made again and compared, so that each chunk is compressed once. Only where that fails a survey of all chunks
    finds the patches that ``tell`` needs, and the file is compared again. Of the tables, that of sizes comes first; it
    is left out where it is not worth its bytes. Raises UnsupportedError where patches do not help, and what ``tell``
    raises.
    """
    reached = 0
    for patches in (Patches, survey.patches):
        told = tell(patches())
        again = layer.wrap(told.inner, told.record, told.tables)
        reached = equal_until(outer, again)
        if reached == outer.size:
            keep = size_table.is_worth_keeping(told.tables[0], survey.seconds)
            return msgspec.structs.replace(told, tables=told.tables if keep else told.tables[1:], proven=True)
    raise UnsupportedError(
        "this file would not be written back exactly",
        offset=reached,
        expected=f"all of {outer.size} bytes",
        actual=f"equal up to {reached}",
        hint=KEEP,
    )


class Survey(msgspec.Struct, frozen=True):
    """What an encoder makes of the content of all chunks of a file."""

    chunks: StoredChunks
    encoder: ChunkEncoder
    shape: Shape
    chunk_size: int

    @property
    def seconds(self) -> float:
        """How long a processor takes to compress all chunks, roughly."""
        return len(self.chunks) * self.chunk_size / (self.encoder.speed << 20)

    def patches(self) -> Patches:
        """Decompress every chunk and compress it again, on all cores; return the patches of those that differ.

        Raises CorruptError for a damaged chunk, and UnsupportedError where patches would cost too much.
        """
        results = ReadAhead(len(self.chunks), self._prepare, ahead=ahead_for(self.chunk_size))
        found = []
        total = 0
        for position in range(len(self.chunks)):
            made = results[position]
            total += made.size
            if made.patch is not None:
                found.append((self.chunks.number_of(position), made.patch))
        patches = Patches(found)
        if patches.literal_bytes > _MAX_PATCHED_SHARE * total:
            raise UnsupportedError(
                f"{self.encoder.name} compresses {len(patches)} of {len(self.chunks)} chunks otherwise",
                expected=f"at most {_MAX_PATCHED_SHARE:.0%} of {total} bytes",
                actual=f"{patches.literal_bytes} bytes of patches",
            )
        return patches

    def _prepare(self, position: int) -> Work[_Compared]:
        opened = self.chunks.prepare(position)

        def work() -> _Compared:
            chunk = opened()
            made = self.encoder.compress(chunk.content, self.shape)
            return _Compared(len(chunk.packed), patch_for(made or b"", chunk.packed))

        return work


class _Compared(msgspec.Struct, frozen=True):
    """A chunk's compressed size, and how the encoder has to be corrected, if it has."""

    size: int
    patch: Patch | None


def ahead_for(chunk_size: int) -> int:
    """Return how many chunks to make in advance, so that memory does not grow with their size."""
    return max(min(_AHEAD_BYTES // chunk_size, _MAX_AHEAD), 2)


class Packing(msgspec.Struct, frozen=True):
    """How the chunks of a file are compressed. ``padded``: zeros fill up a chunk that reaches past the disk's end."""

    encoder: ChunkEncoder
    shape: Shape
    chunk_size: int
    patches: Patches
    padded: bool


class Packer:
    """The compressed chunks ``numbers`` of a disk, made ahead of a reader that goes through them in order.

    ``finish`` turns a position and what the chunk was compressed to into what the file holds. None stands for a
    chunk that the format has no room for. ``kept`` are the chunks where they were compressed before.
    """

    def __init__(
        self,
        disk: Source,
        numbers: Sequence[int],
        packing: Packing,
        finish: Callable[[int, bytes | None], bytes],
        kept: Compressed | None = None,
    ) -> None:
        self._disk = disk
        self._numbers = numbers
        self._packing = packing
        self._finish = finish
        self._kept = kept
        self._made = ReadAhead(len(numbers), self._prepare, ahead=ahead_for(packing.chunk_size))

    def __getitem__(self, position: int) -> bytes:
        return self._made[position]

    def _prepare(self, position: int) -> Work[bytes]:
        if self._kept is not None:
            made = self._kept[position]
            return lambda: self._finish(position, made)
        work = compression(self._disk, self._numbers[position], self._packing)
        return lambda: self._finish(position, work())


def compression(disk: Source, number: int, packing: Packing) -> Work[bytes | None]:
    """Read a chunk and return the work of compressing it."""
    size = packing.chunk_size
    content = disk.read(number * size, min(size, disk.size - number * size))

    def work() -> bytes | None:
        filled = bytes(content).ljust(size, b"\0") if packing.padded else content
        made = packing.encoder.compress(filled, packing.shape)
        return packing.patches.apply(number, made)

    return work


class Compressed:
    """The compressed chunks of a disk in a nameless file under TMPDIR, for formats that tell their sizes first.

    ``sizes`` are those of all chunks, 0 for one that the format has no room for. Indexing counts the others only.
    Raises OutputError where there is no room for the file.
    """

    def __init__(self, disk: Source, numbers: Sequence[int], packing: Packing) -> None:
        self.sizes = array("I")
        self._content = spooled(self._pieces(disk, numbers, packing), "compressed chunks")
        self._starts = array("Q", itertools.accumulate(filter(None, self.sizes), initial=0))

    def _pieces(self, disk: Source, numbers: Sequence[int], packing: Packing) -> Iterator[bytes]:
        made = ReadAhead(
            len(numbers), lambda at: compression(disk, numbers[at], packing), ahead=ahead_for(packing.chunk_size)
        )
        for position in range(len(numbers)):
            piece = made[position] or b""
            self.sizes.append(len(piece))
            yield piece

    def __getitem__(self, position: int) -> bytes:
        start, end = self._starts[position : position + 2]
        return bytes(self._content.read(start, end - start))


def patched(patches: Patches, chunks: StoredChunks) -> Patched | None:
    """Return the patches of a file in numbers, for its record; None where there are none."""
    return Patched(len(patches), len(chunks), patches.literal_bytes) if len(patches) else None


def tables_with(sizes: bytes | None, patches: Patches) -> tuple[bytes, ...]:
    """Return the tables of a record: that of sizes, if there is one, and the patches, if there are any."""
    found = () if sizes is None else (sizes,)
    return (*found, patches.pack()) if len(patches) else found


def split_tables(tables: Sequence[bytes], patched: Patched | None) -> tuple[bytes | None, Patches]:
    """Return the table of sizes, None where there is none, and the patches, which come behind it."""
    rest = list(tables)
    patches = Patches()
    if patched is not None:
        if not rest:
            raise MismatchError("the record lacks its table of patches")
        patches = Patches.parse(rest.pop())
    if len(rest) > 1:
        raise MismatchError("the record has too many tables", expected="at most one of sizes", actual=len(rest))
    return (rest[0] if rest else None), patches
