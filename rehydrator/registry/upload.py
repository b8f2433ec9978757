"""Sending one blob: small ones in one request, large ones in pieces, resumed where the registry has got to.

Source: OCI distribution specification 1.1, "Pushing blobs".
"""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from rehydrator.errors import FetchError, InputError, TemporaryFetchError
from rehydrator.oci.c_oci import Descriptor
from rehydrator.progress import Task
from rehydrator.registry.session import Session
from rehydrator.transport.client import Answer

PIECE = 8 << 20  # bytes; some registries want 5 MiB at least
_NO_CONTENT = {"Content-Length": "0"}
_OCTETS = {"Content-Type": "application/octet-stream"}
_MAX_SAID = 1 << 16
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_LOST = (HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    """What a registry says when it refuses something."""

    errors: list[_Problem] = []


class Upload:
    """The attempts to send one file, of the size and digest of ``descriptor``."""

    def __init__(self, session: Session, path: Path, descriptor: Descriptor, task: Task) -> None:
        self._task = task
        self._session = session
        self._path = path
        self._descriptor = descriptor
        self._location = ""
        self._at = 0  # what the registry has, in bytes
        self._seen = 0

    def advanced(self) -> bool:
        """Whether the registry has got more since this was asked last."""
        before, self._seen = self._seen, self._at
        return self._at > before

    def attempt(self) -> None:
        """Send what the registry lacks, and have it compare the digest.

        Raises TemporaryFetchError where another attempt may succeed: it goes on where this one ended.
        """
        if self._location:
            self._ask()
        if not self._location:
            self._begin()
        try:
            with self._path.open("rb") as file:
                if self._descriptor.size > PIECE:
                    while self._at < self._descriptor.size:
                        self._send_piece(os.pread(file.fileno(), PIECE, self._at))
                    self._finish(b"")
                else:
                    self._finish(os.pread(file.fileno(), PIECE, 0))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", path=self._path) from error

    def _begin(self) -> None:
        """Open a session at the registry."""
        accept = (HTTPStatus.ACCEPTED, *_REFUSED)
        with self._session.send("POST", self._session.url("blobs/uploads/"), _NO_CONTENT, accept=accept) as answer:
            self._take(answer)
        self._go_to(0)

    def _go_to(self, at: int) -> None:
        """Note what the registry has."""
        self._task.advance(at - self._at)
        self._at = at

    def _ask(self) -> None:
        """Ask how far an upload has got that broke off; forget one that the registry has forgotten."""
        with self._session.get(self._location, accept=(HTTPStatus.NO_CONTENT, *_LOST)) as answer:
            answer.read(_MAX_SAID)
            found = _RANGE.fullmatch(answer.header("Range"))
            if answer.status != HTTPStatus.NO_CONTENT or not found or int(found[1]) >= self._descriptor.size:
                self._location = ""
                return
            # the end of the range is that of its last byte; it is 0 too where there is none
            self._go_to(int(found[1]) + 1 if found[1] != "0" else 0)
            self._location = self._next(answer)

    def _send_piece(self, piece: bytes) -> None:
        if not piece:
            raise InputError("is shorter than it was", path=self._path)
        headers = _OCTETS | {"Content-Range": f"{self._at}-{self._at + len(piece) - 1}"}
        accept = (HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, *_LOST, *_REFUSED)
        with self._session.send("PATCH", self._location, headers, piece, accept) as answer:
            self._take(answer)
        self._go_to(self._at + len(piece))

    def _finish(self, rest: bytes) -> None:
        separator = "&" if urlsplit(self._location).query else "?"
        url = f"{self._location}{separator}{urlencode({'digest': self._descriptor.digest})}"
        accept = (HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, *_LOST, *_REFUSED)
        headers = _OCTETS | {"Content-Length": str(len(rest))}
        with self._session.send("PUT", url, headers, rest, accept) as answer:
            self._check(answer)
        self._go_to(self._descriptor.size)

    def _take(self, answer: Answer) -> None:
        """Check an answer and note where the upload goes on."""
        self._check(answer)
        self._location = self._next(answer)

    def _check(self, answer: Answer) -> None:
        said = answer.read(_MAX_SAID)
        if answer.status in _LOST:
            self._location = ""
            raise TemporaryFetchError("the registry lost the upload", path=answer.url)
        if answer.status in _REFUSED:
            raise refusal(answer, said)

    def _next(self, answer: Answer) -> str:
        location = answer.header("Location")
        if not location:
            raise FetchError("the registry does not say where to send the rest", path=answer.url)
        return urljoin(answer.url, location)


def refusal(answer: Answer, said: bytes) -> FetchError:
    """Return the error for what a registry refused, with its reasons where it tells some."""
    try:
        problems = msgspec.json.decode(said, type=_Problems).errors
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problems = []
    reasons = ", ".join(f"{problem.code} {problem.message}".strip() for problem in problems)[:200]
    return FetchError(f"the registry refuses: {reasons or f'status {answer.status}'}", path=answer.url)
