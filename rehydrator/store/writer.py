"""Making a store: everything is written to a hidden directory beside the target and published by one rename."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from pathlib import Path
from typing import Self

from rehydrator.codecs import seekable
from rehydrator.errors import OutputError
from rehydrator.intake.intake import Content
from rehydrator.manifest.schema import ArchIndex, CanonicalRef, File, Manifest, Pieces, StoreIndex
from rehydrator.manifest.text import encode
from rehydrator.manifest.version import STORE_VERSION
from rehydrator.progress import Task
from rehydrator.store.blobs import BlobReader, BlobWriter
from rehydrator.store.canonical import encode_extents
from rehydrator.store.files import describe, sealed
from rehydrator.store.layout import INDEX, SIGNATURES, STREAM, canonical_name, manifest_name
from rehydrator.store.origin import Directory
from rehydrator.store.pieces import PIECE, digests_of
from rehydrator.store.publishing import check_free, publish

_SUFFIX = ".dehydrating"
_LOCK = ".lock"
_SCRATCH = ".scratch"


class Staging:
    """A store in the making. Entering the context makes its directory, leaving without ``publish`` removes it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        check_free(target)
        self.root = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_SUFFIX}")
        self._lock = -1
        self._canonicals: dict[str, CanonicalRef] = {}
        self._manifests: dict[str, dict[str, Manifest]] = {}

    @property
    def scratch(self) -> Path:
        """Directory for decompressed inputs; not part of the store."""
        return self.root / _SCRATCH

    def add_canonical(self, arch: str, content: Content, task: Task, *, level: int, threads: int) -> None:
        """Compress the canonical of an architecture into the store."""
        name = canonical_name(arch)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        extents = content.source.nonzero()

        def frames() -> seekable.Pieces:
            for frame in seekable.frames_of(content.source):
                task.advance(len(frame))
                yield frame

        with path.open("wb") as out:
            seekable.compress(frames(), out, level=level, threads=threads)
        map_of_blocks, digests = (
            self.blobs.refs[self.blobs.put(data)] for data in (encode_extents(extents), digests_of(path))
        )
        self._canonicals[arch] = CanonicalRef(
            describe(self.root, name), content.content, map_of_blocks, Pieces(PIECE, digests)
        )

    def set_manifest(self, manifest: Manifest) -> None:
        """Add the manifest of an artifact, or replace it."""
        identity = manifest.artifact
        self._manifests.setdefault(identity.arch, {})[identity.key] = manifest

    def manifests(self) -> list[Manifest]:
        """All manifests so far, by architecture and key."""
        return [item for arch in sorted(self._manifests) for _, item in sorted(self._manifests[arch].items())]

    def manifests_of(self, arch: str) -> list[Manifest]:
        """All manifests of an architecture so far, by key."""
        return [item for _, item in sorted(self._manifests.get(arch, {}).items())]

    def read_blob(self, name: str) -> bytes:
        """Return the content of a blob that was put."""
        return BlobReader(Directory(self.root)).small(self.blobs.refs[name])

    def write_index(self, stream: bytes | None, signatures: list[Path]) -> None:
        """Write manifests, stream metadata, signatures and the index that pins them."""
        architectures = {
            arch: ArchIndex(
                release=next(iter(self._manifests[arch].values())).artifact.release,
                canonical=self._canonicals[arch],
                manifests=[self._write(manifest_name(arch, key), encode(item)) for key, item in self._sorted(arch)],
            )
            for arch in sorted(self._canonicals)
        }
        index = StoreIndex(
            version=STORE_VERSION,
            architectures=architectures,
            stream=self._write(STREAM, stream) if stream is not None else None,
            signatures=[self._write(f"{SIGNATURES}/{path.name}", path.read_bytes()) for path in sorted(signatures)],
        )
        self._write(INDEX, sealed(encode(index)))
        refs = [ref for canonical in self._canonicals.values() for ref in canonical.blobs]
        refs += [ref for item in self.manifests() for ref in item.blobs]
        self.blobs.keep_only(ref.sha256 for ref in refs)

    def _sorted(self, arch: str) -> list[tuple[str, Manifest]]:
        return sorted(self._manifests[arch].items())

    def _write(self, name: str, data: bytes) -> File:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return describe(self.root, name)

    def publish(self) -> None:
        """Flush all files and give the store its name."""
        try:
            shutil.rmtree(self.scratch)
        except OSError as error:
            raise OutputError(f"cannot be published: {error.strerror}", path=self.target) from error
        publish(self.root, self.target, lock=self.root / _LOCK)

    def __enter__(self) -> Self:
        _remove_abandoned(self.target)
        try:
            self.scratch.mkdir(parents=True)
            self._lock = os.open(self.root / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.blobs = BlobWriter(self.root)
        except BaseException as error:  # an interrupt, too, would not reach __exit__
            self.__exit__()
            if isinstance(error, OSError):
                raise OutputError(f"cannot be created: {error.strerror}", path=self.root) from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)


def _remove_abandoned(target: Path) -> None:
    """Remove what a killed run for the same target left behind; a run that still lives holds its lock.

    A run that was killed before it made its lock, or while it removed its files, left none.
    """
    for old in target.parent.glob(f".{glob.escape(target.name)}.*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            fd = os.open(old / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(fd)
