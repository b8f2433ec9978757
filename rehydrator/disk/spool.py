"""Content on its way to a sparse file, so that it can be read at any place."""

from __future__ import annotations

import bisect
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from rehydrator.disk.extents import Data, Extent, ExtentMap, nonzero_blocks, whole_chunks
from rehydrator.disk.source import FileSource, Source
from rehydrator.errors import CorruptError, OutputError

_MAX_UNFINISHED = 2  # a decoder of xz -9 takes 64 MiB


def write_sparse(fd: int, piece: Data, at: int) -> list[Extent]:
    """Write the blocks of ``piece`` that are not zero to byte ``at`` on; return where they lie."""
    view = memoryview(piece)
    runs = list(nonzero_blocks(piece, at))
    for run in runs:
        part = view[run.offset - at : run.end - at]
        done = 0
        while done < len(part):
            done += os.pwrite(fd, part[done:], run.offset + done)
    return runs


def _nameless() -> IO[bytes]:
    """Open a file under TMPDIR that has no name; left to find the directory, tempfile tries it with one that has."""
    return tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or "/tmp")


def _no_room(name: str, error: OSError) -> OutputError:
    hint = "Free some space or set TMPDIR"
    return OutputError(f"no room for decompressing {name}: {error.strerror}", hint=hint)


def spooled(pieces: Iterable[Data], name: str = "") -> FileSource:
    """Write content to a file under TMPDIR that has no name, so that nothing is left whatever happens.

    ``name`` is told in the OutputError of a full disk.
    """
    with _nameless() as stream:
        found: list[Extent] = []
        at = 0
        for piece in whole_chunks(pieces):
            try:
                found += write_sparse(stream.fileno(), piece, at)
            except OSError as error:
                raise _no_room(name, error) from error
            at += len(piece)
        os.ftruncate(stream.fileno(), at)
        return FileSource(Path(f"/proc/self/fd/{stream.fileno()}"), ExtentMap(found))


class Section(msgspec.Struct, frozen=True):
    """A part of some content, in bytes, that ``pieces`` makes from front to back; it begins at a whole block."""

    start: int
    size: int
    pieces: Callable[[], Iterator[Data]]

    @property
    def end(self) -> int:
        """First byte after the section."""
        return self.start + self.size


class OnDemand(Source):
    """Content in sections, each of which is made as far as somebody reads in it.

    What was made is kept in a nameless sparse file under TMPDIR. A section that is made to its end is also checked;
    what its ``pieces`` raise, every read behind that place raises again. Decoders take memory: where a third section
    would be left half made, the one that was read longest ago is finished.
    """

    def __init__(self, sections: Sequence[Section], name: str = "") -> None:
        self._makers = [_Maker(section, name) for section in sections]
        self._starts = [section.start for section in sections]
        self._name = name
        self._lock = threading.Lock()
        self._unfinished: list[_Maker] = []
        self.size = sections[-1].end if sections else 0
        self._stream = _nameless()
        try:
            os.ftruncate(self._stream.fileno(), self.size)
        except OSError as error:
            raise _no_room(name, error) from error

    def read(self, offset: int, length: int) -> bytes:
        """Make what is not there yet; raises OutputError where there is no room for it."""
        end = offset + length
        first = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        with self._lock:
            for maker in self._makers[first:]:
                if maker.section.start >= end:
                    break
                self._reach(maker, min(end, maker.section.end))
        return os.pread(self._stream.fileno(), length, offset)

    def extents(self) -> Iterator[Extent]:
        """Make all of it and yield the exact map."""
        yield from self.nonzero()

    def nonzero(self) -> ExtentMap:
        """Make all of it and return the map."""
        with self._lock:
            for maker in self._makers:
                self._reach(maker, maker.section.end)
        return ExtentMap(run for maker in self._makers for run in maker.found)

    def _reach(self, maker: _Maker, end: int) -> None:
        fd = self._stream.fileno()
        maker.reach(end, fd)
        if maker in self._unfinished:
            self._unfinished.remove(maker)
        if not maker.finished:
            self._unfinished.append(maker)
        if len(self._unfinished) > _MAX_UNFINISHED:
            oldest = self._unfinished.pop(0)
            oldest.reach(oldest.section.end, fd)

    def close(self) -> None:
        """Let go of what was made."""
        self._stream.close()


class _Maker:
    """Makes one section; ``found`` are the blocks made so far that are not zero."""

    def __init__(self, section: Section, name: str) -> None:
        self.section = section
        self.found: list[Extent] = []
        self._name = name
        self._at = section.start
        self._pieces = whole_chunks(section.pieces())
        self._failure: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether all of the section was made, so that no decoder is kept for it."""
        return self._at == self.section.end

    def reach(self, end: int, fd: int) -> None:
        """Make the section up to ``end``, a place on the content."""
        if end <= self._at:
            return
        if self._failure is not None:
            raise self._failure
        try:
            while self._at < end:
                self._make(fd)
        except Exception as error:
            self._failure = error
            raise

    def _make(self, fd: int) -> None:
        piece = next(self._pieces, b"")
        if not piece or len(piece) > self.section.end - self._at:
            raise CorruptError(f"{self._name} holds other than its headers say", expected=self.section.size)
        try:
            self.found += write_sparse(fd, piece, self._at)
        except OSError as error:
            raise _no_room(self._name, error) from error
        self._at += len(piece)
        if self._at == self.section.end and next(self._pieces, b""):
            raise CorruptError(f"{self._name} holds more than its headers say", expected=self.section.size)
