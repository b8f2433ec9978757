"""A store that comes from elsewhere, file by file, and gets its name when all of it is there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from rehydrator.errors import BusyError, OutputError
from rehydrator.manifest.schema import File
from rehydrator.store.files import sha256_file
from rehydrator.store.layout import inside
from rehydrator.store.publishing import check_free, publish

_SUFFIX = ".pulling"


class Arrival:
    """The files that came so far, hidden beside ``target``; a run that ended early leaves them for the next one."""

    def __init__(self, target: Path) -> None:
        self.target = target
        check_free(target)
        self._root = target.with_name(f".{target.name}{_SUFFIX}")
        self._lock = -1
        self._right: set[File] = set()

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(exist_ok=True)
            self._lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_owner()
        except BaseException as error:  # an interrupt, too, would not reach __exit__
            self._unlock()
            if isinstance(error, BlockingIOError):
                raise BusyError("is being pulled by another process", path=self.target) from error
            if isinstance(error, OSError):
                raise OutputError(f"cannot be created: {error.strerror}", path=self._root) from error
            raise
        return self

    def _check_owner(self) -> None:
        """Refuse a directory that somebody else laid where this one should be, with links in it perhaps."""
        if os.fstat(self._lock).st_uid != os.geteuid():
            raise OutputError("is somebody else's and is not written to", path=self._root, hint="Remove it")

    def path(self, file: File) -> Path:
        """Return where a file has to arrive; its directory is there."""
        path = inside(self._root, file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, file: File) -> bool:
        """Whether the file is there; one that an earlier run brought is compared, and goes if it is another."""
        if file in self._right:
            return True
        path = self.path(file)
        if not path.is_file():
            return False
        if sha256_file(path) != file.sha256:
            path.unlink()
            return False
        self._right.add(file)
        return True

    def publish(self, files: Iterable[File]) -> None:
        """Remove what does not belong to ``files``, and give the store its name."""
        wanted = {file.name for file in files}
        for path in list(self._root.rglob("*")):
            if not path.is_dir() and str(path.relative_to(self._root)) not in wanted:
                path.unlink()
        publish(self._root, self.target)

    def close(self) -> None:
        """Do nothing: the files stay."""

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __exit__(self, *_: object) -> None:
        if self._root.is_dir() and not any(path.is_file() for path in self._root.rglob("*")):
            shutil.rmtree(self._root, ignore_errors=True)  # nothing that a next run could go on with
        self._unlock()
