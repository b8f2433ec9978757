"""Versions of what is written to disk: a newer minor is read, a newer major is refused."""

from __future__ import annotations

from pathlib import Path

from rehydrator.errors import CorruptError, UnsupportedError

STORE_VERSION = "1.0"
MANIFEST_VERSION = "2.3"
BUILD_VERSION = "1.0"


def check_version(what: str, found: str, known: str, path: Path) -> None:
    """Refuse a ``found`` version (``major.minor``) whose major is not that of ``known``."""
    major, _, minor = found.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise CorruptError(f"{what} version is not of the form major.minor", path=path, actual=found[:20])
    if major != known.partition(".")[0]:
        raise UnsupportedError(
            f"{what} has version {found}, this rehydrator reads {known.partition('.')[0]}.x",
            path=path,
            hint="Use a rehydrator of the version that wrote it",
        )
