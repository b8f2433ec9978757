"""A file on its way: hidden beside its final name, locked, kept between runs so that the next one goes on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path
from typing import Self

import msgspec

from rehydrator.disk.extents import CHUNK
from rehydrator.errors import BusyError, InputError, OutputError
from rehydrator.manifest.text import JSON_ERRORS

_SUFFIX = ".fetching"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Origin(msgspec.Struct, frozen=True):
    """Where the bytes come from. ``validator`` is the server's word for this very version, "" where it has none."""

    location: str
    sha256: str
    validator: str = ""


class Partial:
    """What there is of ``target``: its bytes so far, their running sha256, and their origin.

    Use it as a context manager; leaving it keeps the bytes for the next run unless :meth:`commit` gave them their name
    or :meth:`discard` removed them. A second process that wants the same file is refused.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = partial_path(target)
        self._note = note_path(target)
        self._fd = -1
        self.size = 0
        self.origin: Origin | None = None
        self._sha256 = hashlib.sha256()

    def __enter__(self) -> Self:
        try:
            while not self._take():
                self._close()
            self._load()
        except OSError as error:
            self._close()
            if error.errno == errno.ELOOP:
                raise InputError("is a symbolic link and is not followed", path=self.path) from error
            raise OutputError(f"cannot be written: {error.strerror}", path=self.path) from error
        except BaseException:
            self._close()
            raise
        return self

    def _take(self) -> bool:
        """Open and lock the file; return whether it still has its name: another process may have renamed it just now.

        A file that is somebody else's, or has other names, is not written to.
        """
        self._fd = os.open(self.path, _FLAGS, 0o666)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
            raise InputError("is no file of this user alone and is not written to", path=self.path, hint="Remove it")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError("is being fetched by another process", path=self.target) from error
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino)

    def _load(self) -> None:
        """See what an earlier run left."""
        self.origin = _read_note(self._note)
        if self.origin is None:
            self.restart()
            return
        while piece := os.pread(self._fd, CHUNK, self.size):
            self._sha256.update(piece)
            self.size += len(piece)

    def begin(self, origin: Origin) -> None:
        """Note where the bytes that come next are from; what was there from elsewhere is dropped."""
        if origin == self.origin:
            return
        self.restart()
        self.origin = origin
        self._note.unlink(missing_ok=True)
        with self._note.open("xb") as stream:
            stream.write(msgspec.json.encode(origin))

    def restart(self) -> None:
        """Drop all bytes."""
        os.ftruncate(self._fd, 0)
        self.size = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, self.size)
                self._sha256.update(view[:written])
                self.size += written
                view = view[written:]
        except OSError as error:
            raise OutputError(
                f"cannot be written: {error.strerror}",
                path=self.target,
                hint="Free some space and run it again: it goes on where it ended",
            ) from error

    def hexdigest(self) -> str:
        """Return the sha256 of all bytes so far."""
        return self._sha256.hexdigest()

    def commit(self) -> None:
        """Flush the file and give it its name."""
        try:
            os.fsync(self._fd)
            self.path.replace(self.target)
            self._note.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", path=self.target) from error

    def discard(self) -> None:
        """Remove the bytes: they are of no use."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __exit__(self, *_: object) -> None:
        if self.size == 0 and self.path.exists() and self._fd >= 0:
            self.discard()  # nothing that a next run could go on with
        self._close()


def partial_path(target: Path) -> Path:
    """Return the name under which ``target`` is fetched."""
    return target.with_name(f".{target.name}{_SUFFIX}")


def note_path(target: Path) -> Path:
    """Return the name of the note that says where the bytes of a partial file are from."""
    return target.with_name(f".{target.name}{_SUFFIX}.json")


def _read_note(path: Path) -> Origin | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as stream:
            return msgspec.json.decode(stream.read(1 << 16), type=Origin)
    except (OSError, *JSON_ERRORS):
        return None
