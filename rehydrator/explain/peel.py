"""Opening one side of a comparison: compression and containers off, the disk inside open for reading."""

from __future__ import annotations

import functools
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from rehydrator.disk.on_demand import OnDemand
from rehydrator.disk.source import FileSource, Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import CorruptError, InputError, UnsupportedError
from rehydrator.explain.compression import compression_header
from rehydrator.intake.decompress import pieces
from rehydrator.layers.base import Layer
from rehydrator.layers.table import LayerRecord, compression_layer, format_of
from rehydrator.release.formats import Compression

_COMPRESSIONS: tuple[tuple[bytes, Compression, str], ...] = (
    (b"\xfd7zXZ\0", "xz", ".xz"),
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"PK\x03\x04", "zip", ".zip"),
)
_HEAD = 512
_MAX_DEPTH = 4


class Container(msgspec.Struct, frozen=True):
    """A container that was taken off: its format, its record, and the record in words.

    ``prove`` reads all of the file to find out what compressed it; None where the record tells that already.
    """

    format: str
    record: LayerRecord
    text: str
    prove: Callable[[], LayerRecord] | None = None

    def complete(self) -> LayerRecord:
        """Return the record with what compressed the file, as far as that can be found out."""
        if self.prove is None:
            return self.record
        try:
            return self.prove()
        except UnsupportedError:
            return self.record


class Obstacle(msgspec.Struct, frozen=True):
    """Why a container of ``format`` could not be taken off."""

    format: str
    error: CorruptError | UnsupportedError

    @property
    def text(self) -> str:
        """The same as a sentence."""
        return f"{self.format} could not be taken apart: {self.error}"


class Bare(msgspec.Struct, frozen=True):
    """What is left of a file, the containers that were taken off it outermost first, and why one is still there."""

    source: Source
    containers: tuple[Container, ...] = ()
    obstacle: Obstacle | None = None


class Opened(msgspec.Struct, frozen=True):
    """One side: the file's name as given, what was taken off it outermost first, and the disk that is left.

    ``header`` are the fields of the compression's header. ``obstacle`` says why a container is still there.
    ``label`` is what sentences call it where its name does not tell, ``fetch`` a command that prints it where it is
    no file.
    """

    name: str
    disk: Source
    compression: Compression = "none"
    containers: tuple[Container, ...] = ()
    obstacle: Obstacle | None = None
    label: str = ""
    fetch: str = ""
    header: dict[str, object] = {}

    @property
    def peeled(self) -> list[str]:
        """What was taken off, in words."""
        outer = [] if self.compression == "none" else [self.compression]
        return outer + [container.text for container in self.containers]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open one side. A decompressed copy has no name in the file system, so nothing is left whatever happens."""
    with ExitStack() as stack:
        compression, suffix = _compression(path)
        source: Source = stack.enter_context(FileSource(path))
        if compression != "none":
            source = _content(source, path, compression, stack)
        name = path.name.removesuffix(suffix) if suffix else path.name
        bare = take_off(source, Path(name))
        header = compression_header(path, compression)
        yield Opened(path.name, bare.source, compression, bare.containers, bare.obstacle, header=header)


def _compression(path: Path) -> tuple[Compression, str]:
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode):
            raise InputError("is no file or disk, which can be read anywhere", path=path)
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    for magic, compression, suffix in _COMPRESSIONS:
        if head.startswith(magic):
            return compression, suffix
    return "none", ""


def _content(outer: Source, path: Path, compression: Compression, stack: ExitStack) -> Source:
    """Return the content of a compressed file; of one of several members or streams, which are rare, a whole copy."""
    layer = compression_layer(compression)
    try:
        content = layer.look(outer, path).inner if layer else None
    except UnsupportedError:
        content = None
    if content is None:
        return stack.enter_context(spooled(pieces(path, compression), path.name))
    if isinstance(content, OnDemand):
        stack.callback(content.close)
    return content


def take_off(source: Source, name: Path) -> Bare:
    """Take off every container of one file that a layer knows; say why not where one can't be.

    Those of many files are left on: they are compared as the file systems that they are.
    """
    containers: list[Container] = []
    while len(containers) < _MAX_DEPTH and (found := format_of(source)) is not None and found.inside == "file":
        try:
            looked = found.layer.look(source, name)
        except (UnsupportedError, CorruptError) as error:
            return Bare(source, tuple(containers), Obstacle(found.name, error))
        prove = functools.partial(_proven, found.layer, source, name)
        containers.append(Container(found.name, looked.record, found.layer.describe(looked.record), prove))
        source, name = looked.inner, Path(name.stem)
    return Bare(source, tuple(containers))


def _proven(layer: Layer[Any], source: Source, name: Path) -> LayerRecord:
    record: LayerRecord = layer.unwrap(source, name).record
    return record
