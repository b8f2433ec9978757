"""The flow of ``synthesize``: from the canonical disk and a wish to an image that the release never had."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from rehydrator.destination import Written
from rehydrator.disk.sink import FileSink, HashSink, Sink, StreamSink, Tee, copy
from rehydrator.disk.source import Source
from rehydrator.edits.table import Edit
from rehydrator.engines.direct import Engine, edited_disk
from rehydrator.errors import MismatchError, OutputError, StoreDamagedError, UsageError
from rehydrator.store.reader import Store
from rehydrator.synthesis.made import Made
from rehydrator.synthesis.recipe import recipe
from rehydrator.synthesis.template import default_format, template
from rehydrator.synthesis.wish import Wish
from rehydrator.synthesis.wrapping import wrapped


class Synthesis(msgspec.Struct, frozen=True):
    """A wished file: its name, its content computed while it is read, and the edits that make it."""

    name: str
    content: Source
    edits: list[Edit]


def synthesis(store: Store, arch: str, wish: Wish, format_name: str | None, engine: Engine = edited_disk) -> Synthesis:
    """Return the file of a wish, with the upstream name that it would have; ``engine`` makes its disk.

    Without a format it has the one in which the release, or else CoreOS, ships the platform. What lies around the disk
    is as in a file of that format that the release has.
    """
    shipped = store.manifests(arch)
    form = format_name or default_format(wish.platform, shipped)
    around = template(form, wish.platform, shipped)
    stem = f"{_release(store.arch(arch).canonical.content.name, arch)}-{wish.platform}.{arch}"
    body = recipe(store.canonical(arch), wish)
    try:
        disk = engine(store.canonical(arch), body, _no_blobs)
        content = wrapped(around, Made(stem, around.like, arch, disk, wish.epoch or 0))
    except MismatchError as error:
        raise UsageError("the wish can't be fulfilled on this disk", hint=f"{error}") from error
    return Synthesis(f"{stem}.{form}", content, body.edits)


def _release(canonical: str, arch: str) -> str:
    """Return what names of the release's files begin with, told from that of the canonical disk."""
    stem, found, _rest = canonical.rpartition(f".{arch}.")
    return stem.rpartition("-")[0] if found else "coreos"


def _no_blobs(name: str) -> bytes:
    raise StoreDamagedError("a synthesized image has no blobs", actual=name)


def to_directory(made: Synthesis, directory: Path) -> Written:
    """Write the file into ``directory``."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=directory) from error
    path = directory / made.name
    with FileSink(path) as sink:
        digest = _write(made, sink)
        sink.commit()
    return Written(str(path), made.content.size, digest)


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
