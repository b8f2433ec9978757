"""Giving a directory that was made under another name the name of a store."""

from __future__ import annotations

import os
from pathlib import Path

from rehydrator.errors import OutputError, UsageError


def check_free(target: Path) -> None:
    """Raise UsageError where a store can't get this name; an empty directory is replaced."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise UsageError("exists already", path=target, hint="Remove it or name another store")
    if not target.parent.is_dir():
        raise UsageError("no such directory", path=target.parent)


def publish(root: Path, target: Path, lock: Path | None = None) -> None:
    """Flush all files of ``root``, remove the lock in it and give it its name."""
    try:
        for directory, _, files in os.walk(root):
            for name in (*files, "."):
                _fsync(Path(directory) / name)
        if lock is not None:
            lock.unlink()
        check_free(target)  # somebody may have been faster
        root.rename(target)
        _fsync(target.parent)
    except OSError as error:
        raise OutputError(f"cannot be published: {error.strerror}", path=target) from error


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
