"""Blobs that were fetched, kept for the next time: by digest, of bounded size.

The directory is ``rehydrator/blobs`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. A blob gets its name when its digest was
compared. Whoever uses the cache holds a shared lock; the one who is alone removes what was not used for the longest
time, until the rest is within the bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from rehydrator.errors import OutputError, StoreDamagedError
from rehydrator.manifest.schema import File

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BOUND = 10 << 30  # bytes
_SECTOR = 512  # bytes; what st_blocks counts (stat(2))


class Cache:
    """The cache of this user, and the lock on it until :meth:`close`."""

    def __init__(self, root: Path | None = None, bound: int = _BOUND) -> None:
        self._root = root or _usual_root()
        self._bound = bound
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise OutputError(
                f"the cache cannot be created: {error.strerror}",
                path=self._root,
                hint="$XDG_CACHE_HOME names another place",
            ) from error
        self._trim()
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def path(self, file: File) -> Path:
        """Return where a file lies, or has to arrive. Raises StoreDamagedError for a digest that is none."""
        if not _SHA256.fullmatch(file.sha256):
            raise StoreDamagedError("has a digest that is none", path=file.name, actual=repr(file.sha256[:80]))
        return self._root / file.sha256

    def has(self, file: File) -> bool:
        """Whether the file is there; note that it is used, unless the cache is on a read-only file system."""
        path = self.path(file)
        try:
            if path.stat().st_size != file.size:
                return False
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):
            os.utime(path)
        return True

    def _trim(self) -> None:
        """Remove the blobs that were not used for the longest time, if nobody else uses the cache."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        found = [(entry.stat(follow_symlinks=False), Path(entry.path)) for entry in os.scandir(self._root)]
        found.sort(key=lambda item: item[0].st_mtime_ns, reverse=True)
        total = 0
        for stat, path in found:
            total += min(stat.st_size, stat.st_blocks * _SECTOR)  # less than its size is used of what has come in part
            if total > self._bound:
                with contextlib.suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Trim the cache, if nobody else uses it, and let it go."""
        if self._lock >= 0:
            self._trim()
            os.close(self._lock)
            self._lock = -1


def _usual_root() -> Path:
    home = Path(os.environ.get("HOME") or "/")
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "rehydrator" / "blobs"
