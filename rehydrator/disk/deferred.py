"""A source that is opened when it is first read, since finding out how takes a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import Source
from rehydrator.errors import StoreDamagedError


class Deferred(Source):
    """The ``size`` bytes that ``make`` opens; it is called once, by whoever reads first.

    Reading raises what ``make`` raises, and StoreDamagedError where that has another size.
    """

    def __init__(self, size: int, make: Callable[[], Source]) -> None:
        self.size = size
        self._make = make
        self._opening = threading.Lock()
        self._opened: Source | None = None

    def _source(self) -> Source:
        with self._opening:
            if self._opened is None:
                source = self._make()
                if source.size != self.size:
                    raise StoreDamagedError("a part has another size", expected=self.size, actual=source.size)
                self._opened = source
            return self._opened

    def extents(self) -> Iterator[Extent]:
        """Yield all of it: where its zeros are is not known yet."""
        if self.size:
            yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> Data:
        """Open the source and read it."""
        return self._source().read(offset, length)
