"""Verification: every file of a store against its index, every artifact against its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from rehydrator.disk.sink import StreamSink
from rehydrator.engines.direct import Engine, body_source, edited_disk
from rehydrator.errors import MismatchError
from rehydrator.manifest.schema import EditedDisk, Manifest
from rehydrator.oci.image_check import image_checks
from rehydrator.oci.reference import LayoutReference
from rehydrator.progress import Progress
from rehydrator.rehydrate import Options, check, emit
from rehydrator.store.depot import Depot
from rehydrator.store.layout import STREAM
from rehydrator.store.reader import Store
from rehydrator.together import side_by_side
from rehydrator.trust.gpg import KeyRing
from rehydrator.trust.stream_check import StreamCheck
from rehydrator.workers import worker_pool

T = TypeVar("T")


class Finding(msgspec.Struct, frozen=True):
    """The verdict on one file or artifact; ``problem`` is empty when it is right."""

    name: str
    problem: str = ""


def verify_files(store: Store, progress: Progress, jobs: int) -> list[Finding]:
    """Compare every file of the store with the digest that the index pins."""
    return _each(store.files(), lambda file: file.name, store.check_file, progress, jobs)


def verify_artifacts(
    manifests: Sequence[Manifest], store: Store, progress: Progress, options: Options
) -> list[Finding]:
    """Rehydrate each artifact to nowhere and compare its sha256; with ``compressed`` that as shipped, where exact."""

    def verify(item: Manifest, depot: Depot) -> Finding:
        return _finding(item.shipped.name, lambda: check(item, depot, progress, options), progress)

    return side_by_side(manifests, store, verify, options.jobs, progress)


def verify_stream(
    manifests: Sequence[Manifest], store: Store, given: StreamCheck | None, progress: Progress, jobs: int
) -> list[Finding]:
    """Compare manifests with stream metadata: the one that is given, else that of the store, if it has one.

    An artifact that the given one does not list is wrong; one that the store's own does not list is said, and so are
    those that the store lacks, since it may be made of a part of the stream.
    """
    stream = given
    if stream is None:
        if store.index.stream is None:
            return []
        try:
            stream = StreamCheck(store.stream_metadata(), store.name / STREAM)
        except MismatchError as error:
            return [Finding("the store's stream metadata", str(error))]
    listed = [item for item in manifests if given is not None or stream.lists(item)]
    for item in manifests:
        if item not in listed:
            progress.say(f"{item.shipped.name} is not in the store's stream metadata")
    everything = [item for arch in store.architectures for item in store.manifests(arch)]
    for key in stream.missing(everything):
        progress.say(f"{key} of the stream metadata is not in the store")
    return _each(listed, lambda item: f"{item.shipped.name} in the stream metadata", stream.check, progress, jobs)


def verify_signatures(
    manifests: Sequence[Manifest],
    store: Store,
    keys: KeyRing,
    progress: Progress,
    jobs: int,
    engine: Engine = edited_disk,
) -> list[Finding]:
    """Make each file as it was shipped, to nowhere, and check its signature; those that can't be made are said."""
    exact = [item for item in manifests if item.exact]
    for item in manifests:
        if not item.exact:
            progress.say(f"{item.shipped.name} comes back by content only; its signature can't be checked")

    def verify(item: Manifest) -> None:
        signature = store.signature(item)
        if signature is None:
            raise MismatchError("the store has no signature of it", path=item.shipped.name)
        options = Options(compressed=True, engine=engine)

        def write(stream: IO[bytes]) -> None:
            emit(item, store, [StreamSink(stream, "gpg")], progress, options)

        keys.check_written(write, signature.data, item.shipped.name)

    return _each(exact, lambda item: f"{item.shipped.name}, signature", verify, progress, jobs)


def verify_image(store: Store, reference: LayoutReference, digest: str, progress: Progress, jobs: int) -> list[Finding]:
    """Compare an image, whose digest is ``digest`` unless that is "", with the store that it should carry."""
    try:
        checks = list(image_checks(store, reference, digest))
    except MismatchError as error:
        return [Finding(str(reference), str(error))]
    return _each(checks, lambda item: item.name, lambda item: item.compare(), progress, jobs)


def verify_mounted(
    manifests: Sequence[Manifest], store: Store, progress: Progress, appliance: Path | None = None
) -> list[Finding]:
    """Mount each disk in a virtual machine and compare what is seen with its manifest and the canonical disk."""
    from rehydrator.engines.guestfs.machine import Machine  # noqa: PLC0415 - most runs need none of it
    from rehydrator.engines.guestfs.mounted import Mounts  # noqa: PLC0415

    edited = [item for item in manifests if isinstance(item.body, EditedDisk)]
    for item in manifests:
        if item not in edited:
            progress.say(f"{item.shipped.name} is no edited disk and is not mounted")
    if not edited:
        return []
    size = max(body_source(item, store).size for item in edited)
    with Machine(size, progress.say, appliance=appliance, check=progress.check) as machine:
        mounts = Mounts(machine, store, progress.say)

        def verify(item: Manifest) -> None:
            problems = mounts.problems(item)
            if problems:
                raise MismatchError("; ".join(problems))

        return _each(edited, lambda item: f"{item.shipped.name}, mounted", verify, progress, 1)


def _each(
    items: Iterable[T], name: Callable[[T], str], verify: Callable[[T], None], progress: Progress, jobs: int
) -> list[Finding]:
    with worker_pool(jobs, "verify", progress) as pool:
        return list(pool.map(lambda item: _finding(name(item), lambda: verify(item), progress), items))


def _finding(name: str, verify: Callable[[], None], progress: Progress) -> Finding:
    progress.check()
    try:
        verify()
    except MismatchError as error:
        return Finding(name, str(error))
    return Finding(name)
