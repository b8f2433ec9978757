"""Compressed files that one processor makes from front to back, begun before somebody reads them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

from rehydrator.codecs.lzma2 import RUNNING
from rehydrator.disk.composed import Joined
from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import OutputError
from rehydrator.layers.xz_blocks import pieces

_LOOK = 64 << 10  # who reads less than this from the beginning on looks something up


class Early(Source):
    """A file that liblzma compresses as one block.

    Once begun it is made into a nameless file under TMPDIR; else, or where there is no room for it, while it is read.
    """

    def __init__(self, file: Source) -> None:
        self.size = file.size
        self._file = file
        self._made: Future[Source] | None = None

    def begin(self) -> None:
        """Have a thread make it, if there are a second processor and the memory for one more encoder."""
        if self._made is None and len(os.sched_getaffinity(0)) > 1 and RUNNING.acquire(blocking=False):
            self._made = Future()
            threading.Thread(target=self._make, args=(self._made,), name="early", daemon=True).start()

    def _make(self, made: Future[Source]) -> None:
        try:
            made.set_result(spooled(pieces(self._file, 0, self.size)))
        except Exception as error:  # for those who read it
            made.set_exception(error)
        finally:
            RUNNING.release()

    def extents(self) -> Iterator[Extent]:
        """Yield all of it."""
        yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Wait for what was begun, or make the range; raises what making the file raises."""
        begun = self._made is not None and not isinstance(self._made.exception(), OutputError)
        return (self._made.result() if self._made and begun else self._file).read(offset, length)


class Archive(Joined):
    """Parts one behind the other; when somebody reads from the beginning on, all files of ``early`` are begun."""

    def __init__(self, parts: Iterable[Source], early: Sequence[Early]) -> None:
        super().__init__(parts)
        self._early = early
        self._reached = 0  # by who reads from the beginning on

    def read(self, offset: int, length: int) -> Data:
        """Read from the parts that the range touches."""
        if offset in {0, self._reached}:
            self._reached = offset + length
            if self._reached >= min(_LOOK, self.size):
                for file in self._early:
                    file.begin()
        return super().read(offset, length)
