"""Making several artifacts: those told from the same disk share what is decoded of it, and each is compressed once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import TypeVar

from rehydrator.disk.convoy import Convoy, Member
from rehydrator.disk.extents import CHUNK, Data, Extent
from rehydrator.disk.on_demand import OnDemand, Section
from rehydrator.disk.source import Source
from rehydrator.errors import OutputError
from rehydrator.manifest.schema import BlobRef, EditedDisk, Manifest, Parts, references_of
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
    with closing(Keeping(depot, manifests)) as keeping:
        return _side_by_side(manifests, keeping, make, jobs, progress)


def _side_by_side(
    manifests: Sequence[Manifest], depot: Depot, make: Callable[[Manifest, Depot], T], jobs: int, progress: Progress
) -> list[T]:
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


class _Through(Depot):
    """A depot that another one stands behind."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot

    def canonical(self, arch: str) -> Source:
        """Return the canonical."""
        return self._depot.canonical(arch)

    def manifest_by_key(self, arch: str, key: str) -> Manifest:
        """Return the manifest of another artifact."""
        return self._depot.manifest_by_key(arch, key)

    def content(self, manifest: Manifest, make: Callable[[], Source]) -> Source:
        """Return an artifact's content."""
        return self._depot.content(manifest, make)

    def small_blob(self, ref: BlobRef) -> bytes:
        """Return the content of a blob."""
        return self._depot.small_blob(ref)

    def large_blob(self, ref: BlobRef, prefix: Prefix | None = None) -> Source:
        """Return a blob's content for random access."""
        return self._depot.large_blob(ref, prefix)

    def signature(self, manifest: Manifest) -> Signature | None:
        """Return the signature of an artifact's shipped file."""
        return self._depot.signature(manifest)


class _Shared(_Through):
    """A depot in which one architecture's canonical is read together with others."""

    def __init__(self, depot: Depot, arch: str, convoy: Convoy) -> None:
        super().__init__(depot)
        self._arch = arch
        self._convoy = convoy
        self._member: Member | None = None

    def canonical(self, arch: str) -> Source:
        """Return the canonical; that of the one architecture as part of the convoy."""
        if arch != self._arch:
            return super().canonical(arch)
        if self._member is None:
            self._member = self._convoy.join(super().canonical(arch))
        return self._member

    def close(self) -> None:
        """Leave the convoy."""
        if self._member is not None:
            self._member.close()


class Keeping(_Through):
    """A depot for making ``manifests``, in which what several of them need is compressed once: rootfs.img for an ISO.

    It is kept in nameless files under TMPDIR until the depot is closed. Where there is no room it is made for each.
    """

    def __init__(self, depot: Depot, manifests: Iterable[Manifest]) -> None:
        super().__init__(depot)
        needed = Counter(
            (item.artifact.arch, key) for item in manifests for key in {item.artifact.key, *references_of(item.body)}
        )
        self._several = {place for place, count in needed.items() if count > 1}
        self._opening = threading.RLock()  # an artifact that is opened opens those that it is told from
        self._kept: dict[tuple[str, str], _Kept] = {}

    def content(self, manifest: Manifest, make: Callable[[], Source]) -> Source:
        """Return an artifact's content; that of an archive which several need is made once, as far as it is read."""
        place = manifest.artifact.arch, manifest.artifact.key
        if place not in self._several or not isinstance(manifest.body, Parts):
            return super().content(manifest, make)
        with self._opening:
            if place not in self._kept:
                self._kept[place] = _Kept(super().content(manifest, make))
            return _Reading(self._kept[place], make)

    def close(self) -> None:
        """Let go of what is kept."""
        for kept in self._kept.values():
            kept.close()


class _Kept:
    """What was made of ``source`` so far, None where there is no room for any."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.made: OnDemand | None = None
        with suppress(OutputError):
            self.made = OnDemand([Section(0, source.size, lambda: _pieces(source))])

    def close(self) -> None:
        """Remove what was made."""
        if self.made is not None:
            self.made.close()


class _Reading(Source):
    """A kept source for one reader, which ``make`` opens a source of its own where there is no room for more."""

    def __init__(self, kept: _Kept, make: Callable[[], Source]) -> None:
        self.size = kept.source.size
        self._kept = kept
        self._make = make
        self._own: Source | None = None

    def extents(self) -> Iterator[Extent]:
        """Yield the source's extents."""
        return self._kept.source.extents()

    def read(self, offset: int, length: int) -> Data:
        """Read what is there; make it, up to there, where it is not."""
        if self._own is None and self._kept.made is not None:
            with suppress(OutputError):
                return self._kept.made.read(offset, length)
        if self._own is None:
            self._own = self._make()
        return self._own.read(offset, length)


def _pieces(source: Source) -> Iterator[Data]:
    for at in range(0, source.size, CHUNK):
        yield source.read(at, min(CHUNK, source.size - at))
