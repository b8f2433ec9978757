"""Finding how a shipped file was compressed, so that its very bytes can be given back."""

from __future__ import annotations

import contextlib

from rehydrator.disk.source import FileSource
from rehydrator.errors import UnsupportedError
from rehydrator.intake.intake import Content
from rehydrator.layers.table import CompressionRecord, compression_layer
from rehydrator.progress import Task


class _Watched(FileSource):
    """A file that tells a task how far it was read from front to back, and stops when that is cancelled."""

    def __init__(self, content: Content, task: Task) -> None:
        super().__init__(content.artifact.path)
        self._task = task
        self._reached = 0

    def read(self, offset: int, length: int) -> bytes:
        """Read, and report what was not read before."""
        end = offset + length
        new = end - self._reached if offset <= self._reached < end else 0
        self._reached += new
        self._task.advance(new)
        return super().read(offset, length)


def find_compression(content: Content, task: Task) -> CompressionRecord | None:
    """Return the record with which content becomes the shipped file; None for a file without outer compression.

    Every byte was compared: the content is compressed once, with the settings that gave the file's beginning. Others
    are given up at their first difference, mostly in the first 4 KiB. Raises UnsupportedError where none fits.
    """
    artifact = content.artifact
    if not artifact.peeled:
        return None
    layer = compression_layer(artifact.format.compression)
    if layer is None:
        raise UnsupportedError("no compressor is known for this format", path=artifact.path)
    with contextlib.closing(_Watched(content, task)) as shipped:
        record: CompressionRecord = layer.recognise(shipped, content.source, artifact.path)
    return record
