"""Names of the files in a store.

::

    store.json                       pins every other file by sha256
    stream.json                      stream metadata, verbatim
    <arch>/canonical.raw.zst         the canonical disk, seekable zstd, readable with ``zstd -d``
    <arch>/manifests/<artifact>.json one manifest per artifact
    blobs/<sha256>                   everything else, zstd
    signatures/<file>.sig            detached signatures, verbatim
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from rehydrator.errors import StoreDamagedError
from rehydrator.release.naming import is_plain

INDEX = "store.json"
STREAM = "stream.json"
BLOBS = "blobs"
SIGNATURES = "signatures"


def canonical_name(arch: str) -> str:
    """Path of the canonical of ``arch`` relative to the store."""
    return f"{arch}/canonical.raw.zst"


def manifest_name(arch: str, key: str) -> str:
    """Path of the manifest of artifact ``key`` relative to the store."""
    return f"{arch}/manifests/{key}.json"


def manifest_key(name: str) -> str:
    """Return which artifact's the manifest of this path is, as far as the path tells."""
    return name.rpartition("/")[2].removesuffix(".json")


def signature_name(shipped: str) -> str:
    """Name of the file with the detached signature of a shipped file."""
    return f"{shipped}.sig"


def inside(root: Path, name: str) -> Path:
    """Return ``root / name`` for a relative ``name`` from an index; refuse one that leaves ``root``."""
    pure = PurePosixPath(name)
    if not name.isprintable() or not name or pure.is_absolute() or ".." in pure.parts:
        raise StoreDamagedError("a name leads out of the store", path=root, actual=repr(name))
    return root / pure


def safe_file_name(name: str, path: Path) -> str:
    """Return ``name`` if it is a plain file name; ``path`` is its manifest. Raises StoreDamagedError."""
    if not is_plain(name):
        raise StoreDamagedError("a manifest's file name is not a plain name", path=path, actual=repr(name))
    return name
