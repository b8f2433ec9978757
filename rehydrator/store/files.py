"""Reading pinned files: nothing of a store is used before its digest was compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rehydrator.errors import InputError, RehydratorError, StoreDamagedError
from rehydrator.manifest.schema import UNSEALED, File


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error


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


def read_pinned(path: Path, file: File) -> bytes:
    """Read a small file of the store, which lies at ``path``, and compare its sha256."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreDamagedError(f"cannot be read: {error.strerror}", path=path) from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != file.sha256:
        raise damaged(path, file.sha256, actual)
    return data


def check_pinned(path: Path, file: File) -> None:
    """Compare the sha256 of a file of any size, which lies at ``path``."""
    if not path.is_file():
        raise StoreDamagedError("is missing from the store", path=path)
    actual = sha256_file(path)
    if actual != file.sha256:
        raise damaged(path, file.sha256, actual)
