"""Rehydration: from the store to files, a stream or nothing but a digest, each compared before it counts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from rehydrator.codecs.lzma2 import slots
from rehydrator.disk.extents import Data
from rehydrator.disk.sink import FileSink, HashSink, Sink, StreamSink, Tee, copy
from rehydrator.disk.source import Source
from rehydrator.engines.direct import Engine, artifact_source, edited_disk, shipped_source
from rehydrator.errors import MismatchError, OutputError, RehydratorError, UnsupportedError, UsageError
from rehydrator.layers.c_tar import BLOCKSIZE
from rehydrator.manifest.schema import File, Manifest
from rehydrator.progress import Progress, Task
from rehydrator.store.depot import Depot, Signature
from rehydrator.together import AT_ONCE, side_by_side

_SECONDS = re.compile(r"[0-9]{1,18}")


class Options(msgspec.Struct, frozen=True):
    """``validate`` compares the sha256 of what was written; size is always compared. ``engine`` replays the edits.

    ``compressed`` asks for the files as they were shipped, ``signatures`` for their detached signatures as well. Of
    files that go to places of their own, ``jobs`` are made at once.
    """

    validate: bool = True
    compressed: bool = False
    signatures: bool = False
    engine: Engine = edited_disk
    jobs: int = 1


def files_at_once(wanted: int | None, count: int, engine: Engine, *, compressed: bool) -> int:
    """Return how many of ``count`` files to make at once, where ``wanted`` is what was asked for.

    By default so many that they share what is decoded of the canonical. Compressors take memory, and so much time that
    decoding does not matter; a virtual machine makes one file at a time.
    """
    if engine is not edited_disk:
        return 1
    return min(wanted or (slots() if compressed else AT_ONCE), max(count, 1))


class TaskSink(Sink):
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
    """Send an artifact's file to sinks and compare size and digest with the manifest.

    Raises MismatchError when they differ; the caller must then not let the output count. Raises UnsupportedError where
    the shipped file is asked for and the store does not know how to compress it.
    """
    expected = file_of(manifest, options)
    with progress.task(expected.name, expected.size) as task:
        try:
            make = shipped_source if options.compressed else artifact_source
            source = make(manifest, depot, engine=options.engine)
            if source.size != expected.size:
                raise _mismatch(expected, expected.size, source.size, "size")
            _copy_and_compare(source, expected, out, task, options)
        except RehydratorError as error:
            raise error.located(expected.name) from error
        task.note = "sha256 ok" if options.validate else "written, sha256 not compared"


def file_of(manifest: Manifest, options: Options) -> File:
    """Return which file of an artifact the options ask for; raises UnsupportedError where the store can't give it."""
    if not options.compressed:
        return manifest.content
    if not manifest.exact:
        raise UnsupportedError(
            f"{manifest.shipped.name} comes back by content only: how it was compressed is not in the store",
            hint="Leave out --compressed for this file; 'rehydrator info' tells which are exact",
        )
    return manifest.shipped


def _copy_and_compare(source: Source, expected: File, out: Sequence[Sink], task: Task, options: Options) -> None:
    counter = TaskSink(task)
    if not options.validate:
        copy(source, Tee(counter, *out))
        return
    sha256 = HashSink() if options.jobs == 1 else HashSink(depth=0)
    try:
        copy(source, Tee(counter, sha256, *out))
        actual = sha256.hexdigest()
    finally:
        sha256.close()
    if actual != expected.sha256:
        raise _mismatch(expected, expected.sha256, actual, "sha256")


def _mismatch(file: File, expected: object, actual: object, what: str) -> MismatchError:
    return MismatchError(
        f"the rehydrated file has another {what}",
        path=file.name,
        expected=expected,
        actual=actual,
        hint="The store is damaged or was made by a faulty rehydrator; run 'rehydrator verify'",
    )


def made_directory(directory: Path) -> None:
    """Make a directory that is not there. Raises OutputError where that is not possible."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=directory) from error


def to_directory(
    manifests: Sequence[Manifest], depot: Depot, directory: Path, progress: Progress, options: Options
) -> list[Path]:
    """Write each artifact into ``directory`` under its upstream name; return the paths.

    A file that exists is replaced, once the new one is complete and compared. A signature follows its file.
    """
    files = _files(manifests, options)
    signatures = _signatures(manifests, depot, options)
    made_directory(directory)
    told = {file.name: signature for file, signature in zip(files, signatures, strict=True)}

    def write(manifest: Manifest, shared: Depot) -> list[Path]:
        path = directory / file_of(manifest, options).name
        with FileSink(path) as sink:
            emit(manifest, shared, [sink], progress, options)
            progress.check()
            sink.commit()
        signature = told[path.name]
        if signature is None:
            return [path]
        with FileSink(directory / signature.name) as sink:
            sink.write(signature.data)
            sink.commit()
        return [path, directory / signature.name]

    made = side_by_side(manifests, depot, write, options.jobs, progress)
    return [path for paths in made for path in paths]


def to_stream(manifest: Manifest, depot: Depot, stream: BinaryIO, progress: Progress, options: Options) -> None:
    """Write one artifact to an open stream."""
    emit(manifest, depot, [StreamSink(stream, "standard output")], progress, options)


def to_tar(manifests: Sequence[Manifest], depot: Depot, stream: BinaryIO, progress: Progress, options: Options) -> None:
    """Write several files as a GNU tar stream; without its trailer unless all of them are right."""
    files = _files(manifests, options)
    signatures = _signatures(manifests, depot, options)
    sink = StreamSink(stream, "standard output")
    for manifest, file, signature in zip(manifests, files, signatures, strict=True):
        sink.write(tar_header(file.name, file.size))
        emit(manifest, depot, [sink], progress, options)
        sink.skip(-file.size % BLOCKSIZE)
        if signature is not None:
            sink.write(tar_header(signature.name, len(signature.data)) + signature.data)
            sink.skip(-len(signature.data) % BLOCKSIZE)
    sink.skip(2 * BLOCKSIZE)


def tar_header(name: str, size: int) -> bytes:
    """Return the tar header of a file: owned by root, mode 0644, at the time of ``SOURCE_DATE_EPOCH`` or zero."""
    import tarfile  # noqa: PLC0415 - importing it takes longer than much of what is asked for, mostly without a tar

    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    info.mtime = source_date_epoch() or 0
    return info.tobuf(tarfile.GNU_FORMAT)


def source_date_epoch() -> int | None:
    """Return ``SOURCE_DATE_EPOCH``, None where it is not set. Raises UsageError for what is no number."""
    value = os.environ.get("SOURCE_DATE_EPOCH")
    if value is not None and not _SECONDS.fullmatch(value):
        raise UsageError("SOURCE_DATE_EPOCH is not a number of seconds", expected="up to 18 digits", actual=value[:40])
    return None if value is None else int(value)


def check(manifest: Manifest, depot: Depot, progress: Progress, options: Options) -> None:
    """Rehydrate an artifact to nowhere and compare its digest; ``compressed``: as shipped, where that is exact."""
    compressed = options.compressed and manifest.exact
    emit(manifest, depot, [], progress, msgspec.structs.replace(options, compressed=compressed))


def _files(manifests: Sequence[Manifest], options: Options) -> list[File]:
    """Return the files that are asked for, all of which can be given and have names of their own."""
    files = [file_of(manifest, options) for manifest in manifests]
    seen: set[str] = set()
    for file in files:
        if file.name in seen:
            raise UsageError("two artifacts have the same file name", actual=file.name)
        seen.add(file.name)
    return files


def _signatures(manifests: Sequence[Manifest], depot: Depot, options: Options) -> list[Signature | None]:
    """Return the signatures of the shipped files where they are asked for; one that is missing is an error."""
    if not options.signatures:
        return [None] * len(manifests)
    signatures = [depot.signature(manifest) for manifest in manifests]
    missing = [item.shipped.name for item, found in zip(manifests, signatures, strict=True) if found is None]
    if missing:
        raise UsageError(
            f"the store holds no signature of {', '.join(missing)}",
            hint="The release had none beside these files; leave out --signatures for them",
        )
    return signatures
