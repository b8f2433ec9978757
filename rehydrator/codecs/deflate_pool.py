"""Compressing on all cores: numbered pieces, made ahead of a reader that goes through them in order."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
Work: TypeAlias = Callable[[], T]


@functools.cache
def pool() -> ThreadPoolExecutor:
    """The threads that all readers share, one per processor: zlib releases the interpreter lock."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "deflate")


os.register_at_fork(after_in_child=pool.cache_clear)  # a fork has none of the threads


class ReadAhead(Generic[T]):
    """Pieces ``0 .. count-1``, each made by the work that ``prepare`` returns for its number.

    ``prepare`` runs in the reader's thread, so that what it reads is read in order; the work runs in the pool. A
    reader that goes forward gets ``ahead`` pieces made in advance; at most twice as many are held.
    """

    def __init__(self, count: int, prepare: Callable[[int], Work[T]], *, ahead: int) -> None:
        self._count = count
        self._prepare = prepare
        self._ahead = ahead
        self._lock = threading.Lock()
        self._made: OrderedDict[int, Future[T]] = OrderedDict()
        self._last = -1

    def __getitem__(self, number: int) -> T:
        """Return a piece; raises what its work raised."""
        with self._lock:
            following = self._ahead if number in (self._last, self._last + 1) else 0
            self._last = number
            for at in range(number, min(number + following + 1, self._count)):
                if at not in self._made:
                    self._made[at] = pool().submit(self._prepare(at))
            made = self._made[number]
            self._made.move_to_end(number)
            while len(self._made) > 2 * self._ahead + 1:
                self._made.popitem(last=False)[1].cancel()
        return made.result()


def in_order(works: Iterable[Work[T]], ahead: int) -> Generator[T, None, None]:
    """Yield what each work makes, in their order, while as many as ``ahead`` of the next ones are made.

    ``works`` is gone through in the reader's thread.
    """
    running: deque[Future[T]] = deque()
    try:
        for work in works:
            running.append(pool().submit(work))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
