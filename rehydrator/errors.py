"""The one error root of the project and the exit codes that its branches stand for.

Each error carries what a person needs to act: which file, where in it, what was expected, what was found and
what to do about it. Anything that is not a :class:`RehydratorError` is a defect of this program.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import ClassVar, Self


class ExitCode(enum.IntEnum):
    """Exit codes of every command (documented in README.md)."""

    OK = 0
    MISMATCH = 1
    USAGE_OR_IO = 2
    UNSUPPORTED = 3
    INTERRUPTED = 130


class RehydratorError(Exception):
    """Root of all errors that are reported to the user as one clear sentence.

    ``offset`` is in bytes from the start of ``path``. ``expected`` and ``actual`` are short texts. ``usual_hint`` is
    that of a kind of errors where they give none of their own.
    """

    exit_code: ExitCode = ExitCode.USAGE_OR_IO
    usual_hint: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        offset: int | None = None,
        expected: object | None = None,
        actual: object | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else str(path)
        self.offset = offset
        self.expected = expected
        self.actual = actual
        self.hint = self.usual_hint if hint is None else hint

    def __str__(self) -> str:
        if not self.path:
            return self.reason
        return f"{self.path} {self.reason}" if self.offset is not None else f"{self.path}: {self.reason}"

    @property
    def reason(self) -> str:
        """All but the name of the file."""
        pairs = (("expected", self.expected), ("found", self.actual))
        told = ", ".join(f"{word} {value}" for word, value in pairs if value is not None)
        text = self.message if self.offset is None else f"at byte {self.offset:#x}: {self.message}"
        text += f" ({told})" if told else ""
        return f"{text}. {self.hint}" if self.hint else text

    def located(self, path: str | Path, offset: int | None = None, hint: str | None = None) -> Self:
        """Return this error with what the raising code could not know filled in."""
        if self.path is None:
            self.path = str(path)
        if self.offset is None:
            self.offset = offset
        if self.hint is None:
            self.hint = hint
        return self


class MismatchError(RehydratorError):
    """Bytes were read or produced well, but they are not the bytes that were promised."""

    exit_code = ExitCode.MISMATCH


class CorruptError(MismatchError):
    """A file breaks the rules of its own format: truncated, bad magic, impossible field."""

    usual_hint = "The file is truncated or damaged"


class StoreDamagedError(MismatchError):
    """A part of the store does not have the digest that the store index pins."""


class InputError(RehydratorError):
    """An input is missing, unreadable, or not what its metadata says."""


class AbsentError(InputError):
    """No regular file is where it should be."""


class FetchError(RehydratorError):
    """A server did not give what was asked for."""


class TLSError(FetchError):
    """A server can't be trusted to be the one that was asked for."""

    usual_hint = "$SSL_CERT_FILE names other certificates to trust"


class NotFoundError(FetchError):
    """A server does not have what was asked for."""


class TemporaryFetchError(FetchError):
    """A server or the way to it failed in a manner that may pass: trying again makes sense."""


class UsageError(RehydratorError):
    """The command line asks for something that does not exist or makes no sense."""


class BusyError(UsageError):
    """Another process or thread is at it; it may be done soon."""


class OutputError(RehydratorError):
    """The output could not be written."""


class OutputClosedError(OutputError):
    """The reader of standard output went away; reported by exit code only."""


class UnsupportedError(RehydratorError):
    """A well-formed input needs an ability that this version does not have."""

    exit_code = ExitCode.UNSUPPORTED
