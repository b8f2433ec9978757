"""Rehydration: from the store to files, a stream or nothing but a digest, each compared before it counts."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from rehydrator.codecs.compressing import Compressor
from rehydrator.codecs.lzma2 import slots
from rehydrator.disk.extents import CHUNK, PIECE, Data
from rehydrator.disk.sink import HashSink, Sink, Tee, copy
from rehydrator.disk.source import Source
from rehydrator.engines.direct import Engine, artifact_source, edited_disk, shipped_source
from rehydrator.errors import MismatchError, OutputError, RehydratorError, UnsupportedError, UsageError
from rehydrator.layers.base import CompressionLayer
from rehydrator.layers.table import layer_for
from rehydrator.manifest.schema import File, Manifest
from rehydrator.progress import Progress, Task
from rehydrator.release.formats import parse_format
from rehydrator.store.depot import Depot
from rehydrator.together import AT_ONCE

_NOT_COMPARED = "written, sha256 not compared"
_SECONDS = re.compile(r"[0-9]{1,18}")


class Options(msgspec.Struct, frozen=True):
    """``validate`` compares the sha256 of what was written; size is always compared. ``engine`` replays the edits.

    Files come as the release gives a sha256 for them. ``compressed`` asks for them as they were shipped instead,
    ``bare`` for all of them without an outer compression, which ``compressor`` then puts around. ``signatures`` asks
    for the detached signatures of the shipped files as well. Of files that go to places of their own, ``jobs`` are made
    at once.
    """

    validate: bool = True
    compressed: bool = False
    signatures: bool = False
    engine: Engine = edited_disk
    jobs: int = 1
    bare: bool = False
    compressor: Compressor | None = None


def files_at_once(wanted: int | None, count: int, engine: Engine, options: Options) -> int:
    """Return how many of ``count`` files to make at once, where ``wanted`` is what was asked for.

    By default so many that they share what is decoded of the canonical. Compressors take memory, and so much time that
    decoding does not matter; a virtual machine makes one file at a time.
    """
    if engine is not edited_disk:
        return 1
    compresses = options.compressed or options.compressor is not None
    return min(wanted or (slots() if compresses else AT_ONCE), max(count, 1))


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


def emit(
    manifest: Manifest,
    depot: Depot,
    out: Sequence[Sink],
    progress: Progress,
    options: Options,
    finish: Callable[[], None] = lambda: None,
) -> str | None:
    """Send an artifact's file to sinks and compare size and digest with the manifest; return the sha256.

    That is None where it was not computed. Raises MismatchError when they differ; the caller must then not let the
    output count. Raises UnsupportedError where the shipped file is asked for and the store does not know how to
    compress it. ``compressor`` is left to the caller. ``finish`` is called once all was compared, before progress says
    that it is right: a file that is told of has its name.

    Where a compression is to be taken off, but only the compressed file has a published sha256, that is made first and
    compared.
    """
    compressions = _compressions(manifest) if options.bare else 0
    if not compressions:
        return _emit_published(manifest, depot, out, progress, options, finish)
    if options.validate:
        _emit_published(manifest, depot, [], progress, msgspec.structs.replace(options, bare=False))
    source = artifact_source(manifest, depot, engine=options.engine, without=compressions)
    with progress.task(product_name(manifest, options), source.size) as task, closing(_hash_sink(options)) as sha256:
        copy(source, Tee(TaskSink(task), sha256, *out), _piece(options))
        finish()
        task.note = f"sha256 of {manifest.content.name} ok" if options.validate else _NOT_COMPARED
        return sha256.hexdigest()


def _emit_published(
    manifest: Manifest,
    depot: Depot,
    out: Sequence[Sink],
    progress: Progress,
    options: Options,
    finish: Callable[[], None] = lambda: None,
) -> str | None:
    expected = file_of(manifest, options)
    with progress.task(expected.name, expected.size) as task:
        try:
            make = shipped_source if options.compressed else artifact_source
            source = make(manifest, depot, engine=options.engine)
            if source.size != expected.size:
                raise _mismatch(expected, expected.size, source.size, "size")
            sha256 = _copy_and_compare(source, expected, out, task, options)
        except RehydratorError as error:
            raise error.located(expected.name) from error
        finish()
        task.note = "sha256 ok" if options.validate else _NOT_COMPARED
        return sha256


def product_name(manifest: Manifest, options: Options) -> str:
    """Return the name of an artifact's file as it was asked for, without the suffix of ``compressor``.

    Raises UnsupportedError where the store can't give it so.
    """
    name = file_of(manifest, options).name
    suffix = parse_format(manifest.artifact.format).suffix
    if not options.bare or manifest.peeled or not suffix:
        return name
    if not _compressions(manifest):
        raise UnsupportedError(
            f"{name} can't be decompressed: the store holds it as it is",
            hint="Leave out --decompress and --compress for this file; 'rehydrator info' tells its rung and layers",
        )
    return name.removesuffix(suffix)


def product_size(manifest: Manifest, depot: Depot, options: Options) -> int:
    """Return the size of an artifact's file as it was asked for, before ``compressor``."""
    compressions = _compressions(manifest) if options.bare else 0
    if not compressions:
        return file_of(manifest, options).size
    return artifact_source(manifest, depot, engine=options.engine, without=compressions).size


def _compressions(manifest: Manifest) -> int:
    """Return how many of the outermost layers are compressions."""
    is_one = (isinstance(layer_for(record), CompressionLayer) for record in manifest.layers)
    return sum(1 for _layer in itertools.takewhile(bool, is_one))


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


def _copy_and_compare(source: Source, expected: File, out: Sequence[Sink], task: Task, options: Options) -> str | None:
    counter = TaskSink(task)
    if not options.validate:
        copy(source, Tee(counter, *out), _piece(options))
        return None
    with closing(_hash_sink(options)) as sha256:
        copy(source, Tee(counter, sha256, *out), _piece(options))
        actual = sha256.hexdigest()
    if actual != expected.sha256:
        raise _mismatch(expected, expected.sha256, actual, "sha256")
    return actual


def _hash_sink(options: Options) -> HashSink:
    """Return what hashes a file: in a thread of its own unless other files keep the processors busy."""
    return HashSink() if options.jobs == 1 else HashSink(depth=0)


def _piece(options: Options) -> int:
    """Return how much to copy at once: files that are made side by side share decoded frames by going on in step."""
    return PIECE if options.jobs == 1 else CHUNK


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
    except FileExistsError as error:
        raise OutputError("is there, and no directory", path=directory) from error
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=directory) from error


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
