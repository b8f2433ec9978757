"""Fetching one file over HTTP(S): resumed, bounded, under its name only when its sha256 is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import msgspec

from rehydrator.errors import MismatchError, TemporaryFetchError
from rehydrator.progress import Progress, Task
from rehydrator.transport.client import Answer, Patience, persist
from rehydrator.transport.partial import Origin, Partial

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MOST = 64 << 30  # bytes; for files whose size nobody told, so that a server can't fill the disk
_ACCEPT = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


class Wanted(msgspec.Struct, frozen=True):
    """A file to fetch: where it is and its sha256 in hexadecimal; ``size`` in bytes where it is known.

    ``title`` is what the user is told, the name of the target by default.
    """

    location: str
    sha256: str
    size: int | None = None
    title: str = ""


class Getter(Protocol):
    """What answers to GET requests: a client, or something that adds to its requests."""

    @property
    def patience(self) -> Patience:
        """How long to wait, and how often to try again."""
        ...

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, accept: Collection[int] = (HTTPStatus.OK,)
    ) -> AbstractContextManager[Answer]:
        """Give the answer to a request, as a client does."""
        ...


def fetch(client: Getter, wanted: Wanted, target: Path, check: Callable[[Path], None], progress: Progress) -> None:
    """Fetch ``wanted`` to ``target``.

    What an earlier run or attempt brought is kept and the rest asked for by range, under the condition that the file is
    still the same; a server without ranges sends all of it again. ``check`` is called with the path of the complete
    file after its sha256 was compared and before it gets its name; a MismatchError that it raises removes the file.

    Raises FetchError, OutputError (what came so far is kept) and MismatchError for other bytes than wanted.
    """
    with Partial(target) as part, progress.task(f"fetch {wanted.title or target.name}", wanted.size) as task:
        try:
            _complete(_Transfer(client, wanted, part, task), wanted, progress)
            check(part.path)
        except MismatchError:
            part.discard()
            raise
        part.commit()
        task.note = "sha256 ok"


def _complete(transfer: _Transfer, wanted: Wanted, progress: Progress) -> None:
    """Bring the whole file and compare its digest."""
    if transfer.complete(progress) == wanted.sha256:
        return
    # Another version took its place while it was fetched, or somebody on the way changed it: once more, in one go.
    progress.say(f"{wanted.location}: its sha256 is wrong; fetching it again from the beginning")
    transfer.restart()
    actual = transfer.complete(progress)
    if actual != wanted.sha256:
        raise MismatchError(
            "has another sha256 than it should", path=wanted.location, expected=wanted.sha256, actual=actual
        )


class _Transfer:
    """The attempts to bring one file."""

    def __init__(self, client: Getter, wanted: Wanted, part: Partial, task: Task) -> None:
        self._client = client
        self._wanted = wanted
        self._part = part
        self._task = task
        origin = part.origin
        if origin is not None and (origin.location, origin.sha256) != (wanted.location, wanted.sha256):
            part.restart()
        task.advance(part.size)

    def restart(self) -> None:
        """Drop what has come."""
        self._task.advance(-self._part.size)
        self._part.restart()

    def complete(self, progress: Progress) -> str:
        """Bring the rest, in as many attempts as patience allows; return the sha256 of the whole."""
        gained = self._part.size

        def advanced() -> bool:
            nonlocal gained
            before, gained = gained, self._part.size
            return gained >= before + self._client.patience.floor

        persist(self._attempt, self._client.patience, progress, advanced=advanced)
        return self._part.hexdigest()

    def _attempt(self) -> None:
        with self._client.get(self._wanted.location, self._headers(), _ACCEPT) as answer:
            match answer.status:
                case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    if answer.header("Content-Range") == f"bytes */{self._part.size}":
                        return  # it was complete already
                    self.restart()
                    raise TemporaryFetchError("can't be resumed", path=self._wanted.location)
                case HTTPStatus.PARTIAL_CONTENT:
                    self._check_range(answer)
                case _:
                    self.restart()
                    length = answer.header("Content-Length")
                    self._check_size(int(length) if length.isdecimal() else None)
            self._part.begin(Origin(self._wanted.location, self._wanted.sha256, _validator(answer)))
            self._receive(answer)

    def _headers(self) -> dict[str, str]:
        part = self._part
        if not part.size or part.origin is None:
            return {}
        condition = {"If-Range": part.origin.validator} if part.origin.validator else {}
        return {"Range": f"bytes={part.size}-"} | condition

    def _check_range(self, answer: Answer) -> None:
        """Make sure that what comes continues what is here; else begin again."""
        found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
        known = self._part.origin.validator if self._part.origin else ""
        if found is None or int(found[1]) != self._part.size or _validator(answer) != known:
            self.restart()
            raise TemporaryFetchError("the server sends another range than asked for", path=self._wanted.location)
        self._check_size(int(found[3]) if found[3] != "*" else None)

    def _check_size(self, size: int | None) -> None:
        """Compare the size that the server announces with what the metadata or reason allow."""
        wanted = self._wanted.size
        if size is None:
            return
        if (wanted is not None and size != wanted) or size > _MOST:
            raise MismatchError(
                "has another size", path=self._wanted.location, expected=wanted or f"at most {_MOST}", actual=size
            )
        self._task.total = size

    def _receive(self, answer: Answer) -> None:
        most = _MOST if self._wanted.size is None else self._wanted.size
        for piece in answer.pieces():
            if self._part.size + len(piece) > most:
                raise MismatchError("is larger than it should be", path=self._wanted.location, expected=most)
            self._part.write(piece)
            self._task.advance(len(piece))
        if self._wanted.size is not None and self._part.size < self._wanted.size:
            raise TemporaryFetchError("ended early", path=self._wanted.location)


def _validator(answer: Answer) -> str:
    """Return what ``If-Range`` may name: a strong entity tag, else the time of the last change (RFC 9110, 13.1.5)."""
    tag = answer.header("ETag")
    return tag if tag and not tag.startswith("W/") else answer.header("Last-Modified")
