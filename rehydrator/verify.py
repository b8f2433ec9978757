"""Verification: every file of a store against its index, every artifact against its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from rehydrator.engines.direct import Engine, body_source, edited_disk
from rehydrator.errors import MismatchError
from rehydrator.manifest.schema import EditedDisk, Manifest
from rehydrator.progress import Progress
from rehydrator.rehydrate import check
from rehydrator.store.reader import Store
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
    manifests: Sequence[Manifest],
    store: Store,
    progress: Progress,
    jobs: int,
    engine: Engine = edited_disk,
    *,
    compressed: bool = False,
) -> list[Finding]:
    """Rehydrate each artifact to nowhere, with ``engine``, and compare its sha256; ``compressed``: that as shipped."""

    def verify(item: Manifest) -> None:
        check(item, store, progress, engine, compressed=compressed)

    return _each(manifests, lambda item: item.shipped.name, verify, progress, jobs)


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
    def one(item: T) -> Finding:
        progress.check()
        try:
            verify(item)
        except MismatchError as error:
            return Finding(name(item), str(error))
        return Finding(name(item))

    with worker_pool(jobs, "verify", progress) as pool:
        return list(pool.map(one, items))
