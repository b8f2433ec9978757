"""Directories for what other programs need as files with names, which nothing can be left of for long."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from pathlib import Path

from rehydrator.errors import OutputError


class ScratchDirectory:
    """A directory of this process's own below ``parent``, by default ``$TMPDIR``, until it is removed.

    One that a killed process left is removed when the next with the same ``prefix`` is made there: whoever lives holds
    a lock on it. Raises OutputError where there is no room.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        self._lock = -1
        try:
            room = parent or Path(tempfile.gettempdir())
            _remove_abandoned(room, prefix)
            while not self._create(room, prefix):
                self._unlock()
        except OSError as error:
            raise OutputError(
                f"no temporary directory can be made: {error.strerror}",
                path=error.filename,
                hint="$TMPDIR names another place for it",
            ) from error

    def _create(self, room: Path, prefix: str) -> bool:
        """Make the directory and lock it; return False where another process took it for abandoned before that."""
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=room))
        try:
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):  # a file system without locks: nobody takes it for abandoned there
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return os.fstat(self._lock).st_nlink > 0

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Remove the directory (idempotent)."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            self._unlock()


def _remove_abandoned(room: Path, prefix: str) -> None:
    """Remove this user's directories of this kind whose process does not live any more."""
    for old in room.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            fd = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_uid == os.geteuid():
                    shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(fd)
