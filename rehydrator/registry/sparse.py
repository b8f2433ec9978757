"""A file that comes in pieces, in any order, kept in the cache between runs.

It is a sparse file with a name of its own, and nothing else tells which pieces are there: a piece is there when its
sha256 is right. So it does not matter when a process was killed, or how many write to the same file: all of them write
the same bytes to the same place, and only after comparing them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehydrator.disk.extents import CHUNK
from rehydrator.errors import InputError, OutputError, StoreDamagedError
from rehydrator.progress import Progress
from rehydrator.store.pieces import PieceDigests

_SUFFIX = ".pieces"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_WAIT = 0.1  # seconds between two looks at what another process fetches


class SparseFile:
    """The pieces so far of what ``target`` will be, which appears when all are there."""

    def __init__(self, target: Path, digests: PieceDigests) -> None:
        self.target = target
        self._path = target.with_name(f".{target.name}{_SUFFIX}")
        self._digests = digests
        self.there = bytearray(digests.count)  # 1 for each piece that this process has compared
        self._fd = -1
        try:
            self._fd = os.open(self._path, _FLAGS, 0o600)
            _check_owner(self._fd, self._path)
            os.ftruncate(self._fd, digests.size)
            os.utime(self._fd)
        except OSError as error:
            self.close()
            raise OutputError(f"cannot be written: {error.strerror}", path=self._path) from error
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of pieces that are there."""
        return os.pread(self._fd, length, offset)

    def look(self, pieces: range) -> None:
        """See which pieces another run or process has brought."""
        for index in pieces:
            start, length = self._digests.start(index), self._digests.length(index)
            if not self.there[index] and self._has_data(start, length):
                self.there[index] = self._digests.fits(index, self.read(start, length))

    def _has_data(self, start: int, length: int) -> bool:
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA) < start + length
        except OSError:  # ENXIO: nothing but a hole up to the end of the file
            return False

    def put(self, index: int, data: bytes) -> None:
        """Keep a piece. Raises StoreDamagedError, and keeps nothing, where it is another one than it should be."""
        if not self._digests.fits(index, data):
            raise StoreDamagedError(
                "holds other bytes than their digest says",
                offset=self._digests.start(index),
                expected=self._digests.expected(index),
                actual=self._digests.actual(data),
            )
        try:
            view, at = memoryview(data), self._digests.start(index)
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise OutputError(
                f"cannot be written: {error.strerror}", path=self._path, hint="$XDG_CACHE_HOME names another place"
            ) from error
        self.there[index] = 1

    @contextmanager
    def alone(self, progress: Progress) -> Iterator[None]:
        """Keep other processes from fetching the same pieces meanwhile."""
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.pause(_WAIT)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def complete(self, sha256: str) -> None:
        """Give the file, all of whose pieces are there, its name.

        Raises StoreDamagedError, and removes it, where it has another digest.
        """
        digest = hashlib.sha256()
        for at in range(0, self._digests.size, CHUNK):
            digest.update(self.read(at, min(CHUNK, self._digests.size - at)))
        if digest.hexdigest() != sha256:
            self._path.unlink(missing_ok=True)
            raise StoreDamagedError(
                "consists of other pieces than its digest says", expected=sha256, actual=digest.hexdigest()
            )
        try:
            os.fsync(self._fd)
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                self._path.replace(self.target)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", path=self.target) from error

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _check_owner(fd: int, path: Path) -> None:
    """Refuse a file that is somebody else's, or has other names."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
        raise InputError("is no file of this user alone and is not written to", path=path, hint="Remove it")
