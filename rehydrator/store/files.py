"""Reading pinned files: nothing of a store is used before its digest was compared."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import FileSource
from rehydrator.errors import AbsentError, RehydratorError, StoreDamagedError
from rehydrator.manifest.schema import UNSEALED, File

MAX_SMALL = 256 << 20  # bytes; bound for what is held in memory as a whole: hostile stores end here


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with FileSource(path) as source:
        return _sha256(source)


def describe(root: Path, name: str) -> File:
    """Return the :class:`File` of ``root / name`` as it is on disk."""
    path = root / name
    return File(name, path.stat().st_size, sha256_file(path))


def sealed(document: bytes) -> bytes:
    """Return an index whose seal is still open with its seal put in."""
    seal = hashlib.sha256(document).hexdigest()
    return document.replace(UNSEALED.encode(), seal.encode(), 1)


def check_seal(document: bytes, seal: str, path: Path) -> None:
    """Compare the seal of an index with its content."""
    actual = hashlib.sha256(document.replace(seal.encode(), UNSEALED.encode(), 1)).hexdigest()
    if actual != seal:
        raise damaged(path, seal, actual)


def damaged(path: Path, expected: str, actual: str) -> RehydratorError:
    """Return the error for a store file with a wrong digest."""
    return StoreDamagedError(
        "the store is damaged: wrong sha256", path=path, expected=expected, actual=actual, hint="Fetch the store again"
    )


def read_small(path: Path) -> bytes:
    """Read a file that no digest pins yet. Raises StoreDamagedError for one that is too large to be held in memory."""
    with FileSource(path) as source:
        _check_small(path, source.size)
        return source.read(0, source.size)


def read_pinned(path: Path, file: File) -> bytes:
    """Read a small file of the store, which lies at ``path``, and compare its size and sha256."""
    _check_small(path, file.size)
    with _opened(path, file) as source:
        data = source.read(0, source.size)
    actual = hashlib.sha256(data).hexdigest()
    if actual != file.sha256:
        raise damaged(path, file.sha256, actual)
    return data


def check_pinned(path: Path, file: File) -> None:
    """Compare the size and sha256 of a file, which lies at ``path``; what is longer than it should be is not read."""
    with _opened(path, file) as source:
        actual = _sha256(source)
    if actual != file.sha256:
        raise damaged(path, file.sha256, actual)


def _check_small(path: Path, size: int) -> None:
    if not 0 <= size <= MAX_SMALL:
        raise StoreDamagedError(
            "is too large to be read at once", path=path, expected=f"at most {MAX_SMALL}", actual=size
        )


def open_stored(path: Path) -> FileSource:
    """Open a file of the store. Raises StoreDamagedError where there is none."""
    try:
        return FileSource(path)
    except AbsentError as error:
        raise StoreDamagedError(f"the store is damaged: {error.message}", path=path) from error


@contextlib.contextmanager
def _opened(path: Path, file: File) -> Iterator[FileSource]:
    """Open a file of the store that has the size that it should have."""
    with open_stored(path) as source:
        if source.size != file.size:
            raise StoreDamagedError(
                "the store is damaged: another size", path=path, expected=file.size, actual=source.size
            )
        yield source


def _sha256(source: FileSource) -> str:
    """Hash the bytes that a file had when it was opened, no more."""
    digest = hashlib.sha256()
    for offset in range(0, source.size, CHUNK):
        digest.update(source.read(offset, min(CHUNK, source.size - offset)))
    return digest.hexdigest()
