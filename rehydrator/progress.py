"""Progress on standard error: a bar on a terminal, plain lines or JSON lines elsewhere, or nothing.

The flows report to a :class:`Progress`; how it looks is chosen at the edge. Tasks may run in several threads.
"""

from __future__ import annotations

import enum
import json
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

_BAR_INTERVAL = 0.1  # seconds between two drawings
_PLAIN_INTERVAL = 10.0
_WIDTH = 24


class Style(enum.StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class Cancelled(BaseException):
    """Raised in worker threads after :meth:`Progress.cancel`; not an error to be reported or handled."""


class Progress:
    """Shows nothing; the base of the other styles."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Make each running task stop at its next step."""
        self._cancelled.set()

    def task(self, name: str, total: int | None = None) -> Task:
        """Begin a task of ``total`` bytes (None: unknown); use it as a context manager."""
        return Task(self, name, total)

    def say(self, text: str) -> None:
        """Show one line that stays."""

    def started(self, task: Task) -> None:
        """Show that a task began."""

    def moved(self, task: Task) -> None:
        """Show that a task advanced; called often."""

    def finished(self, task: Task) -> None:
        """Show that a task ended."""

    def check(self) -> None:
        """Raise :class:`Cancelled` after :meth:`cancel`."""
        if self._cancelled.is_set():
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Wait; raise :class:`Cancelled` as soon as :meth:`cancel` is called."""
        if self._cancelled.wait(seconds):
            raise Cancelled


class Task:
    """One piece of work with a name. ``note`` set before the end is shown with it."""

    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self.name = name
        self.total = total
        self.done = 0
        self.note = ""
        self.failed = False
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the task began."""
        return time.monotonic() - self.begun

    def advance(self, count: int) -> None:
        """Report ``count`` more bytes."""
        self._progress.check()
        self.done += count
        self._progress.moved(self)

    def __enter__(self) -> Self:
        self._progress.started(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.failed = kind is not None
        self._progress.finished(self)


class _Lines(Progress):
    """Common to the styles that write: one stream, one lock."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads our progress any more: no reason to stop
                return


class PlainProgress(_Lines):
    """A line when a task ends, and every ten seconds while it runs."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._shown: dict[int, float] = {}

    def say(self, text: str) -> None:
        """Write the line."""
        self._write(text + "\n")

    def moved(self, task: Task) -> None:
        """Write how far the task is, now and then."""
        if task.seconds - self._shown.get(id(task), 0.0) >= _PLAIN_INTERVAL:
            self._shown[id(task)] = task.seconds
            self.say(f"{task.name}: {_amount(task)}")

    def finished(self, task: Task) -> None:
        """Write the result."""
        self._shown.pop(id(task), None)
        if not task.failed:
            self.say(f"{task.name}: {task.note or 'done'} ({task.seconds:.1f} s)")


class BarProgress(_Lines):
    """A line that is drawn again and again, and one that stays for each task that ended."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._running: list[Task] = []
        self._drawn = 0.0

    def say(self, text: str) -> None:
        """Write the line above the bar."""
        self._write(f"\r\x1b[K{text}\n")

    def started(self, task: Task) -> None:
        """Add the task to the bar."""
        with self._lock:
            self._running.append(task)

    def moved(self, task: Task) -> None:
        """Draw the bar unless it was drawn just now."""
        now = time.monotonic()
        if now - self._drawn < _BAR_INTERVAL:
            return
        self._drawn = now
        filled = _WIDTH * task.done // task.total if task.total else 0
        bar = "#" * min(filled, _WIDTH) + "-" * (_WIDTH - min(filled, _WIDTH))
        others = f" (+{len(self._running) - 1})" if len(self._running) > 1 else ""
        self._write(f"\r\x1b[K[{bar}] {task.name} {_amount(task)}{others}")

    def finished(self, task: Task) -> None:
        """Replace the bar by the result."""
        with self._lock:
            self._running.remove(task)
        self._write("\r\x1b[K")
        if not task.failed:
            self.say(f"{task.name}: {task.note or 'done'} ({task.seconds:.1f} s)")


class JsonProgress(_Lines):
    """One JSON object per line: ``{"event": ..., "task": ..., "done": ..., "total": ...}``."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._shown: dict[int, float] = {}

    def say(self, text: str) -> None:
        """Write a message event."""
        self._write(json.dumps({"event": "message", "text": text}) + "\n")

    def _event(self, event: str, task: Task) -> None:
        fields = {"event": event, "task": task.name, "done": task.done, "total": task.total}
        if event == "finished":
            fields |= {"seconds": round(task.seconds, 3), "note": task.note, "ok": not task.failed}
        self._write(json.dumps(fields) + "\n")

    def started(self, task: Task) -> None:
        """Write a started event."""
        self._event("started", task)

    def moved(self, task: Task) -> None:
        """Write a progress event, at most once a second."""
        if task.seconds - self._shown.get(id(task), 0.0) >= 1.0:
            self._shown[id(task)] = task.seconds
            self._event("progress", task)

    def finished(self, task: Task) -> None:
        """Write a finished event."""
        self._shown.pop(id(task), None)
        self._event("finished", task)


def _amount(task: Task) -> str:
    mib = 1 << 20
    rate = task.done / max(task.seconds, 0.001) / mib
    if task.total:
        return f"{100 * task.done // task.total} % of {task.total / mib:.0f} MiB, {rate:.0f} MiB/s"
    return f"{task.done / mib:.0f} MiB, {rate:.0f} MiB/s"


def make_progress(style: Style, stream: TextIO | None = None) -> Progress:
    """Return the progress of a style; ``auto`` asks whether the stream is a terminal."""
    stream = stream or sys.stderr
    match style:
        case Style.NONE:
            return Progress()
        case Style.JSON:
            return JsonProgress(stream)
        case Style.PLAIN:
            return PlainProgress(stream)
        case Style.AUTO:
            return BarProgress(stream) if stream.isatty() else PlainProgress(stream)
