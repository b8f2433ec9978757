"""Running programs and measuring them: wall time, CPU time and peak memory of each whole process."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from .errors import BenchError

Command: TypeAlias = Sequence[str]
_KIB = 1024  # unit of ru_maxrss on Linux


@dataclass(frozen=True)
class Usage:
    """What one or more processes took: seconds, and the peak resident memory of the largest one in bytes."""

    wall: float
    cpu: float
    memory: int

    def then(self, other: Usage) -> Usage:
        """Return the usage of this one and, after it, of ``other``."""
        return Usage(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory))


@dataclass(frozen=True)
class Outcome:
    """How a pipeline ended. ``failure`` is empty when every process returned zero."""

    usage: Usage
    output: str
    failure: str = ""


class _Killer:
    """Kills processes when a time limit is over."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], limit: float | None) -> None:
        self._processes = processes
        self.fired = False
        self._timer = threading.Timer(limit, self._kill) if limit else None
        if self._timer:
            self._timer.start()

    def _kill(self) -> None:
        self.fired = True
        for process in self._processes:
            if process.returncode is None:
                process.kill()

    def stop(self) -> None:
        """End the watch."""
        if self._timer:
            self._timer.cancel()


def _start(
    pipeline: Sequence[Command], out: IO[bytes] | int, err: IO[bytes], env: Mapping[str, str] | None
) -> list[subprocess.Popen[bytes]]:
    processes: list[subprocess.Popen[bytes]] = []
    upstream: IO[bytes] | int = subprocess.DEVNULL
    for number, command in enumerate(pipeline):
        last = number == len(pipeline) - 1
        process = subprocess.Popen(
            list(command), stdin=upstream, stdout=out if last else subprocess.PIPE, stderr=err, env=env
        )
        if not isinstance(upstream, int):
            upstream.close()
        if process.stdout is not None:
            upstream = process.stdout
        processes.append(process)
    return processes


def _reap(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Wait for a process; return its CPU seconds and peak memory, those of its own children included."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * _KIB


def attempt(
    *pipeline: Command, env: Mapping[str, str] | None = None, limit: float | None = None, keep_output: bool = True
) -> Outcome:
    """Run one pipeline to its end and measure it; output is kept only where it is small enough to be text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        processes = _start(pipeline, out if keep_output else subprocess.DEVNULL, err, env)
        killer = _Killer(processes, limit)
        try:
            used = [_reap(process) for process in processes]
        finally:
            killer.stop()
        wall = time.monotonic() - begun
        usage = Usage(wall, sum(cpu for cpu, _ in used), max(memory for _, memory in used))
        out.seek(0)
        err.seek(0)
        failure = _failure(pipeline, processes, err.read(1 << 16).decode(errors="replace"))
        if killer.fired:
            failure = f"stopped after {limit:.0f} s"
        return Outcome(usage, out.read(1 << 24).decode(errors="replace"), failure)


def _failure(pipeline: Sequence[Command], processes: Sequence[subprocess.Popen[bytes]], said: str) -> str:
    for command, process in zip(pipeline, processes, strict=True):
        if process.returncode:
            lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
            last = lines[-1] if lines else "no message"
            return f"{Path(command[0]).name} ended with {process.returncode}: {last}"
    return ""


def run(*pipeline: Command, env: Mapping[str, str] | None = None, keep_output: bool = True) -> Outcome:
    """Run one pipeline that has to succeed; raises BenchError when it does not."""
    outcome = attempt(*pipeline, env=env, keep_output=keep_output)
    if outcome.failure:
        raise BenchError(outcome.failure)
    return outcome
