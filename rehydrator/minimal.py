"""Making minimal ISOs of a store's live ISOs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from rehydrator.destination import Written
from rehydrator.disk.sink import FileSink, Sink, StreamSink, Tee, copy
from rehydrator.engines.direct import artifact_source
from rehydrator.errors import RehydratorError
from rehydrator.live.minimal import minimal_iso
from rehydrator.manifest.schema import Manifest
from rehydrator.progress import Progress
from rehydrator.rehydrate import TaskSink, made_directory
from rehydrator.store.depot import Depot

_SUFFIX = ".iso"


def minimal_name(manifest: Manifest) -> str:
    """Return the name of the file: that of the live ISO, with a word in it."""
    return f"{manifest.shipped.name.removesuffix(_SUFFIX)}.minimal{_SUFFIX}"


def to_directory(
    manifests: Sequence[Manifest], depot: Depot, directory: Path, progress: Progress, rootfs_url: str
) -> list[Written]:
    """Write the minimal ISO of each live ISO; return the files. One that exists is replaced once the new one is whole.

    Raises the errors of :func:`~rehydrator.live.minimal.minimal_iso`.
    """
    made_directory(directory)
    written = []
    for manifest in manifests:
        path = directory / minimal_name(manifest)
        with FileSink(path) as sink:
            _emit(manifest, depot, sink, progress, rootfs_url, sink.commit)
        written.append(Written(str(path), sink.size, None))
    return written


def to_stream(manifest: Manifest, depot: Depot, stream: BinaryIO, progress: Progress, rootfs_url: str) -> None:
    """Write a minimal ISO to an open stream; nothing is written before its sha256 was compared."""
    _emit(manifest, depot, StreamSink(stream, "standard output"), progress, rootfs_url)


def _emit(
    manifest: Manifest,
    depot: Depot,
    out: Sink,
    progress: Progress,
    rootfs_url: str,
    finish: Callable[[], None] = lambda: None,
) -> None:
    name = minimal_name(manifest)
    with progress.task(name) as task:
        try:
            copy(minimal_iso(artifact_source(manifest, depot), rootfs_url), Tee(TaskSink(task), out))
        except RehydratorError as error:
            raise error.located(name) from error
        finish()
        task.note = "sha256 ok, then its kernel arguments were changed"
