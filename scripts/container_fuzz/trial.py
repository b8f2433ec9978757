"""Running inputs with limits on time and memory."""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Never

import msgspec

from rehydrator.errors import RehydratorError

from .targets import Target

MAX_SECONDS = 10.0  # of processor time, for one input
MAX_MEMORY = 1 << 30  # of address space, beyond what the process had


class TooSlowError(BaseException):
    """An input took too much processor time."""


class Failure(msgspec.Struct, frozen=True):
    """An input that did more than be refused."""

    seed: int
    problem: str
    data: bytes


class Outcome(msgspec.Struct):
    """How a target fared."""

    name: str
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    failures: list[Failure] = []

    def joined(self, other: Outcome) -> Outcome:
        """Return both together."""
        return Outcome(
            self.name,
            self.accepted + other.accepted,
            self.refused + other.refused,
            max(self.slowest, other.slowest),
            self.failures + other.failures,
        )

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.accepted + self.refused} inputs, {self.accepted} accepted, {self.refused} refused, "
            f"{len(self.failures)} failures, slowest {self.slowest:.2f} s"
        )


def run(target: Target, count: int, first: int) -> Outcome:
    """Give ``count`` inputs to a target; each follows from its seed, the number of the input."""
    outcome = Outcome(target.name)
    with limited():
        for seed in range(first, first + count):
            data = target.inputs(random.Random(f"{target.name} {seed}"))
            started = time.process_time()
            try:
                signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
                if _is_refused(target, data):
                    outcome.refused += 1
                else:
                    outcome.accepted += 1
            except (Exception, TooSlowError) as error:  # this is what is looked for
                where = traceback.extract_tb(error.__traceback__)[-1]
                problem = f"{type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})"
                outcome.failures.append(Failure(seed, problem, data))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            outcome.slowest = max(outcome.slowest, time.process_time() - started)
    return outcome


def _is_refused(target: Target, data: bytes) -> bool:
    try:
        target.parse(data)
    except RehydratorError as error:
        str(error)  # the message may fail as well
        return True
    return False


@contextmanager
def limited() -> Iterator[None]:
    """Bound processor time per input and address space."""

    def too_slow(_signal: int, _frame: FrameType | None) -> Never:
        raise TooSlowError(f"more than {MAX_SECONDS} s")

    before = signal.signal(signal.SIGPROF, too_slow)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MAX_MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, before)


def _address_space() -> int:
    """Return how much address space the process has now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
