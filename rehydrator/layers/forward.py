"""Files that can only be made from front to back, such as compressed ones, as sources."""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from rehydrator.codecs import inflating
from rehydrator.disk.extents import CHUNK, Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.exactness import KEEP, first_difference

_KEPT = 2 * CHUNK  # bytes that were read and may be read again
_FIRST = 4096  # what is compared first: most wrong guesses end there
_FIRST_PIECE = 64 << 10  # and so much content is compressed at once for it


class Deflated(Protocol):
    """The record of a file whose content one encoder compressed."""

    @property
    def deflate(self) -> str | None:
        """The encoder's name, None where nothing is compressed."""
        ...


R = TypeVar("R", bound=Deflated)


class ForwardFile(Source):
    """A file that is made while it is read forward; reading before what was just read starts again.

    ``size`` is what the record promises; a subclass makes the bytes in ``stream``.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._restart()

    @abstractmethod
    def stream(self) -> Generator[bytes, None, None]:
        """Yield the file in pieces."""

    def _checked(self) -> Generator[bytes, None, None]:
        """Pass pieces on; the last one only if they are ``size`` bytes in all."""
        made = 0
        held = b""
        with contextlib.closing(self.stream()) as pieces:
            for piece in filter(None, pieces):
                made += len(piece)
                if made > self.size:
                    break
                yield held
                held = piece
        if made != self.size:
            raise MismatchError("the content does not compress to the recorded size", expected=self.size)
        yield held

    def _restart(self) -> None:
        self._pieces = self._checked()
        self._start = 0  # place of the kept bytes in the file
        self._kept = bytearray()

    def close(self) -> None:
        """Stop making the file."""
        self._pieces.close()

    def extents(self) -> Iterator[Extent]:
        """Yield the whole file."""
        if self.size:
            yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Return bytes of the file; raises MismatchError where the record promises another size."""
        with self._lock:
            if offset < self._start:
                self.close()
                self._restart()
            while self._start + len(self._kept) < offset + length:
                spare = min(offset - self._start, len(self._kept)) - _KEPT
                if spare > 0:
                    del self._kept[:spare]
                    self._start += spare
                self._kept += next(self._pieces)
            return bytes(self._kept[offset - self._start : offset - self._start + length])


class CheckedContent:
    """Content in pieces, from front to back; ``crc32`` is that of what was given out."""

    def __init__(self, content: Source) -> None:
        self._content = content
        self.crc32 = 0

    def __iter__(self) -> Iterator[Data]:
        at = 0
        while at < self._content.size:
            length = _FIRST_PIECE if at < CHUNK else CHUNK
            piece = self._content.read(at, min(length, self._content.size - at))
            self.crc32 = inflating.crc32(piece, self.crc32)
            yield piece
            at += len(piece)


def equal_until(outer: Source, again: Source, head: int = 0) -> int:
    """Return how many bytes of both files are equal; stops at the first difference.

    A file that can't be made behind some place, since its record promises other sizes, differs there. ``head`` is the
    length of what says nothing about the encoder, in bytes.
    """
    at = 0
    while at < outer.size:
        length = min(CHUNK if at else head + _FIRST, outer.size - at)
        expected = bytes(outer.read(at, length))
        try:
            found = bytes(again.read(at, length))
        except MismatchError:  # the encoder makes too much or too little
            return max(at, head)
        place = first_difference(expected, found)
        if place is not None:
            return at + place
        at += length
    return at


def matching(
    outer: Source, path: Path, head: int, records: Iterable[R], write: Callable[[R], ForwardFile], kind: str
) -> R:
    """Return the first of ``records`` whose file has all bytes of ``outer``.

    ``write`` makes the file of a record; ``head`` bytes of it say nothing about the encoder. Raises UnsupportedError
    where none fits: with the closest one, and the encoders that are missing here.
    """
    closest, reached = "none", 0
    missing: dict[str | None, UnsupportedError] = {}
    for record in records:
        try:
            with contextlib.closing(write(record)) as again:
                equal = equal_until(outer, again, head)
        except UnsupportedError as error:
            missing.setdefault(error.hint, error)
            continue
        if equal == outer.size:
            return record
        if equal > reached:
            closest, reached = f"{record.deflate} for {equal} of {outer.size} bytes", equal
        if equal < head:
            break
    raise UnsupportedError(
        f"{kind} file of an unknown deflate encoder",
        path=path,
        offset=reached,
        expected=f"one that makes all {outer.size} bytes",
        actual=closest,
        hint=f"Not tried: {'; '.join(map(str, missing.values()))}" if missing else KEEP,
    )
