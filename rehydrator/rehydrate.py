"""Rehydration: from the store to files, a stream or nothing but a digest, each compared before it counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from rehydrator.disk.extents import Data
from rehydrator.disk.sink import FileSink, HashSink, Sink, StreamSink, Tee, copy
from rehydrator.disk.source import Source
from rehydrator.engines.direct import Engine, artifact_source, edited_disk
from rehydrator.errors import MismatchError, OutputError, RehydratorError, UsageError
from rehydrator.layers.c_tar import BLOCKSIZE
from rehydrator.manifest.schema import File, Manifest
from rehydrator.progress import Progress, Task
from rehydrator.store.depot import Depot


class Options(msgspec.Struct, frozen=True):
    """``validate`` compares the sha256 of what was written; size is always compared. ``engine`` replays the edits."""

    validate: bool = True
    engine: Engine = edited_disk


class _TaskSink(Sink):
    """Counts what passes for the progress display."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def write(self, data: Data) -> None:
        """Count ``data``."""
        self._task.advance(len(data))

    def skip(self, length: int) -> None:
        """Count zeros."""
        self._task.advance(length)


def emit(manifest: Manifest, depot: Depot, out: Sequence[Sink], progress: Progress, options: Options) -> None:
    """Send an artifact's content to sinks and compare size and digest with the manifest.

    Raises MismatchError when they differ; the caller must then not let the output count.
    """
    expected = manifest.content
    with progress.task(expected.name, expected.size) as task:
        try:
            source = artifact_source(manifest, depot, engine=options.engine)
            if source.size != expected.size:
                raise _mismatch(manifest, expected.size, source.size, "size")
            _copy_and_compare(source, manifest, out, task, options)
        except RehydratorError as error:
            raise error.located(expected.name) from error
        task.note = "sha256 ok" if options.validate else "written, sha256 not compared"


def _copy_and_compare(source: Source, manifest: Manifest, out: Sequence[Sink], task: Task, options: Options) -> None:
    counter = _TaskSink(task)
    if not options.validate:
        copy(source, Tee(counter, *out))
        return
    sha256 = HashSink()
    try:
        copy(source, Tee(counter, sha256, *out))
        actual = sha256.hexdigest()
    finally:
        sha256.close()
    if actual != manifest.content.sha256:
        raise _mismatch(manifest, manifest.content.sha256, actual, "sha256")


def _mismatch(manifest: Manifest, expected: object, actual: object, what: str) -> MismatchError:
    return MismatchError(
        f"the rehydrated file has another {what}",
        path=manifest.content.name,
        expected=expected,
        actual=actual,
        hint="The store is damaged or was made by a faulty rehydrator; run 'rehydrator verify'",
    )


def to_directory(
    manifests: Sequence[Manifest], depot: Depot, directory: Path, progress: Progress, options: Options
) -> list[Path]:
    """Write each artifact into ``directory`` under its upstream name; return the paths.

    A file that exists is replaced, once the new one is complete and compared.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=directory) from error
    _check_distinct(manifests)
    written = []
    for manifest in manifests:
        path = directory / manifest.content.name
        with FileSink(path) as sink:
            emit(manifest, depot, [sink], progress, options)
            sink.commit()
        written.append(path)
    return written


def to_stream(manifest: Manifest, depot: Depot, stream: BinaryIO, progress: Progress, options: Options) -> None:
    """Write one artifact to an open stream."""
    emit(manifest, depot, [StreamSink(stream, "standard output")], progress, options)


def to_tar(manifests: Sequence[Manifest], depot: Depot, stream: BinaryIO, progress: Progress, options: Options) -> None:
    """Write several artifacts as a GNU tar stream; without its trailer unless all of them are right."""
    _check_distinct(manifests)
    sink = StreamSink(stream, "standard output")
    for manifest in manifests:
        sink.write(tar_header(manifest.content))
        emit(manifest, depot, [sink], progress, options)
        sink.skip(-manifest.content.size % BLOCKSIZE)
    sink.skip(2 * BLOCKSIZE)


def tar_header(file: File) -> bytes:
    """Return the tar header of a file: owned by root, mode 0644, at the time of ``SOURCE_DATE_EPOCH`` or zero."""
    import tarfile  # noqa: PLC0415 - importing it takes longer than much of what is asked for, mostly without a tar

    info = tarfile.TarInfo(file.name)
    info.size = file.size
    info.mode = 0o644
    info.mtime = _source_date_epoch()
    return info.tobuf(tarfile.GNU_FORMAT)


def _source_date_epoch() -> int:
    value = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not value.isdecimal():
        raise UsageError("SOURCE_DATE_EPOCH is not a number of seconds", actual=value)
    return int(value)


def check(manifest: Manifest, depot: Depot, progress: Progress, engine: Engine = edited_disk) -> None:
    """Rehydrate an artifact to nowhere and compare its digest."""
    emit(manifest, depot, [], progress, Options(engine=engine))


def _check_distinct(manifests: Sequence[Manifest]) -> None:
    seen: set[str] = set()
    for manifest in manifests:
        if manifest.content.name in seen:
            raise UsageError("two artifacts have the same file name", actual=manifest.content.name)
        seen.add(manifest.content.name)
