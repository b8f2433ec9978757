"""Digests of a large file's pieces: whoever fetches parts of it can compare them before the whole is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rehydrator.disk.extents import Data
from rehydrator.disk.source import FileSource
from rehydrator.errors import StoreDamagedError
from rehydrator.manifest.schema import Pieces

PIECE = 1 << 20  # bytes; smaller ones cost 32 bytes each in every store, larger ones transfer more around what is read
_SMALLEST, _LARGEST = 4 << 10, 16 << 20  # of stores that are read
_DIGEST = hashlib.sha256().digest_size


def digests_of(path: Path, piece: int = PIECE) -> bytes:
    """Return the sha256 of each piece of a file, one after the other."""
    with FileSource(path) as source:
        starts = range(0, source.size, piece)
        return b"".join(hashlib.sha256(source.read(at, min(piece, source.size - at))).digest() for at in starts)


class PieceDigests:
    """The digests of a file of ``size`` bytes. Raises StoreDamagedError where there are not as many as pieces."""

    def __init__(self, pieces: Pieces, digests: bytes, size: int, path: Path) -> None:
        if not _SMALLEST <= pieces.size <= _LARGEST:
            raise StoreDamagedError("impossible size of pieces", path=path, actual=pieces.size)
        self.piece = pieces.size
        self.size = size
        self.count = -(-size // pieces.size)
        if len(digests) != self.count * _DIGEST:
            raise StoreDamagedError(
                "another number of pieces", path=path, expected=self.count, actual=f"{len(digests)} bytes of digests"
            )
        self._digests = digests

    def start(self, index: int) -> int:
        """Return where a piece begins, in bytes; for the number of pieces, the end of the file."""
        return min(index * self.piece, self.size)

    def length(self, index: int) -> int:
        """Return the size of a piece in bytes."""
        return self.start(index + 1) - self.start(index)

    def touched(self, offset: int, length: int) -> range:
        """Return the pieces that a range of bytes lies in."""
        return range(offset // self.piece, -(-(offset + length) // self.piece))

    def expected(self, index: int) -> str:
        """Return the sha256 of a piece in hexadecimal."""
        return self._digests[index * _DIGEST : (index + 1) * _DIGEST].hex()

    def actual(self, data: Data) -> str:
        """Return the sha256 of bytes in hexadecimal."""
        return hashlib.sha256(data).hexdigest()

    def fits(self, index: int, data: Data) -> bool:
        """Whether bytes are a piece."""
        return self.actual(data) == self.expected(index)
