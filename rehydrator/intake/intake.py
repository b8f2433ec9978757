"""Checking an input's digests and making its content available for random access."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

from rehydrator.disk.extents import Extent, ExtentMap, nonzero_blocks
from rehydrator.disk.sink import HashSink
from rehydrator.disk.source import FileSource
from rehydrator.disk.spool import write_sparse
from rehydrator.errors import InputError, MismatchError, OutputError
from rehydrator.intake.decompress import pieces
from rehydrator.layers.table import CompressionRecord
from rehydrator.manifest.schema import File
from rehydrator.progress import Task
from rehydrator.release.artifact import Artifact


class Content(msgspec.Struct, frozen=True):
    """An artifact whose digests were compared, open for reading; ``discard`` it when done.

    ``compression`` is how the shipped file is made of the content, once that was found.
    """

    artifact: Artifact
    shipped: File
    content: File
    source: FileSource
    temporary: bool
    compression: CompressionRecord | None = None

    def discard(self) -> None:
        """Close the content and delete it where it is a decompressed copy."""
        self.source.close()
        if self.temporary:
            self.source.path.unlink(missing_ok=True)


def take_in(artifact: Artifact, scratch: Path, task: Task) -> Content:
    """Read an input once, compare its digests and return its content.

    What is :attr:`~Artifact.peeled` is decompressed to a sparse file in ``scratch``.
    Raises MismatchError for a wrong digest, CorruptError for a damaged stream, InputError for a missing file.
    """
    check_present(artifact)
    if artifact.peeled:
        return _decompressed(artifact, scratch, task)
    digest, extents, size = _pass_through(artifact, None, task)
    _compare("sha256", artifact.sha256, digest, artifact)
    shipped = File(artifact.name, size, digest)
    return Content(artifact, shipped, shipped, FileSource(artifact.path, extents), temporary=False)


def check_present(artifact: Artifact) -> None:
    """Raise InputError where the file is missing, MismatchError where it has not the size that the metadata says."""
    try:
        size = artifact.path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=artifact.path) from error
    if artifact.size is not None and size != artifact.size:
        hint = "The file is truncated" if size < artifact.size else None
        raise MismatchError("has another size", path=artifact.path, expected=artifact.size, actual=size, hint=hint)


def _compare(what: str, expected: str, actual: str, artifact: Artifact) -> None:
    if expected != actual:
        raise MismatchError(
            f"{what} is not that of the release metadata",
            path=artifact.path,
            expected=expected,
            actual=actual,
            hint="Fetch the file again",
        )


def _decompressed(artifact: Artifact, scratch: Path, task: Task) -> Content:
    with artifact.path.open("rb") as stream:
        shipped = hashlib.file_digest(stream, "sha256").hexdigest()
    _compare("sha256", artifact.sha256, shipped, artifact)
    fd, name = tempfile.mkstemp(prefix=f"{artifact.identity.platform}-", dir=scratch)
    path = Path(name)
    try:
        try:
            digest, extents, size = _pass_through(artifact, fd, task)
        finally:
            os.close(fd)
        if artifact.uncompressed_sha256 is not None:
            _compare("uncompressed-sha256", artifact.uncompressed_sha256, digest, artifact)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Content(
        artifact,
        File(artifact.name, artifact.path.stat().st_size, shipped),
        File(artifact.content_name, size, digest),
        FileSource(path, extents),
        temporary=True,
    )


def _pass_through(artifact: Artifact, fd: int | None, task: Task) -> tuple[str, ExtentMap, int]:
    """Hash the content, note which blocks are not zero and write those to ``fd`` if there is one."""
    compression = artifact.format.compression if artifact.peeled else "none"
    extents: list[Extent] = []
    at = 0
    sha256 = HashSink()
    try:
        for piece in pieces(artifact.path, compression, artifact.uncompressed_size if artifact.peeled else None):
            sha256.write(piece)
            extents += nonzero_blocks(piece, at) if fd is None else _written(fd, piece, at, artifact)
            at += len(piece)
            task.advance(len(piece))
        if fd is not None:
            os.ftruncate(fd, at)
        return sha256.hexdigest(), ExtentMap(extents), at
    finally:
        sha256.close()


def _written(fd: int, piece: bytes, at: int, artifact: Artifact) -> list[Extent]:
    try:
        return write_sparse(fd, piece, at)
    except OSError as error:
        raise OutputError(
            f"no room for decompressing {artifact.name}: {error.strerror}",
            hint="Free some space or put the store elsewhere",
        ) from error
