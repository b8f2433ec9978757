"""One source for several readers that go through it side by side, so that all of them share what is decoded once."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

from rehydrator.disk.extents import Data, Extent, ExtentMap
from rehydrator.disk.source import Source

WINDOW = 8 << 20  # bytes that the first reader may be ahead of the last: what a source of decoded frames keeps
_LOOK = 64 << 10  # shorter reads look something up; they are not part of going through the source


class Convoy:
    """Lets readers of the same source go on together: who is over ``window`` bytes ahead of the last one waits for it.

    Memory stays that of the source. The last one never waits, and a reader that ends is not waited for, so that all
    of them get through. A reader that goes back, to read something again, counts where it was.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._moved = threading.Condition()
        self._places: dict[Member, int] = {}

    def join(self, source: Source) -> Member:
        """Return ``source`` for a new reader, at its beginning; close it when it was read, since others wait for it."""
        member = Member(self, source)
        with self._moved:
            self._places[member] = 0
        return member

    def leave(self, member: Member) -> None:
        """Wait for ``member`` no longer (idempotent)."""
        with self._moved:
            self._places.pop(member, None)
            self._moved.notify_all()

    def advance(self, member: Member, place: int) -> None:
        """Note that ``member`` reads at byte ``place``; wait while that is too far ahead."""
        with self._moved:
            before = self._places.get(member, place)
            if place <= before:
                return
            was_last = before == self._last()
            self._places[member] = place
            if was_last:
                self._moved.notify_all()
            while self._last() < place - self._window:
                self._moved.wait()

    def _last(self) -> float:
        """Return the place of the last reader."""
        return min(self._places.values(), default=math.inf)


class Member(Source):
    """A source for one reader of a convoy."""

    def __init__(self, convoy: Convoy, source: Source) -> None:
        self._convoy = convoy
        self._source = source
        self.size = source.size

    def read(self, offset: int, length: int) -> Data:
        """Read from the source, when the others are near."""
        if length >= _LOOK:
            self._convoy.advance(self, offset)
        return self._source.read(offset, length)

    def extents(self) -> Iterator[Extent]:
        """Yield the source's extents."""
        return self._source.extents()

    def nonzero(self) -> ExtentMap:
        """Return the source's map."""
        return self._source.nonzero()

    def close(self) -> None:
        """Leave the convoy (idempotent)."""
        self._convoy.leave(self)
