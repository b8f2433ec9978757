"""OCI image layouts: directories of blobs by digest, with an index of tags.

::

    oci-layout               the version of this arrangement
    index.json               the tags: descriptors with the annotation org.opencontainers.image.ref.name
    blobs/sha256/<hex>       everything else

Source: OCI image-spec 1.1, ``image-layout.md``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.sink import FileSink, HashSink, Tee
from rehydrator.disk.source import FileSource, read_bounded
from rehydrator.errors import MismatchError, OutputError, UnsupportedError, UsageError
from rehydrator.manifest.text import decode
from rehydrator.oci.c_oci import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    LAYOUT_VERSION,
    Annotation,
    Descriptor,
    Index,
    LayoutFile,
)
from rehydrator.oci.digest import (
    ALGORITHM,
    MAX_DOCUMENT,
    check_document_size,
    checked,
    describe,
    digest_of_sha256,
    encode,
    sha256_of,
)
from rehydrator.oci.reference import LayoutReference

T = TypeVar("T", bound=msgspec.Struct)
_TEMPORARY = ".*.part"  # of FileSink


class Layout:
    """A layout that is read; nothing of it is used before its digest was compared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        path = root / LAYOUT_FILE
        if not path.is_file():
            raise UsageError("no OCI image layout here", path=root)
        version = decode(read_bounded(path, MAX_DOCUMENT), LayoutFile, path).image_layout_version
        if version.partition(".")[0] != LAYOUT_VERSION.partition(".")[0]:
            raise UnsupportedError(
                "an image layout of another version", path=path, expected=LAYOUT_VERSION, actual=version[:20]
            )
        self.index = decode(read_bounded(root / INDEX_FILE, MAX_DOCUMENT), Index, root / INDEX_FILE)

    @property
    def tags(self) -> list[str]:
        """The tags in the order of the index."""
        return [name for item in self.index.manifests if (name := item.annotations.get(Annotation.REF_NAME))]

    def find(self, reference: LayoutReference) -> Descriptor:
        """Return what a tag or a digest points to; without both, what the layout holds if it is a single thing."""
        tag, digest = reference.tag, reference.digest
        found = [
            item
            for item in self.index.manifests
            if (item.digest == digest if digest else not tag or item.annotations.get(Annotation.REF_NAME) == tag)
        ]
        if not found:
            wanted = f"manifest {digest}" if digest else f"tag {tag!r}"
            raise UsageError(f"the layout has no {wanted}", path=self.root, hint=self._hint())
        if len({item.digest for item in found}) > 1:
            raise UsageError("the layout holds several images", path=self.root, hint=self._hint())
        return found[0]

    def _hint(self) -> str:
        return f"It has: {', '.join(self.tags) or 'none'}"

    def path(self, descriptor: Descriptor) -> Path:
        """Return the path of a blob, which need not exist."""
        return blob_path(self.root, descriptor)

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a small blob after comparing its size and digest."""
        path = self.path(descriptor)
        check_document_size(descriptor, path)
        return checked(read_bounded(path, MAX_DOCUMENT), descriptor, path)

    def document(self, descriptor: Descriptor, kind: type[T]) -> T:
        """Return a blob as the document that it is."""
        return decode(self.read(descriptor), kind, self.path(descriptor))


class LayoutWriter:
    """A layout that blobs and tags are added to; it is made if it is not there.

    One writer has a layout at a time. A blob appears when it is whole, a tag when all that it leads to is there. What
    a killed run left is used or cleared away by the next one; a layout made by a run that failed is removed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = -1
        self._new = False
        self._index = Index(manifests=[])

    def __enter__(self) -> Self:
        try:
            self.root.mkdir(exist_ok=True)
            self._lock = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open()
        except BaseException as error:  # an interrupt, too, would not reach __exit__
            self.__exit__(type(error))
            if isinstance(error, BlockingIOError):
                raise OutputError("another program is writing to this layout", path=self.root) from error
            if isinstance(error, OSError):
                raise OutputError(f"cannot be created: {error.strerror}", path=self.root) from error
            raise
        return self

    def _open(self) -> None:
        """Read the layout, or begin a new one in an empty directory."""
        blobs = self.root / BLOBS / ALGORITHM
        for abandoned in (*blobs.glob(_TEMPORARY), *self.root.glob(_TEMPORARY)):
            abandoned.unlink()
        if (self.root / LAYOUT_FILE).exists():
            self._index = Layout(self.root).index
            return
        if any(self.root.iterdir()):
            raise UsageError("is no OCI image layout", path=self.root, hint="Remove it or name another directory")
        self._new = True
        blobs.mkdir(parents=True)
        self._write(self.root / INDEX_FILE, encode(self._index))
        self._write(self.root / LAYOUT_FILE, encode(LayoutFile()))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._new:
            shutil.rmtree(self.root, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already."""
        try:
            return blob_path(self.root, descriptor).stat().st_size == descriptor.size
        except FileNotFoundError:
            return False

    def put(self, document: msgspec.Struct, media_type: str) -> Descriptor:
        """Add a document; return its descriptor."""
        return self.put_bytes(encode(document), media_type)

    def put_bytes(self, data: bytes, media_type: str) -> Descriptor:
        """Add a small blob; return its descriptor."""
        descriptor = describe(data, media_type)
        if not self.has(descriptor):
            self._write(blob_path(self.root, descriptor), data)
        return descriptor

    def put_pieces(self, pieces: Iterable[Data], media_type: str) -> Descriptor:
        """Add a blob of any size, given in pieces; return its descriptor."""
        blobs = self.root / BLOBS / ALGORITHM
        digester = HashSink()
        try:
            with FileSink(blobs / "blob", sparse=False) as file:
                both = Tee(file, digester)
                for piece in pieces:
                    both.write(piece)
                descriptor = Descriptor(
                    media_type=media_type, digest=digest_of_sha256(digester.hexdigest()), size=digester.size
                )
                file.commit(blob_path(self.root, descriptor))
        finally:
            digester.close()
        return descriptor

    def put_file(self, path: Path, descriptor: Descriptor) -> None:
        """Add a file as a blob, unless it is there already. Its size and digest are compared."""
        if self.has(descriptor):
            return
        written = self.put_pieces(file_pieces(path, descriptor), descriptor.media_type)
        if written.digest != descriptor.digest:
            blob_path(self.root, written).unlink()
            raise MismatchError("has another digest", path=path, expected=descriptor.digest, actual=written.digest)

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Let a tag point to what ``descriptor`` describes, and to nothing else any more."""
        named = msgspec.structs.replace(
            descriptor, annotations={**descriptor.annotations, Annotation.REF_NAME.value: name}
        )
        others = [item for item in self._index.manifests if item.annotations.get(Annotation.REF_NAME) != name]
        self._index = msgspec.structs.replace(self._index, manifests=[*others, named])
        self._write(self.root / INDEX_FILE, encode(self._index))

    def _write(self, path: Path, data: bytes) -> None:
        with FileSink(path, sparse=False) as file:
            file.write(data)
            file.commit()


def blob_path(root: Path, descriptor: Descriptor) -> Path:
    """Return where a layout has a blob."""
    return root / BLOBS / ALGORITHM / sha256_of(descriptor.digest, root)


def file_pieces(path: Path, descriptor: Descriptor) -> Iterator[bytes]:
    """Yield a file of any size in pieces after comparing its size."""
    with contextlib.closing(FileSource(path)) as source:
        if source.size != descriptor.size:
            raise MismatchError("has another size", path=path, expected=descriptor.size, actual=source.size)
        for offset in range(0, source.size, CHUNK):
            yield source.read(offset, min(CHUNK, source.size - offset))
