"""A repository of a registry: what is read from it, and what is sent to it.

Source: OCI distribution specification 1.1, "Pull" and "Push".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from rehydrator.disk.sink import FileSink
from rehydrator.errors import MismatchError, StoreDamagedError, UsageError
from rehydrator.manifest.schema import File
from rehydrator.oci.artifact import descriptor_of
from rehydrator.oci.c_oci import INDEXES, MANIFESTS, Descriptor
from rehydrator.oci.digest import MAX_DOCUMENT, check_document_size, checked, describe, sha256_of
from rehydrator.oci.reference import RegistryReference
from rehydrator.progress import Progress, Task
from rehydrator.registry.access import Access
from rehydrator.registry.pieced import PiecedFile
from rehydrator.registry.session import Session
from rehydrator.registry.upload import Upload, refusal
from rehydrator.store.pieces import PieceDigests
from rehydrator.transport.client import Patience, persist
from rehydrator.transport.fetch import Wanted, fetch
from rehydrator.transport.ranges import Part, part_of

T = TypeVar("T")
_MANIFESTS = (*MANIFESTS, *INDEXES)
_ACCEPTED = {"Accept": ", ".join(_MANIFESTS)}
_AT_ONCE = 1 << 20  # bytes; what is smaller is fetched in one go and without a progress of its own
_DIGEST_HEADER = "Docker-Content-Digest"


class Repository:
    """One repository; safe to use from several threads."""

    at_once = 4  # files; more gain little and annoy registries

    def __init__(
        self, reference: RegistryReference, access: Access, progress: Progress, patience: Patience | None = None
    ) -> None:
        self._reference = reference
        self._session = Session(reference, access, patience)
        self._progress = progress
        self._resolved: tuple[Descriptor, bytes] | None = None
        self.name = Path(str(reference))

    def _persist(self, attempt: Callable[[], T]) -> T:
        return persist(attempt, self._session.patience, self._progress)

    def resolve(self) -> tuple[Descriptor, bytes]:
        """Return what the reference leads to, and its bytes, the same each time although a tag may move.

        Raises UsageError where it leads nowhere.
        """
        if self._resolved is None:
            self._resolved = self._persist(self._resolve)
        return self._resolved

    def _resolve(self) -> tuple[Descriptor, bytes]:
        wanted = self._reference.digest or self._reference.tag
        accept = (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN)
        with self._session.get(self._session.url(f"manifests/{wanted}"), _ACCEPTED, accept) as answer:
            match answer.status:
                case HTTPStatus.NOT_FOUND:
                    raise UsageError("the registry has nothing under this name", path=self.name)
                case HTTPStatus.FORBIDDEN:
                    raise self._session.refused("403 Forbidden")
            data = answer.read(MAX_DOCUMENT)
            media_type = answer.header("Content-Type").partition(";")[0].strip()
            told = answer.header(_DIGEST_HEADER)
        descriptor = describe(data, media_type)
        expected = self._reference.digest or told
        if expected and expected != descriptor.digest:
            raise MismatchError(
                "the registry sends another manifest than it says",
                path=self.name,
                expected=expected,
                actual=descriptor.digest,
            )
        return descriptor, data

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document after comparing its size and digest."""
        check_document_size(descriptor, self.name)
        return self._persist(lambda: self._read(descriptor))

    def _read(self, descriptor: Descriptor) -> bytes:
        with self._session.get(self._address(descriptor), _ACCEPTED) as answer:
            return checked(answer.read(descriptor.size), descriptor, answer.url)

    def _address(self, descriptor: Descriptor) -> str:
        sha256_of(descriptor.digest, self.name)  # refuses what must not get into an address
        kind = "manifests" if descriptor.media_type in _MANIFESTS else "blobs"
        return self._session.url(f"{kind}/{descriptor.digest}")

    def fetch(self, descriptor: Descriptor, target: Path, title: str) -> None:
        """Fetch a blob to ``target``, which appears when its digest was compared; ``title`` names it in messages.

        What an earlier run brought of a large one is kept. Raises BusyError while somebody else fetches it.
        """
        try:
            if descriptor.size <= _AT_ONCE:
                data = self.read(descriptor)
                with FileSink(target, sparse=False) as file:
                    file.write(data)
                    file.commit()
            else:
                sha256 = sha256_of(descriptor.digest, self.name)
                wanted = Wanted(self._address(descriptor), sha256, descriptor.size, title)
                fetch(self._session, wanted, target, lambda _: None, self._progress)
        except MismatchError as error:
            raise StoreDamagedError(
                f"the registry holds other bytes than their digest says: {error.message}",
                path=self.name / title,
                expected=error.expected,
                actual=error.actual,
                hint="Push it again",
            ) from error

    def open_parts(self, file: File, digests: PieceDigests, target: Path) -> PiecedFile:
        """Open a file of a store whose parts are fetched when they are read, on their way to ``target``."""
        address = self._address(descriptor_of(file))

        def ask(start: int, stop: int) -> AbstractContextManager[Part]:
            return part_of(self._session, address, start, stop, file.size)

        return PiecedFile(file, digests, target, self.name / file.name, ask, self._session.patience, self._progress)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there."""
        return self._persist(lambda: self._has(descriptor))

    def _has(self, descriptor: Descriptor) -> bool:
        accept = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        with self._session.send("HEAD", self._address(descriptor), accept=accept) as answer:
            answer.read(0)
            length = answer.header("Content-Length")
            return answer.status == HTTPStatus.OK and length in {"", str(descriptor.size)}

    def put_file(self, path: Path, descriptor: Descriptor, task: Task) -> None:
        """Send a file as a blob; the registry compares its digest."""
        upload = Upload(self._session, path, descriptor, task)
        persist(upload.attempt, self._session.patience, self._progress, advanced=upload.advanced)

    def publish(self, data: bytes, descriptor: Descriptor) -> None:
        """Send a manifest and let the reference's tag point to it: everything that it names has to be there."""
        if self._reference.digest and self._reference.digest != descriptor.digest:
            raise MismatchError(
                "the store has another digest than the reference",
                path=self.name,
                expected=self._reference.digest,
                actual=descriptor.digest,
            )
        url = self._session.url(f"manifests/{self._reference.tag or descriptor.digest}")
        headers = {"Content-Type": descriptor.media_type}
        told = self._persist(lambda: self._put(url, headers, data))
        if told not in {"", descriptor.digest}:
            raise MismatchError(
                "the registry took another manifest than was sent",
                path=self.name,
                expected=descriptor.digest,
                actual=told,
            )

    def _put(self, url: str, headers: Mapping[str, str], data: bytes) -> str:
        accept = (HTTPStatus.CREATED, HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        with self._session.send("PUT", url, headers, data, accept) as answer:
            said = answer.read(MAX_DOCUMENT)
            if answer.status != HTTPStatus.CREATED:
                raise refusal(answer, said)
            return answer.header(_DIGEST_HEADER)

    def abort(self) -> None:
        """Make whatever is under way in other threads fail now."""
        self._session.abort()

    def close(self) -> None:
        """Close all connections."""
        self._session.close()
