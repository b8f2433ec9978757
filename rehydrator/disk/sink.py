"""Sinks: where the bytes of an artifact go, in order.

A sink takes ``write`` for data and ``skip`` for zeros, so that a sparse file gets holes, a pipe gets zeros and the
hash sees the same bytes in both cases. Whole or nothing: a file appears under its final name only after its
digest was compared (:class:`FileSink`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import queue
import secrets
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Self

from rehydrator.disk.extents import CHUNK, PIECE, Data, chunks
from rehydrator.disk.source import Source
from rehydrator.errors import OutputClosedError, OutputError

_ZEROS = bytes(CHUNK)


class Sink(ABC):
    """Sequential output."""

    @abstractmethod
    def write(self, data: Data) -> None:
        """Append ``data``."""

    @abstractmethod
    def skip(self, length: int) -> None:
        """Append ``length`` zero bytes, as a hole where the medium has such."""


def copy(source: Source, sink: Sink, piece: int = PIECE) -> None:
    """Send the whole of ``source`` to ``sink``, at most ``piece`` bytes at once, passing over its holes."""
    at = 0
    for offset, length in chunks(source.extents(), piece):
        if offset > at:
            sink.skip(offset - at)
        sink.write(source.read(offset, length))
        at = offset + length
    if source.size > at:
        sink.skip(source.size - at)


class HashSink(Sink):
    """Computes the sha256 of what it is given, in a thread of its own, at most ``depth`` pieces behind.

    With a ``depth`` of 0 the caller hashes: who makes several files at once has no use for more threads. Simple queues
    are used because an interrupt in the middle of theirs can't leave a lock behind: a pass is taken for each piece and
    comes back when the piece was hashed.
    """

    def __init__(self, depth: int = 8) -> None:
        self._hash = hashlib.sha256()
        self._queue: queue.SimpleQueue[Data | int | None] = queue.SimpleQueue()
        self._passes: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(depth):
            self._passes.put(None)
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True) if depth else None
        if self._thread is not None:
            self._thread.start()
        self.size = 0

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._update(item)
            self._passes.put(None)

    def _update(self, item: Data | int) -> None:
        """Hash data, or as many zeros."""
        if isinstance(item, int):
            for _ in range(item // CHUNK):
                self._hash.update(_ZEROS)
            self._hash.update(_ZEROS[: item % CHUNK])
        else:
            self._hash.update(item)

    def _take(self, item: Data | int) -> None:
        if self._thread is None:
            self._update(item)
        else:
            self._passes.get()
            self._queue.put(item)

    def write(self, data: Data) -> None:
        """Hash ``data``; the caller must not change a mutable buffer afterwards."""
        self.size += len(data)
        self._take(data)

    def skip(self, length: int) -> None:
        """Hash ``length`` zero bytes."""
        self.size += length
        self._take(length)

    def hexdigest(self) -> str:
        """End the hashing and return the digest in hexadecimal."""
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Stop the thread (idempotent)."""
        if self._thread is not None and self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()


class Tee(Sink):
    """Gives everything to several sinks."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def write(self, data: Data) -> None:
        """Write to each sink."""
        for sink in self._sinks:
            sink.write(data)

    def skip(self, length: int) -> None:
        """Skip in each sink."""
        for sink in self._sinks:
            sink.skip(length)


class StreamSink(Sink):
    """Writes to an open binary stream such as standard output; holes become zeros."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, data: Data) -> None:
        """Write all of ``data``."""
        try:
            view = memoryview(data)
            while view:
                view = view[self._stream.write(view) :]
        except OSError as error:
            raise output_error(error, self._name) from error

    def skip(self, length: int) -> None:
        """Write ``length`` zero bytes."""
        for _ in range(length // CHUNK):
            self.write(_ZEROS)
        self.write(_ZEROS[: length % CHUNK])


class FileSink(Sink):
    """A file that gets its name last.

    Bytes go to a hidden temporary file in the same directory; ``commit`` renames it, leaving the context without
    ``commit`` removes it. What killed runs left of the same file is removed at the start. With ``sparse`` holes stay
    holes.

    The directory is found once and held, links in it are replaced and never followed, and a file that somebody else put
    in the place of the temporary one gets no name: who may write to the directory, too, gets nothing else by that.
    """

    def __init__(self, path: Path, *, sparse: bool = True) -> None:
        self.path = path
        self._sparse = sparse
        self._temporary = f".{path.name}.{secrets.token_hex(4)}.part"
        self.size = 0
        self._fd = -1
        self._directory = -1

    def write(self, data: Data) -> None:
        """Append ``data`` to the temporary file."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, self.size)
                self.size += written
                view = view[written:]
        except OSError as error:
            raise output_error(error, str(self.path)) from error

    def skip(self, length: int) -> None:
        """Leave a hole, or write zeros where the file is not to be sparse."""
        if self._sparse:
            self.size += length
            return
        for _ in range(length // CHUNK):
            self.write(_ZEROS)
        self.write(_ZEROS[: length % CHUNK])

    def commit(self, path: Path | None = None) -> None:
        """Give the file its length, flush it and rename it to its final name.

        ``path`` is that name, in the same directory, where it follows from what was written.
        """
        self.path = path or self.path
        try:
            os.ftruncate(self._fd, self.size)
            os.fsync(self._fd)
            self._check_name()
            os.replace(self._temporary, self.path.name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            self._close()
        except OSError as error:
            raise output_error(error, str(self.path)) from error

    def _check_name(self) -> None:
        """Make sure that the temporary name is still that of the file that was written."""
        named = os.stat(self._temporary, dir_fd=self._directory, follow_symlinks=False)
        if not os.path.samestat(named, os.fstat(self._fd)):
            raise OutputError("somebody put another file in its place", path=self.path, hint="Choose another directory")

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        _remove_abandoned(self.path)
        try:
            self._directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            while self._fd < 0:
                self._create()
        except BaseException as error:  # an interrupt, too, would not reach __exit__
            self.__exit__()
            if isinstance(error, OSError):
                raise output_error(error, str(self.path)) from error
            raise
        return self

    def _create(self) -> None:
        """Create the temporary file and lock it, which says that its run lives."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._temporary, flags, 0o666, dir_fd=self._directory)
        with contextlib.suppress(OSError):  # a file system without locks: nobody takes the file for abandoned there
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        if not os.fstat(self._fd).st_nlink:  # another run took it for abandoned before it was locked
            self._close()

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._directory >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory)
            os.close(self._directory)
            self._directory = -1


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of ``path`` that killed runs left; a run that still lives holds its file's lock."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            fd = os.open(old, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                old.unlink()
            finally:
                os.close(fd)


def output_error(error: OSError, name: str) -> OutputError:
    """Return the error that tells that ``name`` can't be written; OutputClosedError where nobody reads it any more."""
    if error.errno == errno.EPIPE:
        return OutputClosedError("the reader went away", path=name)
    hint = None
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "Free some space or choose another destination; nothing was left under the final name"
    return OutputError(f"cannot be written: {error.strerror}", path=name, hint=hint)
