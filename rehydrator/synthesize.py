"""The flow of ``synthesize``: from the canonical disk and a wish to an image that the release never had."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from rehydrator.disk.sink import FileSink, HashSink, Sink, StreamSink, Tee, copy
from rehydrator.disk.source import Source
from rehydrator.edits.table import Edit
from rehydrator.engines.direct import Engine, edited_disk
from rehydrator.errors import OutputError, StoreDamagedError, UsageError
from rehydrator.layers.table import layer_for
from rehydrator.store.reader import Store
from rehydrator.synthesis.recipe import recipe
from rehydrator.synthesis.wish import Wish
from rehydrator.synthesis.wrapping import Wrapped, records


class Synthesis(msgspec.Struct, frozen=True):
    """A wished file: its name, its content computed while it is read, and the edits that make it."""

    name: str
    content: Source
    edits: list[Edit]


def synthesis(store: Store, arch: str, wish: Wish, format_name: str, engine: Engine = edited_disk) -> Synthesis:
    """Return the file of a wish, with the upstream name that it would have; ``engine`` makes its disk."""
    canonical = store.arch(arch).canonical.content.name
    name = _name(canonical, wish.platform, arch, format_name)
    body = recipe(store.canonical(arch), wish)
    try:
        disk = engine(store.canonical(arch), body, _no_blobs)
    except StoreDamagedError as error:
        raise UsageError("the wish can't be fulfilled on this disk", hint=f"{error}") from error
    content = disk
    for record in reversed(records(disk, format_name, Wrapped(name, wish.epoch or 0))):
        content = layer_for(record).wrap(content, record)
    return Synthesis(name, content, body.edits)


def _name(canonical: str, platform: str, arch: str, suffix: str) -> str:
    """Return the name of the canonical file with another platform and suffix."""
    stem, found, _rest = canonical.rpartition(f".{arch}.")
    release = stem.rpartition("-")[0] if found else "coreos"
    return f"{release}-{platform}.{arch}.{suffix}"


def _no_blobs(name: str) -> bytes:
    raise StoreDamagedError("a synthesized image has no blobs", actual=name)


def to_directory(made: Synthesis, directory: Path) -> str:
    """Write the file into ``directory``; return a line with its sha256 and path, as sha256sum prints it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=directory) from error
    path = directory / made.name
    with FileSink(path) as sink:
        digest = _write(made, sink)
        sink.commit()
    return f"{digest}  {path}"


def to_stream(made: Synthesis, stream: BinaryIO) -> None:
    """Write the file to an open stream."""
    _write(made, StreamSink(stream, "standard output"))


def _write(made: Synthesis, out: Sink) -> str:
    digest = HashSink()
    try:
        copy(made.content, Tee(digest, out))
        return digest.hexdigest()
    finally:
        digest.close()
