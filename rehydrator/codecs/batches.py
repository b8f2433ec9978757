"""Compressing on all cores what is read in another order than it is written in.

What compresses one piece after the other reads a disk wherever the pieces' content happens to lie. Here a batch of
pieces is read in the order in which reading costs least, while the pieces of the batch before are given out.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import msgspec

from rehydrator.codecs.deflate_pool import ReadAhead, Work, pool

T = TypeVar("T")
_GROWTH = 4  # the first batch is small, so that the first bytes come soon


class Prepared(msgspec.Struct, Generic[T], frozen=True):
    """The work that makes a piece of which everything is read."""

    number: int
    work: Work[T]


class Batches(Generic[T]):
    """Pieces ``0 .. len(costs)-1``, made in batches for who begins at the first and goes on to the last.

    ``prepare`` yields the pieces of a range of numbers in any order, each once; it runs in the reader's thread.
    ``costs`` are the bytes that each takes in memory until it is given out, of which a batch has at most ``most``; two
    batches are held. Other readers get what ``one`` prepares, as from :class:`ReadAhead` with the same ``ahead``, which
    is also how many works wait for a processor.
    """

    def __init__(
        self,
        costs: Sequence[int],
        prepare: Callable[[range], Iterator[Prepared[T]]],
        one: Callable[[int], Work[T]],
        *,
        ahead: int,
        most: int,
    ) -> None:
        self._costs = costs
        self._prepare = prepare
        self._ahead = ahead
        self._most = most
        self._lock = threading.Lock()
        self._others = ReadAhead(len(costs), one, ahead=ahead)
        self._made: dict[int, Future[T]] = {}
        self._waiting: deque[Future[T]] = deque()
        self._forget()

    def __getitem__(self, number: int) -> T:
        """Return a piece; raises what its work raised, and what reading a batch raises."""
        if not 0 <= number < len(self._costs):
            raise IndexError(number)
        with self._lock:
            if number == 0 and 0 not in self._made:
                self._forget()
                self._last = -1
            made = self._next(number) if number in {self._last, self._last + 1} else None
        return self._others[number] if made is None else made.result()

    def _forget(self) -> None:
        for future in self._made.values():
            future.cancel()
        self._made.clear()
        self._waiting.clear()
        self._last = -2  # nobody goes forward
        self._batch: Iterator[Prepared[T]] = iter(())
        self._length = 0  # of the last batch, if it has no more than its costs allow
        self._begun = 0  # numbers below this are in a batch
        self._complete = 0  # below this their works have begun

    def _next(self, number: int) -> Future[T]:
        """Go on to a piece: begin what is missing of its batch, and one piece of the next."""
        try:
            while number >= self._complete:
                self._begin()
            if number > self._last:
                self._begin()
        except BaseException:
            self._forget()
            raise
        while self._last < number:
            self._made.pop(self._last, None)
            self._last += 1
        return self._made[number]

    def _begin(self) -> None:
        """Begin one more work, of the next batch where none is left of the last; nothing at the end of all."""
        prepared = next(self._batch, None)
        if prepared is None:
            self._complete = self._begun
            if self._begun == len(self._costs):
                return
            self._batch = self._prepare(self._range())
            prepared = next(self._batch)
        while len(self._waiting) > self._ahead:
            self._waiting.popleft().exception()  # told to the reader of that piece
        future = pool().submit(prepared.work)
        self._made[prepared.number] = future
        self._waiting.append(future)

    def _range(self) -> range:
        """Return the numbers of the next batch, and count them as begun."""
        start = self._begun
        self._length = max(self._ahead, self._length * _GROWTH)
        end = min(start + self._length, len(self._costs))
        cost = 0
        for number in range(start, end):
            cost += self._costs[number]
            if cost > self._most and number > start:
                end = number
                break
        self._begun = end
        return range(start, end)
