"""What stores are pushed to and pulled from: repositories of registries, and OCI layouts on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from rehydrator.disk.sink import FileSink, HashSink, Tee
from rehydrator.errors import StoreDamagedError, UsageError
from rehydrator.manifest.schema import File
from rehydrator.oci.c_oci import Descriptor
from rehydrator.oci.layout import Layout, LayoutWriter, file_pieces
from rehydrator.oci.reference import DEFAULT_TAG, LayoutReference, Reference
from rehydrator.progress import Progress, Task
from rehydrator.registry.access import Access
from rehydrator.registry.pieced import PiecedFile
from rehydrator.registry.repository import Repository
from rehydrator.store.pieces import PieceDigests


class Source(Protocol):
    """What one reference leads to, and the blobs beside it; safe to use from several threads."""

    @property
    def name(self) -> Path:
        """The reference, for messages."""
        ...

    @property
    def at_once(self) -> int:
        """How many blobs to fetch at once."""
        ...

    def resolve(self) -> tuple[Descriptor, bytes]:
        """Return what the reference leads to, and its bytes, which are as the descriptor says."""
        ...

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document after comparing its digest."""
        ...

    def fetch(self, descriptor: Descriptor, target: Path, title: str) -> None:
        """Bring a blob to ``target``, which appears when its digest was compared. Raises BusyError."""
        ...

    def open_parts(self, file: File, digests: PieceDigests, target: Path) -> PiecedFile | None:
        """Open a file of a store whose parts are fetched when they are read, on their way to ``target``.

        None where that gains nothing, since blobs are not far away.
        """
        ...

    def abort(self) -> None:
        """Make what is under way in other threads fail now."""
        ...

    def close(self) -> None:
        """Give up what was opened."""
        ...


class Target(Protocol):
    """What blobs and a manifest are sent to; safe to use from several threads."""

    @property
    def at_once(self) -> int:
        """How many files it takes at once."""
        ...

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there already."""
        ...

    def put_file(self, path: Path, descriptor: Descriptor, task: Task) -> None:
        """Add a file as a blob of this size and digest."""
        ...

    def publish(self, data: bytes, descriptor: Descriptor) -> None:
        """Add the manifest and let the reference lead to it."""
        ...

    def abort(self) -> None:
        """Make what is under way in other threads fail now."""
        ...


class _LayoutSource:
    """A layout on disk."""

    at_once = 1

    def __init__(self, reference: LayoutReference) -> None:
        self._reference = reference
        self._layout = Layout(reference.path)
        self.name = Path(str(reference))

    def resolve(self) -> tuple[Descriptor, bytes]:
        """Return what the reference leads to."""
        found = self._layout.find(self._reference)
        return found, self._layout.read(found)

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document."""
        return self._layout.read(descriptor)

    def fetch(self, descriptor: Descriptor, target: Path, title: str) -> None:
        """Copy a blob."""
        digester = HashSink()
        with closing(digester), FileSink(target, sparse=False) as file:
            both = Tee(file, digester)
            for piece in file_pieces(self._layout.path(descriptor), descriptor):
                both.write(piece)
            actual = f"sha256:{digester.hexdigest()}"
            if actual != descriptor.digest:
                raise StoreDamagedError(
                    "the layout holds other bytes than their digest says",
                    path=self.name / title,
                    expected=descriptor.digest,
                    actual=actual,
                )
            file.commit()

    def open_parts(self, *_: object) -> None:
        """Return None: a blob is copied at once."""

    def abort(self) -> None:
        """Do nothing: nothing waits."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


class _LayoutTarget:
    """A layout on disk that is written to."""

    at_once = 1

    def __init__(self, writer: LayoutWriter, tag: str) -> None:
        self._writer = writer
        self._tag = tag

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there already."""
        return self._writer.has(descriptor)

    def put_file(self, path: Path, descriptor: Descriptor, task: Task) -> None:
        """Copy a file."""
        self._writer.put_file(path, descriptor)
        task.advance(descriptor.size)

    def publish(self, data: bytes, descriptor: Descriptor) -> None:
        """Add the manifest and tag it."""
        self._writer.put_bytes(data, descriptor.media_type)
        self._writer.tag(descriptor, self._tag)

    def abort(self) -> None:
        """Do nothing: nothing waits."""


def source_of(reference: Reference, access: Access, progress: Progress) -> Source:
    """Return what a reference leads to; close it."""
    if isinstance(reference, LayoutReference):
        return _LayoutSource(reference)
    return Repository(reference, access, progress)


@contextmanager
def target_of(reference: Reference, access: Access, progress: Progress) -> Iterator[Target]:
    """Give what a reference names, to be written to. Raises UsageError for a layout's digest, which can't be chosen."""
    if isinstance(reference, LayoutReference):
        if reference.digest:
            raise UsageError("a store gets a tag in a layout, not a digest", path=str(reference))
        with LayoutWriter(reference.path) as writer:
            yield _LayoutTarget(writer, reference.tag or DEFAULT_TAG)
        return
    with closing(Repository(reference, access, progress)) as repository:
        yield repository
