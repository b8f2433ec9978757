"""Getting the files of a stream: stream metadata first, then the files, each checked before it gets its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec

from rehydrator.disk.sink import FileSink
from rehydrator.errors import NotFoundError, OutputError, UsageError
from rehydrator.progress import Progress
from rehydrator.release.document import MAX_DOCUMENT, read_document
from rehydrator.release.sources import addresses_of
from rehydrator.release.stream import Listed
from rehydrator.release.workdir import Wish, WorkDirectory, check_place, start
from rehydrator.store.files import sha256_file
from rehydrator.store.layout import signature_name
from rehydrator.transport.client import Client, check_url
from rehydrator.transport.fetch import Wanted, fetch
from rehydrator.trust.gpg import MAX_SIGNATURE, KeyRing, Signer
from rehydrator.workers import worker_pool


class Settings(msgspec.Struct, frozen=True):
    """How to download: files at once, and keys to check signatures with, unless those are to be skipped."""

    jobs: int = 4
    keys: tuple[Path, ...] = ()
    skip_signatures: bool = False


class Fetched(msgspec.Struct, frozen=True):
    """A file that is here and right, and who signed it, where that was checked."""

    listed: Listed
    signer: Signer | None


class Metadata(msgspec.Struct, frozen=True):
    """Stream metadata, verbatim, and the path or address that it came from."""

    source: str
    document: bytes


def metadata_of(stream: str, sources: Mapping[str, list[str]], client: Client, progress: Progress) -> Metadata:
    """Return the metadata of ``stream``: a name, an address or the path of a file."""
    if "://" in stream:
        check_url(stream)
        return Metadata(stream, client.document(stream, MAX_DOCUMENT, progress))
    if "/" in stream or stream.endswith(".json"):
        path = Path(stream)
        return Metadata(str(path), read_document(path))
    return _first(addresses_of(stream, sources), client, progress)


def _first(addresses: Sequence[str], client: Client, progress: Progress) -> Metadata:
    """Return the first of these documents that its server has."""
    *others, last = addresses
    for address in others:
        with suppress(NotFoundError):
            return Metadata(address, client.document(address, MAX_DOCUMENT, progress))
    return Metadata(last, client.document(last, MAX_DOCUMENT, progress))


def init(
    stream: str, root: Path, wish: Wish, sources: Mapping[str, list[str]], client: Client, progress: Progress
) -> WorkDirectory:
    """Begin a build in ``root`` with the metadata of ``stream``, or bring the one that is there up to date."""
    check_place(root)
    metadata = metadata_of(stream, sources, client, progress)
    return start(root, metadata.document, metadata.source, wish)


def download(work: WorkDirectory, settings: Settings, client: Client, progress: Progress) -> list[Fetched]:
    """Get every file that a build wants, and its signature; what is here already is checked and kept.

    A file gets its name when its sha256 is that of the metadata and its signature is good. Raises UsageError where
    there are no signatures or keys to check, FetchError, MismatchError and OutputError; what has come so far stays, and
    another run goes on from there.
    """
    listed = work.listed()
    _check_signatures(listed, work, settings)
    for item in listed:
        check_url(item.location)
    with KeyRing(settings.keys) if settings.keys else nullcontext() as keys:
        getter = _Getter(work, client, keys, progress)
        with worker_pool(settings.jobs, "download", progress) as pool:
            try:
                futures = {pool.submit(getter.get, item): item for item in listed}
                fetched = [future.result() for future in as_completed(futures)]
            except BaseException:
                progress.cancel()
                client.abort()
                raise
    work.signed({item.listed.name: item.signer.fingerprint for item in fetched if item.signer is not None})
    return fetched


def _check_signatures(listed: Sequence[Listed], work: WorkDirectory, settings: Settings) -> None:
    """Make sure that either all files can be checked or nobody wants it."""
    if settings.skip_signatures:
        return
    unsigned = [item.name for item in listed if not item.signature]
    if unsigned:
        raise UsageError(
            f"{len(unsigned)} of {len(listed)} files have no signature",
            path=work.stream_path,
            actual=unsigned[0],
            hint="--skip-signatures trusts the sha256 of the stream metadata alone",
        )
    if not settings.keys:
        raise UsageError(
            "no key to check signatures with",
            hint="--key FILE names public keys of who makes the stream; --skip-signatures trusts its metadata alone",
        )


class _Getter:
    """Gets files; its method is called in several threads."""

    def __init__(self, work: WorkDirectory, client: Client, keys: KeyRing | None, progress: Progress) -> None:
        self._work = work
        self._client = client
        self._keys = keys
        self._progress = progress

    def get(self, listed: Listed) -> Fetched:
        """Get one file and its signature."""
        place = self._work.place(listed)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot be created: {error.strerror}", path=place.parent) from error
        signature = self._signature(listed)
        signers: list[Signer] = []

        def check(path: Path) -> None:
            if self._keys is not None:
                signers.append(self._keys.check_file(path, signature, listed.name))

        if self._is_here(listed, place):
            check(place)
        else:
            fetch(self._client, Wanted(listed.location, listed.sha256), place, check, self._progress)
        if signature:
            with FileSink(place.with_name(signature_name(listed.name)), sparse=False) as file:
                file.write(signature)
                file.commit()
        return Fetched(listed, signers[0] if signers else None)

    def _signature(self, listed: Listed) -> bytes:
        """Get a file's signature; one that is not there is missed only where it is to be checked."""
        if not listed.signature:
            return b""
        try:
            check_url(listed.signature)
            return self._client.document(listed.signature, MAX_SIGNATURE, self._progress)
        except NotFoundError:
            if self._keys is not None:
                raise
            self._progress.say(f"{listed.name}: its signature is not there")
            return b""

    def _is_here(self, listed: Listed, place: Path) -> bool:
        """Whether an earlier run brought the file, and it still has the right bytes."""
        if not place.is_file():
            return False
        with self._progress.task(f"check {listed.name}", place.stat().st_size) as task:
            right = sha256_file(place) == listed.sha256
            task.note = "is here already" if right else "is here, but not the right bytes; fetching it"
        return right
