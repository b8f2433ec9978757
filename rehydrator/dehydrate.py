"""Dehydration: from a release's files to a proven store.

Four steps: take in the canonical; tell every other artifact on the best rung that fits; prove each by rehydrating
it from the new store; publish the store by one rename. Nothing is published that was not proven.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from rehydrator import rungs
from rehydrator.errors import CorruptError, InputError, MismatchError, OutputError, UnsupportedError
from rehydrator.intake.compression import find_compression
from rehydrator.intake.intake import Content, check_present, take_in
from rehydrator.manifest.schema import Manifest, Rung, literal_bytes, notes_of
from rehydrator.progress import Progress
from rehydrator.proof import Proof, check_with
from rehydrator.release.artifact import Artifact, Inputs, Release
from rehydrator.release.naming import plain_name
from rehydrator.relocator import Relocator
from rehydrator.store.reader import Store
from rehydrator.store.writer import Staging
from rehydrator.together import Keeping
from rehydrator.workers import worker_pool

_PARENT = "qemu"  # the platform whose disk others are made from
_UNPROVEN = "what was told of it by other files gave other bytes"
_HOLDING = ("pxe", "iso")  # containers that hold what others are told from: osmet files of disks, and live artifacts


class Settings(msgspec.Struct, frozen=True):
    """How to dehydrate: ``jobs`` files at once, by default as many as there are processors.

    ``level`` is zstd's for canonical, literals and whole files. ``compressed`` also finds out how shipped files were
    compressed; that takes as long as compressing them once.
    """

    jobs: int = msgspec.field(default_factory=lambda: os.cpu_count() or 1)
    level: int = 19
    allow_unhandled: bool = False
    compressed: bool = True


class Report(msgspec.Struct):
    """What became of each artifact, and what a person should know; proofs go by architecture and key."""

    manifests: list[Manifest] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    proofs: dict[tuple[str, str], Proof] = msgspec.field(default_factory=dict)


def dehydrate(inputs: Inputs, target: Path, settings: Settings, progress: Progress) -> Report:
    """Make the store ``target`` from ``inputs``.

    Raises the errors of its inputs (InputError, MismatchError, CorruptError), UnsupportedError for an unknown kind
    of artifact and UsageError for a target that exists. On any error nothing is left.
    """
    report = Report(notes=list(inputs.notes))
    for release in inputs.releases:
        _check_kinds(release, settings, report)
    with Staging(target) as staging, _write_errors_name(target):
        for release in inputs.releases:
            _ReleaseRun(release, staging, settings, progress, report).run()
        signatures = [item.signature for release in inputs.releases for item in release.artifacts if item.signature]
        _prove(inputs, staging, signatures, settings, progress, report)
        report.manifests = staging.manifests()
        report.notes += [f"{item.content.name}: {note}" for item in report.manifests for note in notes_of(item)]
        staging.publish()
    return report


@contextmanager
def _write_errors_name(target: Path) -> Iterator[None]:
    """Make a full disk an error that says what could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}:
            raise
        raise OutputError(
            f"cannot be written: {error.strerror}",
            path=target,
            hint="Free some space or put the store elsewhere; nothing was left",
        ) from error


def _check_kinds(release: Release, settings: Settings, report: Report) -> None:
    unknown = [item for item in release.artifacts if not item.format.known]
    names = ", ".join(f"{item.identity.platform} {item.identity.format}" for item in unknown)
    if unknown and not settings.allow_unhandled:
        raise UnsupportedError(
            f"unknown kind of artifact: {names}",
            path=unknown[0].path,
            hint="--allow-unhandled stores such files whole",
        )
    if unknown:
        report.notes.append(f"{release.arch}: unknown kind, stored whole: {names}")
    seen: set[str] = set()
    for item in release.artifacts:
        for part in (item.identity.key, item.identity.arch, item.name):
            plain_name(part, item.path)
        if item.identity.key in seen:
            raise InputError("two artifacts have the same platform, format and role", actual=item.identity.key)
        seen.add(item.identity.key)


def order_of_telling(artifact: Artifact) -> tuple[int, bool]:
    """Sort what others are made from to the front, and what holds others to the end: rootfs.img, then the ISO."""
    container = artifact.content_container
    holding = _HOLDING.index(container) + 1 if container in _HOLDING else 0
    return holding, artifact.identity.platform != _PARENT


class _Told(msgspec.Struct, frozen=True):
    """An artifact's content, and its manifest where it could be told by edits."""

    peeled: rungs.Peeled
    manifest: Manifest | None

    @property
    def literal(self) -> bool:
        """Whether the manifest leaves bytes without a name."""
        return self.manifest is not None and literal_bytes(self.manifest.body) > 0


class _ReleaseRun:
    """One architecture's way into the staging store."""

    def __init__(
        self, release: Release, staging: Staging, settings: Settings, progress: Progress, report: Report
    ) -> None:
        self._release = release
        self._staging = staging
        self._settings = settings
        self._progress = progress
        self._report = report

    def run(self) -> None:
        """Take in the canonical, then all others."""
        canonicals = [item for item in self._release.artifacts if item.is_canonical]
        if len(canonicals) != 1:
            raise InputError(
                f"the release for {self._release.arch} has no metal raw disk, which everything else is told from",
                expected="one artifact metal raw",
                actual=len(canonicals),
            )
        for artifact in self._release.artifacts:  # what is plain to see is told before the long work
            check_present(artifact)
        content = self._take_in(canonicals[0])
        try:
            canonical = rungs.canonical_of(content)
            with self._progress.task(f"compress {content.content.name}", content.content.size) as task:
                self._staging.add_canonical(
                    self._release.arch, content, task, level=self._settings.level, threads=self._settings.jobs
                )
            others = [item for item in self._release.artifacts if item is not canonicals[0]]
            others.sort(key=order_of_telling)
            compressed = self._tell_others(content, canonical, others)
            self._staging.set_manifest(rungs.canonical_manifest(compressed))
        finally:
            content.discard()

    def _take_in(self, artifact: Artifact) -> Content:
        size = artifact.uncompressed_size if artifact.peeled else artifact.size
        with self._progress.task(f"read {artifact.name}", size) as task:
            return take_in(artifact, self._staging.scratch, task)

    def _with_compression(self, content: Content) -> Content:
        """Find out how the shipped file was compressed, where that is wanted and there is a way."""
        if not (self._settings.compressed and content.artifact.peeled):
            return content
        with self._progress.task(f"compress {content.shipped.name} again", content.shipped.size) as task:
            try:
                found = find_compression(content, task)
            except (UnsupportedError, CorruptError) as error:
                task.note = "by content"
                self._report.notes.append(f"only the content of this file comes back exactly: {error}")
                return content
            task.note = "exact"
        return msgspec.structs.replace(content, compression=found)

    def _tell_others(self, metal: Content, canonical: rungs.Base, artifacts: list[Artifact]) -> Content:
        """Tell siblings of the canonical in parallel; what remains is told in order, from what came before.

        Returns ``metal``, the canonical's content, with its compression.
        A disk that is not told completely may have been made from another artifact: vmware and virtualbox from qemu.
        """
        relocator: Relocator | None = None
        unclear: list[rungs.Peeled] = []
        remaining: list[rungs.Peeled] = []
        bases: list[rungs.Base] = []
        try:
            with worker_pool(self._settings.jobs, "dehydrate", self._progress) as pool:
                compressed = pool.submit(self._with_compression, metal)
                futures = [pool.submit(self._by_edits, item, canonical) for item in artifacts]
                for future in futures:
                    told = future.result()
                    if told.manifest is not None:
                        unclear += [told.peeled] if told.literal else []
                        continue
                    remaining.append(told.peeled)
                    if self._from_relative(told.peeled, bases):
                        continue
                    relocator = relocator or Relocator(
                        canonical.source, self._staging.blobs, level=self._settings.level, threads=self._settings.jobs
                    )
                    if self._relocate(relocator, told.peeled) is Rung.RELOCATED:
                        bases += rungs.relocated_bases(told.peeled)
            self._tell_from_parent(canonical, unclear)
            return compressed.result()
        finally:
            for peeled in (*remaining, *unclear):
                peeled.content.discard()

    def _from_relative(self, peeled: rungs.Peeled, bases: list[rungs.Base]) -> bool:
        """Tell a disk by edits of one that was relocated before, as those of clouds were made from qemu's in 2021."""
        if not peeled.is_disk or not bases:
            return False
        with self._progress.task(f"compare {peeled.content.content.name}") as task:
            manifest = rungs.by_cheapest(peeled, bases, self._staging.blobs)
            task.note = manifest.rung.value if manifest else "of no other disk"
        if manifest is None:
            return False
        self._staging.set_manifest(manifest)
        return True

    def _by_edits(self, artifact: Artifact, canonical: rungs.Base) -> _Told:
        """Tell an artifact by edits of the canonical; what is told completely is closed again."""
        content = self._take_in(artifact)
        try:
            content = self._with_compression(content)
            peeled = rungs.peel(content, self._staging.blobs)
            if peeled.proof is not None:
                self._report.proofs[self._release.arch, artifact.identity.key] = peeled.proof
            told = _Told(peeled, rungs.by_edits(peeled, canonical, self._staging.blobs))
        except BaseException:
            content.discard()
            raise
        if told.manifest is not None:
            self._staging.set_manifest(told.manifest)
            if not told.literal:
                content.discard()
        return told

    def _tell_from_parent(self, canonical: rungs.Base, unclear: list[rungs.Peeled]) -> None:
        """Tell disks from the parent platform's disk where that leaves fewer literal bytes."""
        manifests = self._staging.manifests_of(self._release.arch)
        parents = [item for item in manifests if item.artifact.platform == _PARENT]
        if not parents or not unclear:
            return
        parent = rungs.base_of(parents[0], canonical, self._staging.read_blob)
        if parent is None:
            return
        for peeled in unclear:
            key = peeled.content.artifact.identity.key
            told = rungs.by_cheapest(peeled, [parent], self._staging.blobs)
            before = next(item for item in manifests if item.artifact.key == key)
            if told is not None and literal_bytes(told.body) < literal_bytes(before.body):
                self._staging.set_manifest(told)

    def _relocate(self, relocator: Relocator, peeled: rungs.Peeled) -> Rung:
        """Tell content by what is found elsewhere, else keep it whole; return which of the two."""
        content = peeled.content
        with self._progress.task(f"relocate {content.content.name}") as task:
            manifest = relocator.tell(peeled)
            task.note = manifest.rung.value
        self._staging.set_manifest(manifest)
        relocator.add_reference(content)
        return manifest.rung


def _prove(
    inputs: Inputs,
    staging: Staging,
    signatures: list[Path],
    settings: Settings,
    progress: Progress,
    report: Report,
) -> None:
    """Prove every artifact from the staged store; one that comes out wrong drops to ``stored`` and is retried."""
    unproven = {(item.artifact.arch, item.artifact.key) for item in staging.manifests()}
    artifacts = {(item.identity.arch, item.identity.key): item for r in inputs.releases for item in r.artifacts}
    while unproven:
        staging.write_index(inputs.stream, signatures)
        with Store(staging.root, threads=1) as store:
            manifests = [store.manifest_by_key(arch, key) for arch, key in sorted(unproven)]
            proofs = [report.proofs.get((item.artifact.arch, item.artifact.key)) for item in manifests]
            with closing(Keeping(store, manifests)) as depot, worker_pool(settings.jobs, "prove", progress) as pool:
                futures = {
                    pool.submit(check_with, proof, item, depot, progress): item
                    for proof, item in zip(proofs, manifests, strict=True)
                }
                failed = [manifest for future, manifest in futures.items() if not _proven(future, manifest, report)]
        unproven = {(item.artifact.arch, item.artifact.key) for item in failed}
        for manifest in failed:
            _drop(artifacts[manifest.artifact.arch, manifest.artifact.key], manifest, staging, settings, progress)


def _proven(future: Future[None], manifest: Manifest, report: Report) -> bool:
    try:
        future.result()
    except MismatchError as error:
        if manifest.rung is Rung.STORED:
            raise
        report.notes.append(f"{manifest.content.name}: rung {manifest.rung} does not hold, stored whole: {error}")
        return False
    return True


def _drop(artifact: Artifact, failed: Manifest, staging: Staging, settings: Settings, progress: Progress) -> None:
    """Keep an artifact whole; its compression was proven apart from the rung."""
    with progress.task(f"store {artifact.name}") as task:
        taken = take_in(artifact, staging.scratch, task)
        content = msgspec.structs.replace(taken, compression=failed.compression)
        try:
            manifest = rungs.whole(content, staging.blobs, [_UNPROVEN], level=settings.level, threads=settings.jobs)
        finally:
            content.discard()
        staging.set_manifest(manifest)
