"""Calls into libguestfs in a thread of their own, so that none of them can hold the program for ever."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_STEP = 0.1  # seconds between two looks at a call that runs


class StalledError(Exception):
    """A call did not end in time. It may still run: end the machine that it waits for."""


class Caller:
    """Runs calls one after the other in one thread; the caller waits, but can be interrupted or give up."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="libguestfs", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def run(self, function: Callable[[], T], alive: Callable[[float], bool]) -> T:
        """Return what ``function`` returns, or raise what it raises.

        ``alive`` is asked now and then with the seconds since the call began; StalledError is raised when it says no.
        """
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def call() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        begun = time.monotonic()
        self._calls.put(call)
        while not done.wait(_STEP):
            if not alive(time.monotonic() - begun):
                raise StalledError
        if errors:
            raise errors[0]
        return results[0]

    def close(self, patience: float) -> None:
        """Let the thread end when its calls have; wait at most ``patience`` seconds."""
        self._calls.put(None)
        self._thread.join(patience)
