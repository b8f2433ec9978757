"""Content in sections that are made as far as somebody reads in them, such as the blocks of a .xz file."""

from __future__ import annotations

import bisect
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import msgspec

from rehydrator.disk.extents import Data, Extent, ExtentMap, whole_chunks
from rehydrator.disk.source import Source
from rehydrator.disk.spool import nameless, no_room, write_sparse
from rehydrator.errors import CorruptError

_MAX_UNFINISHED = 2  # a decoder of xz -9 takes 64 MiB


class Section(msgspec.Struct, frozen=True):
    """A part of some content, in bytes, that ``pieces`` makes from front to back; it begins at a whole block."""

    start: int
    size: int
    pieces: Callable[[], Iterator[Data]]

    @property
    def end(self) -> int:
        """First byte after the section."""
        return self.start + self.size


class OnDemand(Source):
    """Content in sections, each of which is made as far as somebody reads in it.

    What was made is kept in a nameless sparse file under TMPDIR. A section that is made to its end is also checked;
    what its ``pieces`` raise, every read behind that place raises again. Decoders take memory: where a third section
    would be left half made, the one that was read longest ago is finished.

    With a second processor a thread goes on with sections that were begun, since who reads a part of one mostly reads
    more of it. It begins none itself, and leaves the one that is being read to the reader.
    """

    def __init__(self, sections: Sequence[Section], name: str = "") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._unfinished: list[_Maker] = []
        self._ahead: threading.Thread | None = None
        self._closed = False
        self.size = sections[-1].end if sections else 0
        self._stream = nameless()
        try:
            os.ftruncate(self._stream.fileno(), self.size)
        except OSError as error:
            raise no_room(name, error) from error
        self._makers = [_Maker(section, name, self._stream.fileno()) for section in sections]
        self._starts = [section.start for section in sections]

    def read(self, offset: int, length: int) -> bytes:
        """Make what is not there yet; raises OutputError where there is no room for it."""
        end = offset + length
        first = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        with self._lock:
            for maker in self._makers[first:]:
                if maker.section.start >= end:
                    break
                self._reach(maker, min(end, maker.section.end))
        return os.pread(self._stream.fileno(), length, offset)

    def extents(self) -> Iterator[Extent]:
        """Make all of it and yield the exact map."""
        yield from self.nonzero()

    def nonzero(self) -> ExtentMap:
        """Make all of it and return the map."""
        with self._lock:
            self._unfinished = [maker for maker in reversed(self._makers) if maker.going_on]  # the thread's, last first
            for maker in self._makers:
                self._reach(maker, maker.section.end)
        return ExtentMap(run for maker in self._makers for run in maker.found)

    def _reach(self, maker: _Maker, end: int) -> None:
        """Make a section up to ``end``; the one that is made last is the last of those that are unfinished."""
        others = [item for item in self._unfinished if item is not maker and item.going_on]
        self._unfinished = [*others, maker]
        self._make_ahead(others)
        maker.reach(end)
        self._make_ahead(self._unfinished)
        if len(others) >= _MAX_UNFINISHED and maker.going_on:
            others[0].finish()

    def _make_ahead(self, begun: Sequence[_Maker]) -> None:
        """Let a thread go on with what was begun, unless it does already or there is no processor for it."""
        idle = self._ahead is None or not self._ahead.is_alive()
        if idle and any(maker.going_on for maker in begun) and len(os.sched_getaffinity(0)) > 1:
            self._ahead = threading.Thread(target=_go_on, args=(weakref.ref(self),), name="ahead", daemon=True)
            self._ahead.start()

    def one_step_ahead(self) -> bool:
        """Make a piece of a section that was begun and is not being read; False where there is none."""
        free = [maker for maker in self._unfinished if maker.going_on and not maker.being_read]
        waiting = [] if self._closed else free
        if waiting:
            waiting[0].step(waiting[0].section.end)
        return bool(waiting)

    def close(self) -> None:
        """Let go of what was made."""
        self._closed = True
        if self._ahead is not None and self._ahead is not threading.current_thread():
            self._ahead.join()
        self._stream.close()


def _go_on(owner: weakref.ref[OnDemand]) -> None:
    """Make pieces as long as somebody holds the content and there is something to go on with."""
    while (content := owner()) is not None and content.one_step_ahead():
        del content


class _Maker:
    """Makes one section into the file ``fd``; ``found`` are the blocks made so far that are not zero."""

    def __init__(self, section: Section, name: str, fd: int) -> None:
        self.section = section
        self.being_read = False
        self.found: list[Extent] = []
        self._name = name
        self._fd = fd
        self._at = section.start
        self._pieces = whole_chunks(section.pieces())
        self._failure: Exception | None = None
        self._lock = threading.Lock()

    @property
    def going_on(self) -> bool:
        """Whether there is more to make, so that a decoder is kept for it."""
        return self._at < self.section.end and self._failure is None

    def reach(self, end: int) -> None:
        """Make the section up to ``end``, a place on the content. Raises what its ``pieces`` raised."""
        self.being_read = True  # the thread would take the lock again before the reader gets it
        try:
            while self._at < end:
                self.step(end)
                if self._failure is not None and self._at < end:
                    raise self._failure
        finally:
            self.being_read = False

    def finish(self) -> None:
        """Make the section to its end; what is wrong there is for those who read it."""
        while self.going_on:
            self.step(self.section.end)

    def step(self, end: int) -> None:
        """Make one piece, unless the section is made up to ``end``, or failed."""
        with self._lock:
            if self._at >= end or self._failure is not None:
                return
            try:
                self._make()
            except Exception as error:  # for those who read behind this place
                self._failure = error

    def _make(self) -> None:
        piece = next(self._pieces, b"")
        if not piece or len(piece) > self.section.end - self._at:
            told = f"{self.section.size} bytes of content"
            found = f"{self._at - self.section.start + len(piece)}{' or more' if piece else ''}"
            raise CorruptError(f"{self._name} holds other than its headers say", expected=told, actual=found)
        try:
            self.found += write_sparse(self._fd, piece, self._at)
        except OSError as error:
            raise no_room(self._name, error) from error
        at = self._at + len(piece)
        if at == self.section.end and next(self._pieces, b""):
            told = f"{self.section.size} bytes of content"
            raise CorruptError(f"{self._name} holds more than its headers say", expected=told, actual="more")
        self._at = at
