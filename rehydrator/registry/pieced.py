"""Reading a large blob while it comes: what is read is fetched by range, compared and kept in the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from rehydrator.errors import MismatchError, StoreDamagedError, TemporaryFetchError
from rehydrator.manifest.schema import File
from rehydrator.progress import Cancelled, Progress, Task
from rehydrator.registry.readahead import Reader, next_run
from rehydrator.registry.sparse import SparseFile
from rehydrator.store.pieces import PieceDigests
from rehydrator.transport.client import Patience, persist
from rehydrator.transport.ranges import Part

Ask = Callable[[int, int], AbstractContextManager[Part]]  # for bytes from start to stop, or for all of them
_LOOK = 0.2  # seconds between two looks whether the command was interrupted


class _Pauses(Progress):
    """Lets one file's thread be stopped by itself; what it says is shown."""

    def __init__(self, outer: Progress) -> None:
        super().__init__()
        self._outer = outer

    def say(self, text: str) -> None:
        """Show a line."""
        self._outer.say(text)


class PiecedFile:
    """A file of a store in a registry; see :class:`~rehydrator.disk.source.ByteFile`.

    A thread fetches what readers wait for, and ahead of those who read from front to back. An error in it is raised to
    whoever waits. ``target`` is where the file will be when all of it has come, ``name`` what it is called in messages.
    """

    def __init__(
        self,
        file: File,
        digests: PieceDigests,
        target: Path,
        name: Path,
        ask: Ask,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self.path = name
        self.size = file.size
        self._file = file
        self._digests = digests
        self._sparse = SparseFile(target, digests)
        self._ask = ask
        self._patience = patience
        self._progress = progress
        self._pauses = _Pauses(progress)
        self._ranges = True  # until the registry shows that they can't be used
        self._reader = Reader()
        self._waited_for: list[int] = []
        self._moved = threading.Condition()
        self._stopped = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file after they came and were compared. Raises what went wrong while they came."""
        wanted = self._digests.touched(offset, length)
        if not wanted:
            return b""
        with self._moved:
            self._reader = self._reader.moved(wanted)
            self._waited_for += self._missing(wanted)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pieces", daemon=True)
                self._thread.start()
            self._moved.notify_all()
            while self._missing(wanted):
                if self._error is not None:
                    raise self._error
                if self._stopped:
                    raise Cancelled
                self._progress.check()
                self._moved.wait(_LOOK)
        return self._sparse.read(offset, length)

    def _missing(self, pieces: range) -> list[int]:
        return [index for index in pieces if not self._sparse.there[index]]

    def _run(self) -> None:
        """Fetch until everything is there, or until the file is closed."""
        try:
            with self._progress.task(f"fetch {self._file.name}", self.size) as task:
                while run := self._next():
                    self._fetch(run, task)
                if all(self._sparse.there):
                    self._sparse.complete(self._file.sha256)
                    task.note = "sha256 ok"
                else:
                    task.note = f"{sum(self._sparse.there)} of {self._digests.count} pieces"
        except BaseException as error:  # whoever waits has to learn of it
            with self._moved:
                self._error = _told(error, self.path)
                self._moved.notify_all()

    def _next(self) -> range:
        """Wait until something is to be fetched; return an empty range when nothing will be any more."""
        with self._moved:
            while not self._stopped and not all(self._sparse.there):
                self._waited_for = [index for index in self._waited_for if not self._sparse.there[index]]
                if run := next_run(self._waited_for, self._reader, self._sparse.there):
                    return run
                self._moved.wait()
        return range(0)

    def _fetch(self, run: range, task: Task) -> None:
        """Bring a run of pieces, unless an earlier run of the program or another process has brought them."""
        with self._sparse.alone(self._pauses):
            self._sparse.look(run)
            for index in run:
                if self._sparse.there[index]:
                    self._arrived(index, task)
            got = sum(self._sparse.there)

            def advanced() -> bool:
                nonlocal got
                before, got = got, sum(self._sparse.there)
                return got > before

            persist(lambda: self._attempt(run, task), self._patience, self._pauses, advanced=advanced)

    def _attempt(self, run: range, task: Task) -> None:
        missing = self._missing(run)
        if not missing:
            return
        first, last = (missing[0], missing[-1]) if self._ranges else (0, self._digests.count - 1)
        try:
            with self._ask(self._digests.start(first), self._digests.start(last + 1)) as part:
                self._take(part, task)
        except TemporaryFetchError as error:
            if self._stopped:
                raise Cancelled from error
            raise
        except MismatchError as error:
            if not self._ranges:
                raise
            self._ranges = False
            self._progress.say(f"{self.path}: no range of it can be used, so that all of it is fetched: {error.reason}")
            self._attempt(run, task)

    def _take(self, part: Part, task: Task) -> None:
        """Compare and keep what comes, piece by piece."""
        index, data = part.start // self._digests.piece, bytearray()
        for received in _bounded(part):
            data += received
            while index < self._digests.count and len(data) >= self._digests.length(index):
                length = self._digests.length(index)
                if not self._sparse.there[index]:
                    self._sparse.put(index, bytes(data[:length]))
                    self._arrived(index, task)
                del data[:length]
                index += 1
        if self._digests.start(index) < part.stop:
            raise TemporaryFetchError("ended early", path=self.path)

    def _arrived(self, index: int, task: Task) -> None:
        task.advance(self._digests.length(index))
        with self._moved:
            self._moved.notify_all()

    def stop(self) -> None:
        """Let nobody wait for what has not come yet; the connection is for the caller to shut."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()
        self._pauses.cancel()

    def close(self) -> None:
        """Stop, and close the file; what has come stays in the cache."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._sparse.close()


def _bounded(part: Part) -> Iterator[bytes]:
    """Yield what comes. Raises MismatchError for more than there should be."""
    length = part.stop - part.start
    for received in part.body.pieces():
        length -= len(received)
        if length < 0:
            raise MismatchError("is larger than it should be", expected=f"{part.stop - part.start} bytes")
        yield received


def _told(error: BaseException, path: Path) -> BaseException:
    """Return an error with the name of the file, for those who wait for it."""
    return error.located(path, hint="Push it again") if isinstance(error, StoreDamagedError) else error
