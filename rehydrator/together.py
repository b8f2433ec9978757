"""Making several artifacts at once: those told from the same canonical disk share each frame that is decoded of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

from rehydrator.disk.convoy import Convoy, Member
from rehydrator.disk.source import Source
from rehydrator.manifest.schema import BlobRef, EditedDisk, Manifest
from rehydrator.progress import Progress
from rehydrator.store.depot import Depot, Prefix, Signature
from rehydrator.workers import processors, worker_pool

T = TypeVar("T")

AT_ONCE = 24  # artifacts that go through a canonical together, some 6 MiB each: an architecture has as many


def side_by_side(
    manifests: Sequence[Manifest], depot: Depot, make: Callable[[Manifest, Depot], T], jobs: int, progress: Progress
) -> list[T]:
    """Call ``make`` for each artifact, ``jobs`` at once, with the depot to read from; return the results in order.

    Disks that are edits of the same canonical go through it together, one architecture after the other. Artifacts of
    other kinds read here and there; they come first, no more at once than there are processors. Raises what the first
    that failed raised.
    """
    made: dict[str, T] = {}

    def run(items: Sequence[Manifest], make_one: Callable[[Manifest], T], at_once: int) -> None:
        names = [_name(item) for item in items]
        if min(at_once, len(items)) < 2:  # without threads an interrupt ends it wherever it is
            made.update(zip(names, map(make_one, items), strict=True))
            return
        with worker_pool(min(at_once, len(items)), "rehydrate", progress) as pool:
            made.update(zip(names, pool.map(make_one, items), strict=True))

    run([item for item in manifests if not _is_edited(item)], lambda item: make(item, depot), min(jobs, processors()))
    for arch in dict.fromkeys(item.artifact.arch for item in manifests if _is_edited(item)):
        disks = [item for item in manifests if _is_edited(item) and item.artifact.arch == arch]
        convoy = Convoy()

        def make_one(item: Manifest, convoy: Convoy = convoy) -> T:
            with closing(_Shared(depot, item.artifact.arch, convoy)) as shared:
                return make(item, shared)

        run(disks, make_one, jobs)
    return [made[_name(item)] for item in manifests]


def _name(manifest: Manifest) -> str:
    return f"{manifest.artifact.arch}/{manifest.artifact.key}"


def _is_edited(manifest: Manifest) -> bool:
    return isinstance(manifest.body, EditedDisk)


class _Shared(Depot):
    """A depot in which one architecture's canonical is read together with others."""

    def __init__(self, depot: Depot, arch: str, convoy: Convoy) -> None:
        self._depot = depot
        self._arch = arch
        self._convoy = convoy
        self._member: Member | None = None

    def canonical(self, arch: str) -> Source:
        """Return the canonical; that of the one architecture as part of the convoy."""
        if arch != self._arch:
            return self._depot.canonical(arch)
        if self._member is None:
            self._member = self._convoy.join(self._depot.canonical(arch))
        return self._member

    def manifest_by_key(self, arch: str, key: str) -> Manifest:
        """Return the manifest of another artifact."""
        return self._depot.manifest_by_key(arch, key)

    def small_blob(self, ref: BlobRef) -> bytes:
        """Return the content of a blob."""
        return self._depot.small_blob(ref)

    def large_blob(self, ref: BlobRef, prefix: Prefix | None = None) -> Source:
        """Return a blob's content for random access."""
        return self._depot.large_blob(ref, prefix)

    def signature(self, manifest: Manifest) -> Signature | None:
        """Return the signature of an artifact's shipped file."""
        return self._depot.signature(manifest)

    def close(self) -> None:
        """Leave the convoy."""
        if self._member is not None:
            self._member.close()
