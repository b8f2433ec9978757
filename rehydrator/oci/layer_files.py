"""Reading the files of a store out of a layer: a tar stream, compressed as whoever pushed it last did.

Source: OCI image-spec 1.1, ``layer.md``; POSIX.1-2017 ``pax`` ("ustar Interchange Format").
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec
import zstandard

from rehydrator.disk.extents import CHUNK
from rehydrator.errors import CorruptError
from rehydrator.layers.c_gzip import MAGIC
from rehydrator.layers.c_tar import BLOCKSIZE, TMAGIC, PosixHeader, Type, UstarTail
from rehydrator.layers.tar_header import checksum, number
from rehydrator.oci.store_layers import PLACE

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_PAX = 1 << 16  # bytes; names, for files that need them


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class LayerFile(msgspec.Struct, frozen=True):
    """A file of a store in a layer: its name relative to the store, its size in bytes, and its content.

    That is there until the next file is asked for.
    """

    name: str
    size: int
    content: Iterator[bytes]


def layer_files(path: Path) -> Iterator[LayerFile]:
    """Yield the files of a store in a layer, in its order. Raises CorruptError for a layer that can't be read."""
    with _decompressed(path) as stream:
        yield from _Reader(stream, path).files()


@contextmanager
def _decompressed(path: Path) -> Iterator[_Stream]:
    with path.open("rb") as blob:
        magic = blob.read(4)
        blob.seek(0)
        if magic.startswith(MAGIC[:2]):
            yield gzip.GzipFile(fileobj=blob)
        elif magic == _ZSTD_MAGIC:
            yield zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
        else:
            yield blob


class _Reader:
    def __init__(self, stream: _Stream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._at = 0

    def _take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self._stream.read(size - len(data))
            except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
                raise CorruptError(f"a layer can't be decompressed: {error}", path=self._path) from error
            if not piece:
                raise CorruptError("a layer ends early", path=self._path, offset=self._at + len(data))
            data += piece
        self._at += size
        return bytes(data)

    def files(self) -> Iterator[LayerFile]:
        long_name = ""
        while any(block := self._take(BLOCKSIZE)):
            header = self._header(block)
            size = number(header.size, "size", self._path, self._at - BLOCKSIZE + PosixHeader.offset_of("size"))
            padded = -(-size // BLOCKSIZE) * BLOCKSIZE
            kind = header.typeflag.decode("latin-1")
            end = self._at + padded
            if kind == Type.PAX_HEADER:
                long_name = self._path_of(size)
            else:
                name = long_name or _name(header)
                long_name = ""
                if kind in (Type.REGULAR, Type.OLD_REGULAR) and PurePosixPath(name).is_relative_to(PLACE):
                    relative = str(PurePosixPath(name).relative_to(PLACE))
                    yield LayerFile(relative, size, self._content(size))
            for _ in self._content(end - self._at):
                pass  # what was not read of it, and what fills the last block up

    def _header(self, block: bytes) -> PosixHeader:
        header = PosixHeader.parse(block)
        found = number(header.chksum, "chksum", self._path, self._at - BLOCKSIZE + PosixHeader.offset_of("chksum"))
        if header.magic != TMAGIC or found != checksum(block):
            raise CorruptError("a layer with a wrong tar header", path=self._path, offset=self._at - BLOCKSIZE)
        return header

    def _content(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._take(min(size, CHUNK))
            size -= len(piece)
            yield piece

    def _path_of(self, size: int) -> str:
        """Return the name that a pax header gives the member after it, "" where it gives none."""
        if size > _MAX_PAX:
            raise CorruptError("a layer with a huge pax header", path=self._path, offset=self._at, actual=size)
        name = ""
        rest = self._take(size)
        while rest:
            digits, _, _ = rest.partition(b" ")
            length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
            key, equals, value = rest[len(digits) + 1 : length - 1].partition(b"=")
            if not equals or length > len(rest):
                raise CorruptError("a layer with a damaged pax header", path=self._path, offset=self._at)
            if key == b"path":
                name = value.decode("utf-8", "replace")
            rest = rest[length:]
        return name


def _name(header: PosixHeader) -> str:
    prefix = UstarTail.parse(header.tail).prefix.rstrip(b"\0")
    name = header.name.rstrip(b"\0")
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")
