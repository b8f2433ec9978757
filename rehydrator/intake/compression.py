"""Finding how a shipped file was compressed, so that its very bytes can be given back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import FileSource, Source
from rehydrator.errors import UnsupportedError
from rehydrator.intake.intake import Content
from rehydrator.layers.table import CompressionRecord, compression_layer
from rehydrator.progress import Task


class _Watched(Source):
    """A source that tells how many bytes are read each time."""

    def __init__(self, inner: Source, seen: Callable[[int], None]) -> None:
        self._inner = inner
        self._seen = seen
        self.size = inner.size

    def read(self, offset: int, length: int) -> Data:
        """Tell, and read."""
        self._seen(length)
        return self._inner.read(offset, length)

    def extents(self) -> Iterator[Extent]:
        """Yield those of the source itself."""
        yield from self._inner.extents()


def find_compression(content: Content, task: Task) -> CompressionRecord | None:
    """Return the record with which content becomes the shipped file; None for a file without outer compression.

    Every byte was compared: the content is compressed once, with the settings that gave the file's beginning. Others
    are given up at their first difference, mostly in the first 4 KiB. Raises UnsupportedError where none fits, and
    Cancelled at the next read of either file once ``task`` is cancelled.
    """
    artifact = content.artifact
    if not artifact.peeled:
        return None
    layer = compression_layer(artifact.format.compression)
    if layer is None:
        raise UnsupportedError("no compressor is known for this format", path=artifact.path)
    with contextlib.closing(FileSource(artifact.path)) as shipped:
        # What is compared is progress. What is compressed is not, but has to notice an interrupt: the bytes of a
        # second of work at xz -9 may be compressed to nothing that could be compared yet.
        outer = _Watched(shipped, lambda length: task.advance(min(length, shipped.size - task.done)))
        inner = _Watched(content.source, lambda _: task.advance(0))
        record: CompressionRecord = layer.recognise(outer, inner, artifact.path)
    return record
