"""Sources: random-access, read-only byte ranges that compose.

A file, a canonical in the store, the disk inside a qcow2, a disk with edits laid over it and a disk wrapped into
a container are all sources; nothing is materialised on the way from one to the next.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, Self

from rehydrator.disk.extents import Data, Extent, ExtentMap, chunks, merge, nonzero_blocks, whole_blocks
from rehydrator.errors import AbsentError, CorruptError, InputError


class Source(ABC):
    """A read-only sequence of ``size`` bytes with random access."""

    size: int

    @abstractmethod
    def read(self, offset: int, length: int) -> Data:
        """Return exactly ``length`` bytes from byte ``offset``; reading past ``size`` is a caller's error."""

    @abstractmethod
    def extents(self) -> Iterator[Extent]:
        """Yield ordered ranges outside of which every byte is zero (see ``nonzero`` for the exact map)."""

    def nonzero(self) -> ExtentMap:
        """Return the exact map of blocks that hold a non-zero byte, a function of the bytes alone."""
        return ExtentMap(scan(self, self.extents()))

    def near(self, offset: int) -> int:
        """Return a number for sorting: places with numbers close to each other are cheaper to read together."""
        return offset


def scan(source: Source, ranges: Iterable[Extent]) -> Iterator[Extent]:
    """Read ``ranges`` of ``source`` and yield the runs of blocks in them that are not zero."""
    block_ranges = merge(whole_blocks(extent, source.size) for extent in ranges)
    return merge(
        run
        for piece in chunks(block_ranges)
        for run in nonzero_blocks(source.read(piece.offset, piece.length), piece.offset)
    )


class BytesSource(Source):
    """A source over bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        """Return a slice of the data."""
        return self._data[offset : offset + length]

    def extents(self) -> Iterator[Extent]:
        """Yield one extent, or none for empty data."""
        if self.size:
            yield Extent(0, self.size)


def open_regular(path: Path) -> int:
    """Open a file for reading and return its descriptor. A pipe or device is refused, and not waited for.

    Raises AbsentError where there is no regular file, InputError where it can't be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AbsentError(f"cannot be opened: {error.strerror}", path=path) from error
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", path=path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise AbsentError("is no regular file", path=path)
    return fd


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a small file, which may be a pipe.

    Raises AbsentError where there is none, InputError for one that can't be read or has more than ``limit`` bytes.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AbsentError(f"cannot be read: {error.strerror}", path=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    if len(data) > limit:
        raise InputError("is too large", path=path, expected=f"at most {limit} bytes")
    return data


class ByteFile(Protocol):
    """A file that is read in any order, here or elsewhere; safe to use from several threads."""

    path: Path  # for messages
    size: int

    def read(self, offset: int, length: int) -> Data:
        """Return exactly ``length`` bytes from byte ``offset``."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class FileSource(Source):
    """A source over a regular file, opened read-only.

    ``known`` is the exact map of non-zero blocks where the caller has it (e.g. from writing the file); else the
    host's hole map bounds what has to be read. It is closed at the latest when nobody holds it any more: a nameless
    copy of a container's content has no other owner, and keeps its room on the disk until then.
    """

    def __init__(self, path: Path, known: ExtentMap | None = None) -> None:
        self.path = path
        self._fd = -1
        self._fd = open_regular(path)
        self.size = os.fstat(self._fd).st_size
        self._known = known

    def read(self, offset: int, length: int) -> bytes:
        """Read from the file; a file that became shorter is reported as truncated."""
        data = os.pread(self._fd, length, offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                raise CorruptError(
                    "file is truncated",
                    path=self.path,
                    offset=offset + len(data),
                    expected=f"{length} bytes",
                    actual=f"{len(data)} bytes",
                )
            data += more
        return data

    def extents(self) -> Iterator[Extent]:
        """Yield the known map, or what the host file system says is not a hole."""
        if self._known is not None:
            yield from self._known
            return
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self._fd, end, os.SEEK_DATA)
                stop = os.lseek(self._fd, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end of the file
                    return
                if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that knows of no holes
                    yield Extent(end, self.size - end)
                    return
                raise InputError(f"its holes can't be found: {error.strerror}", path=self.path, offset=end) from error
            end = min(stop, self.size)
            yield Extent(start, end - start)

    def nonzero(self) -> ExtentMap:
        """Return the known map or scan the file once and remember it."""
        if self._known is None:
            self._known = super().nonzero()
        return self._known

    def close(self) -> None:
        """Close the file; the source can't be read afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Padded(Source):
    """``inner`` followed by zeros up to ``size`` bytes: a disk that was grown with ``truncate``."""

    def __init__(self, inner: Source, size: int) -> None:
        if size < inner.size:
            raise ValueError("a padded source can't be smaller than what it holds")
        self._inner = inner
        self.size = size

    def read(self, offset: int, length: int) -> Data:
        """Read through to the inner source; zeros beyond its end."""
        held = max(min(length, self._inner.size - offset), 0)
        if held == length:
            return self._inner.read(offset, length)
        return (bytes(self._inner.read(offset, held)) if held else b"") + bytes(length - held)

    def extents(self) -> Iterator[Extent]:
        """Yield the inner extents; the tail is a hole."""
        return self._inner.extents()

    def nonzero(self) -> ExtentMap:
        """Return the inner map; the tail adds nothing but the rest of a last block that was cut off."""
        return ExtentMap(whole_blocks(extent, self.size) for extent in self._inner.nonzero())


class Window(Source):
    """The ``size`` bytes of ``inner`` from byte ``start`` on, for example one partition of a disk."""

    def __init__(self, inner: Source, start: int, size: int) -> None:
        if start < 0 or size < 0 or start + size > inner.size:
            raise ValueError("a window can't reach beyond what it shows")
        self._inner = inner
        self._start = start
        self.size = size

    def read(self, offset: int, length: int) -> Data:
        """Read through to the inner source."""
        return self._inner.read(self._start + offset, length)

    def near(self, offset: int) -> int:
        """Return what the inner source says."""
        return self._inner.near(self._start + offset)

    def extents(self) -> Iterator[Extent]:
        """Yield the parts of the inner extents that lie in the window."""
        for extent in self._inner.extents():
            start = max(extent.offset - self._start, 0)
            stop = min(extent.end - self._start, self.size)
            if start < stop:
                yield Extent(start, stop - start)
            if extent.end - self._start >= self.size:
                return
