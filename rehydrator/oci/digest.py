"""Digests as OCI writes them, and documents in the bytes that are digested."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from rehydrator.disk.extents import Data
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.oci.c_oci import Descriptor

MAX_DOCUMENT = 4 << 20  # what the distribution specification asks registries to take; hostile ones end here
ALGORITHM = "sha256"  # the only one that this program reads or writes
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: Data) -> str:
    """Return the digest of bytes."""
    return digest_of_sha256(hashlib.sha256(data).hexdigest())


def digest_of_sha256(hexdigest: str) -> str:
    """Return the digest for a sha256 in hexadecimal."""
    return f"{ALGORITHM}:{hexdigest}"


def sha256_of(digest: str, path: Path | str) -> str:
    """Return the sha256 in hexadecimal; ``path`` is where the digest was read. Other algorithms are not supported."""
    if not _DIGEST.fullmatch(digest):
        raise UnsupportedError(
            "a digest of an unknown kind", path=path, expected="sha256: and 64 digits", actual=repr(digest[:90])
        )
    return digest.removeprefix(f"{ALGORITHM}:")


def checked(data: bytes, descriptor: Descriptor, path: Path | str) -> bytes:
    """Return ``data`` if it is what ``descriptor`` says."""
    if len(data) != descriptor.size:
        raise MismatchError("has another size", path=path, expected=descriptor.size, actual=len(data))
    if (actual := digest_of(data)) != descriptor.digest:
        raise MismatchError("has another digest", path=path, expected=descriptor.digest, actual=actual)
    return data


def check_document_size(descriptor: Descriptor, path: Path | str) -> None:
    """Refuse a document that is too large to be read at once, before memory is taken for it."""
    if not 0 <= descriptor.size <= MAX_DOCUMENT:
        raise CorruptError(
            "an OCI document that is too large", path=path, expected=f"<= {MAX_DOCUMENT}", actual=descriptor.size
        )


def encode(document: msgspec.Struct) -> bytes:
    """Return the JSON of a document, a function of its value alone: what its digest is taken of."""
    return msgspec.json.encode(document, order="deterministic")


def describe(data: bytes, media_type: str) -> Descriptor:
    """Return the descriptor of bytes."""
    return Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
