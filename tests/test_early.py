"""Files that are compressed before they are read: while what stands in front of them is, and never for a look-up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rehydrator.disk.extents import CHUNK, Extent
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import MismatchError
from rehydrator.layers import early
from rehydrator.layers.early import Archive, Early
from tests.test_parts import whole

FRONT, FILE = os.urandom(CHUNK + 5), os.urandom(3 * CHUNK + 7)
SECONDS = 60


class Slow(Source):
    """A file that tells when it is made."""

    def __init__(self, error: Exception | None = None) -> None:
        self.size = len(FILE)
        self.begun = threading.Event()
        self._error = error

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.size)

    def read(self, offset: int, length: int) -> bytes:
        self.begun.set()
        if self._error:
            raise self._error
        return FILE[offset : offset + length]


class Waiting(BytesSource):
    """What stands in front of a file; reading it waits until that is made."""

    def __init__(self, begun: threading.Event) -> None:
        super().__init__(FRONT)
        self._begun = begun

    def read(self, offset: int, length: int) -> bytes:
        assert self._begun.wait(SECONDS)
        return bytes(super().read(offset, length))


@pytest.fixture(autouse=True)
def encoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.BoundedSemaphore]:
    """Two, whatever this machine has, and as many encoders; all of them are free again in the end."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    running = threading.BoundedSemaphore(2)
    monkeypatch.setattr(early, "RUNNING", running)
    yield running
    assert running.acquire(timeout=SECONDS)
    assert running.acquire(timeout=SECONDS)


def archive(front: Source, file: Source) -> Archive:
    begun = Early(file)
    return Archive([front, begun], [begun])


def test_it_is_made_while_the_front_is_read() -> None:
    file = Slow()
    assert whole(archive(Waiting(file.begun), file)) == FRONT + FILE


@pytest.mark.parametrize("first", [1, 2048, 64 << 10])
def test_the_first_piece_may_be_short(first: int) -> None:
    """An archive in a larger file begins anywhere in what is read at once."""
    file = Slow()
    made = archive(BytesSource(FRONT), file)
    assert made.read(0, first) == FRONT[:first]
    assert made.read(first, CHUNK // 2) == FRONT[first : first + CHUNK // 2]
    assert file.begun.wait(SECONDS)


@pytest.mark.parametrize("place", [(0, 8), (100, CHUNK // 2), (len(FRONT) - 4, 4)])
def test_looking_something_up_begins_nothing(place: tuple[int, int]) -> None:
    file = Slow()
    assert archive(BytesSource(FRONT), file).read(*place) == FRONT[place[0] :][: place[1]]
    assert not file.begun.is_set()


def test_a_short_archive_is_read_at_once() -> None:
    file = Slow()
    made = archive(BytesSource(b"front"), file)
    assert bytes(made.read(0, made.size)) == b"front" + FILE


def test_an_error_is_for_who_reads_it() -> None:
    file = Slow(MismatchError("another size"))
    made = archive(Waiting(file.begun), file)
    assert made.read(0, CHUNK) == FRONT[:CHUNK]
    with pytest.raises(MismatchError, match="another size"):
        made.read(CHUNK, CHUNK)


@pytest.mark.parametrize("taken", [0, 2])
def test_without_a_processor_or_memory_it_is_made_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch, encoders: threading.BoundedSemaphore, taken: int
) -> None:
    """One processor, or other files' encoders that have all the memory."""
    if not taken:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    file = Slow()
    made = archive(BytesSource(FRONT), file)
    with ExitStack() as stack:
        for _ in range(taken):
            stack.enter_context(encoders)
        assert made.read(0, CHUNK) == FRONT[:CHUNK]
        assert not file.begun.is_set()
        assert bytes(made.read(len(FRONT), len(FILE))) == FILE


def test_without_room_it_is_made_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/dev/null/missing")
    file = Slow()
    assert whole(archive(BytesSource(FRONT), file)) == FRONT + FILE
