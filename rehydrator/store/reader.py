"""Opening a store for reading."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from rehydrator.codecs.seekable import SeekableSource
from rehydrator.disk.source import Source
from rehydrator.errors import StoreDamagedError, UsageError
from rehydrator.manifest.schema import ArchIndex, BlobRef, CanonicalRef, File, Manifest, StoreIndex
from rehydrator.manifest.text import decode
from rehydrator.manifest.version import MANIFEST_VERSION, STORE_VERSION, check_version
from rehydrator.relocation.prefix import prefix_source
from rehydrator.store.blobs import BlobReader, blob_file
from rehydrator.store.canonical import decode_extents
from rehydrator.store.depot import Prefix, Signature
from rehydrator.store.files import check_pinned, check_seal, read_pinned
from rehydrator.store.layout import INDEX, SIGNATURES, manifest_key, safe_file_name, signature_name
from rehydrator.store.origin import Directory, Origin
from rehydrator.store.pieces import PieceDigests


class _Version(msgspec.Struct):
    """Enough of an index or manifest of any version to say which version it has."""

    version: str


class Store:
    """A published store. Nothing in it is changed; digests are compared when something is read."""

    def __init__(self, place: Path | Origin, *, threads: int | None = None) -> None:
        self._origin = Directory(place) if isinstance(place, Path) else place
        self.name = self._origin.name
        path = self.name / INDEX
        data = self._origin.index()
        check_version("the store", decode(data, _Version, path).version, STORE_VERSION, path)
        self.index = decode(data, StoreIndex, path)
        check_seal(data, self.index.seal, path)
        self.index_file = File(INDEX, len(data), hashlib.sha256(data).hexdigest())
        self._threads = threads or os.cpu_count() or 1
        self._blobs = BlobReader(self._origin)
        self._opening = threading.Lock()  # who works on several artifacts at once opens what they share once
        self._canonicals: dict[str, SeekableSource] = {}
        self._large: dict[str, SeekableSource] = {}
        self._manifests: dict[tuple[str, str], Manifest] = {}

    @property
    def architectures(self) -> list[str]:
        """The architectures in the store, sorted."""
        return sorted(self.index.architectures)

    def arch(self, arch: str) -> ArchIndex:
        """Return one architecture's index."""
        try:
            return self.index.architectures[arch]
        except KeyError:
            raise UsageError(
                f"the store has nothing for architecture {arch}",
                path=self.name,
                hint=f"It has: {', '.join(self.architectures)}",
            ) from None

    def keys(self, arch: str) -> list[str]:
        """Return the names of an architecture's artifacts in the order of the index, without reading a manifest."""
        return list(self._files(arch))

    def _files(self, arch: str) -> dict[str, File]:
        """Return the files of an architecture's manifests by the names of their artifacts, in the index's order."""
        return {manifest_key(file.name): file for file in self.arch(arch).manifests}

    def manifests(self, arch: str, keys: Collection[str] | None = None) -> list[Manifest]:
        """Return the verified manifests of an architecture, or of the artifacts ``keys``, in the order of the index."""
        files = self._files(arch)
        wanted = [key for key in files if keys is None or key in keys]
        self._origin.bring([files[key] for key in wanted if (arch, key) not in self._manifests])
        for key in wanted:
            if (arch, key) not in self._manifests:
                self._manifests[arch, key] = self._manifest(files[key], arch, key)
        return [self._manifests[arch, key] for key in wanted]

    def _manifest(self, file: File, arch: str, key: str) -> Manifest:
        path = self._origin.local(file)
        data = read_pinned(path, file)
        check_version("the manifest", decode(data, _Version, path).version, MANIFEST_VERSION, path)
        manifest = decode(data, Manifest, path)
        for name in (manifest.content.name, manifest.shipped.name):
            safe_file_name(name, path)
        if manifest.artifact.arch != arch:
            raise StoreDamagedError(
                "is for another architecture", path=path, expected=arch, actual=manifest.artifact.arch
            )
        if manifest.artifact.key != key:
            raise StoreDamagedError("is for another artifact", path=path, expected=key, actual=manifest.artifact.key)
        return manifest

    def manifest_by_key(self, arch: str, key: str) -> Manifest:
        """Return the manifest of the artifact ``key``."""
        for manifest in self.manifests(arch, {key}):
            return manifest
        raise StoreDamagedError(f"a manifest refers to artifact {key}, which the store lacks", path=self.name)

    def manifest_file(self, manifest: Manifest) -> File:
        """Return the file of a manifest of this store."""
        return self._files(manifest.artifact.arch)[manifest.artifact.key]

    def content(self, manifest: Manifest, make: Callable[[], Source]) -> Source:
        """Return what ``make`` opens."""
        return make()

    def canonical(self, arch: str) -> Source:
        """Return the canonical disk of an architecture; opened once, with its extent map."""
        with self._opening:
            if arch not in self._canonicals:
                self._canonicals[arch] = self._open_canonical(arch)
            return self._canonicals[arch]

    def _open_canonical(self, arch: str) -> SeekableSource:
        ref = self.arch(arch).canonical
        known = decode_extents(self.small_blob(ref.extents), ref.content.size)
        file = self._origin.opened(ref.file, lambda: self._digests(ref))
        source = SeekableSource(file, threads=self._threads, known=known)
        if source.size != ref.content.size:
            raise StoreDamagedError("has another size", path=file.path, expected=ref.content.size, actual=source.size)
        return source

    def _digests(self, ref: CanonicalRef) -> PieceDigests | None:
        """Return the digests of a canonical's pieces; an older store has none."""
        if ref.pieces is None:
            return None
        return PieceDigests(ref.pieces, self.small_blob(ref.pieces.digests), ref.file.size, self.name / ref.file.name)

    def small_blob(self, ref: BlobRef) -> bytes:
        """Return a blob's content."""
        return self._blobs.small(ref)

    def large_blob(self, ref: BlobRef, prefix: Prefix | None = None) -> Source:
        """Return a blob's content for random access; opened once. ``prefix`` is what its frames refer to."""
        before = self._prefix(prefix)  # takes the lock itself, for the canonical
        with self._opening:
            if ref.sha256 not in self._large:
                self._large[ref.sha256] = self._blobs.large(ref, self._threads, before)
            return self._large[ref.sha256]

    def _prefix(self, prefix: Prefix | None) -> Source | None:
        if prefix is None:
            return None
        disk = self.canonical(prefix.arch)
        return prefix_source(disk, decode_extents(self.small_blob(prefix.blocks), disk.size))

    def stream_metadata(self) -> bytes:
        """Return the stream metadata, verbatim."""
        if self.index.stream is None:
            raise UsageError("the store holds no stream metadata", path=self.name)
        return self._pinned(self.index.stream)

    def signature(self, manifest: Manifest) -> Signature | None:
        """Return the signature of an artifact's shipped file, verbatim."""
        name = signature_name(manifest.shipped.name)
        for file in self.index.signatures:
            if file.name == f"{SIGNATURES}/{name}":
                return Signature(name, self._pinned(file))
        return None

    def _pinned(self, file: File) -> bytes:
        return read_pinned(self._origin.local(file), file)

    def files(self) -> Iterator[File]:
        """Yield every file that the store consists of, besides its index."""
        if self.index.stream is not None:
            yield self.index.stream
        yield from self.index.signatures
        seen: set[str] = set()
        for arch in self.architectures:
            index = self.arch(arch)
            yield index.canonical.file
            yield from index.manifests
            blobs = [*index.canonical.blobs, *(ref for item in self.manifests(arch) for ref in item.blobs)]
            for ref in blobs:
                if ref.sha256 not in seen:
                    seen.add(ref.sha256)
                    yield blob_file(ref)

    def bring(self, files: Sequence[File]) -> None:
        """Have files at hand that will be asked for soon."""
        self._origin.bring(files)

    def path(self, file: File) -> Path:
        """Return where a file of the store lies; whoever reads it compares its digest."""
        return self._origin.local(file)

    def check_file(self, file: File) -> None:
        """Compare one file of the store with its digest."""
        check_pinned(self.path(file), file)

    def close(self) -> None:
        """Close all open parts; nothing that is on its way for them is waited for."""
        self._origin.stop()
        for source in (*self._canonicals.values(), *self._large.values()):
            source.close()
        self._canonicals.clear()
        self._large.clear()
        self._origin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
