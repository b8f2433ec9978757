"""A sink that compresses: what it is given goes to another sink as a compressed file."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rehydrator.codecs.compressing import Compressor
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.sink import Sink

_ZEROS = bytes(CHUNK)


class _AbandonedError(Exception):
    """Nobody wants the rest of the file."""


class CompressingSink(Sink):
    """Compresses in a thread of its own, at most ``depth`` pieces behind.

    ``finish`` ends the file; leaving the context without it writes no more. What goes wrong in the thread, such as a
    disk that is full, is raised by the next ``write`` or by ``finish``. For the simple queues see
    :class:`~rehydrator.disk.sink.HashSink`.
    """

    def __init__(self, compressor: Compressor, out: Sink, depth: int = 8) -> None:
        self._out = out
        self._compressor = compressor
        self._queue: queue.SimpleQueue[Data | int | None] = queue.SimpleQueue()
        self._passes: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(depth):
            self._passes.put(None)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=compressor.value, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for piece in self._compressor.compress(self._content()):
                self._out.write(piece)
        except BaseException as error:  # the writer raises it
            self._error = error
            self._passes.put(None)  # it may wait

    def _content(self) -> Iterator[Data]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, int):
                for at in range(0, item, CHUNK):
                    if self._abandoned:
                        break
                    yield _ZEROS[: item - at]
            else:
                yield item
            self._passes.put(None)
        if self._abandoned:
            raise _AbandonedError

    def _take(self, item: Data | int) -> None:
        self._check()
        self._passes.get()
        self._queue.put(item)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: Data) -> None:
        """Compress ``data``; the caller must not change a mutable buffer afterwards."""
        self._take(data)

    def skip(self, length: int) -> None:
        """Compress ``length`` zero bytes."""
        self._take(length)

    def finish(self) -> None:
        """End the file; raises what went wrong."""
        self._queue.put(None)
        self._thread.join()
        self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._abandoned = True
            self._queue.put(None)
            self._thread.join()


@contextmanager
def compressed(out: Sink, compressor: Compressor | None) -> Iterator[Sink]:
    """Give a sink whose bytes reach ``out`` compressed, or ``out`` itself; the file ends where the context does."""
    if compressor is None:
        yield out
        return
    with CompressingSink(compressor, out) as sink:
        yield sink
        sink.finish()
