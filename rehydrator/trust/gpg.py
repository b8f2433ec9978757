"""Detached OpenPGP signatures, checked by GnuPG with the keys that were named and no others.

GnuPG gets a home directory of its own, so that neither the user's keys nor options count, and no agent is started.
Source: ``doc/DETAILS`` of GnuPG (status lines), gpg(1).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Self

import msgspec

from rehydrator.disk.scratch import ScratchDirectory
from rehydrator.disk.sink import StreamSink, copy
from rehydrator.disk.source import FileSource, read_bounded
from rehydrator.errors import MismatchError, OutputClosedError, UnsupportedError, UsageError

MAX_SIGNATURE = 64 << 10  # bytes; those of releases have some hundred
MAX_KEYS = 16 << 20
_PROGRAM = "gpg"
_OPTIONS = ("--batch", "--no-tty", "--no-options", "--no-autostart", "--no-auto-key-locate", "--status-fd", "1")
_VERIFY = ("--trust-model", "always", "--weak-digest", "SHA1", "--verify")
_STATUS = re.compile(r"^\[GNUPG:\] ([A-Z_]+) ?(.*)$", re.MULTILINE)
# Any of these spoils the whole, however many good signatures there are beside it.
_BAD = {
    "BADSIG": "the signature is wrong",
    "ERRSIG": "the signature can't be checked",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key has expired",
    "REVKEYSIG": "the key was revoked",
    "NODATA": "there is no signature in it",
}
_NO_KEY = "9"  # the last field of ERRSIG where the key is missing


class Signer(msgspec.Struct, frozen=True):
    """Who signed: the fingerprint of the key's primary key, and its user id."""

    fingerprint: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})" if self.name else self.fingerprint


class KeyRing:
    """Public keys that are trusted; a context manager that owns GnuPG's home directory. Several threads may use it."""

    def __init__(self, keys: Iterable[Path]) -> None:
        self._keys = list(keys)
        self._home: ScratchDirectory | None = None
        self._program = ""

    def __enter__(self) -> Self:
        self._program = shutil.which(_PROGRAM) or ""
        if not self._program:
            raise UnsupportedError("checking signatures needs the program gpg", hint="It is in the package gnupg")
        self._home = ScratchDirectory("rehydrator-gpg-")
        try:
            for path in self._keys:
                self._import(path)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._home is not None:
            self._home.remove()
            self._home = None

    @property
    def _homedir(self) -> Path:
        assert self._home is not None, "a key ring is used inside its context"
        return self._home.path

    def _import(self, path: Path) -> None:
        keys = read_bounded(path, MAX_KEYS)
        if not self._run(["--import"], lambda stream: StreamSink(stream, _PROGRAM).write(keys)).about("IMPORT_OK"):
            raise UsageError("holds no OpenPGP public key", path=path, hint="gpg --export --armor KEY writes one")

    def check_file(self, path: Path, signature: bytes, name: str) -> Signer:
        """Check the signature of the file at ``path``, which is called ``name`` in messages.

        Raises MismatchError unless the signature is good and made by one of the keys.
        """

        def write(stream: IO[bytes]) -> None:
            with FileSource(path) as source:
                copy(source, StreamSink(stream, _PROGRAM))

        return self.check_written(write, signature, name)

    def check_written(self, write: Callable[[IO[bytes]], None], signature: bytes, name: str) -> Signer:
        """Check the signature of what ``write`` writes to the stream that it is given, likewise."""
        if len(signature) > MAX_SIGNATURE:
            raise MismatchError("is too large for a signature", path=name, expected=f"at most {MAX_SIGNATURE} bytes")
        with tempfile.NamedTemporaryFile(dir=self._homedir, suffix=".sig") as file:
            file.write(signature)
            file.flush()
            return _judge(self._run([*_VERIFY, "--", file.name, "-"], write), name)

    def _run(self, arguments: list[str], write: Callable[[IO[bytes]], None]) -> _Said:
        """Run GnuPG on what is written to it. What it says is a few lines, which a pipe holds meanwhile."""
        command = [self._program, "--homedir", str(self._homedir), *_OPTIONS, *arguments]
        pipe = subprocess.PIPE
        environment = {**os.environ, "LC_ALL": "C"}
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
            assert process.stdin is not None
            try:
                with contextlib.suppress(OutputClosedError):  # it had enough, and says why
                    write(process.stdin)
                out, err = process.communicate()
            except BaseException:
                process.kill()
                raise
        return _Said(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


class _Said(msgspec.Struct, frozen=True):
    """How GnuPG ended, its status lines, and its words for people."""

    code: int
    status: str
    words: str

    def about(self, keyword: str) -> list[str]:
        """Return what follows a keyword in the status lines."""
        return [rest for found, rest in _STATUS.findall(self.status) if found == keyword]


def _judge(said: _Said, name: str) -> Signer:
    """Return who signed, if every signature is good and GnuPG is content."""
    for keyword, problem in _BAD.items():
        for rest in said.about(keyword):
            words = rest.split()
            unknown = keyword == "ERRSIG" and _NO_KEY in words[5:6]
            raise MismatchError(
                "the signature is by a key that was not named" if unknown else problem,
                path=name,
                actual=None if keyword == "NODATA" else f"key {words[0]}",
                expected=None if keyword == "NODATA" else "a good signature",
            )
    good, valid = said.about("GOODSIG"), said.about("VALIDSIG")
    if said.code or not good or len(good) != len(valid):
        last = (said.words.strip().splitlines() or ["nothing"])[-1]
        raise MismatchError("the signature is not good", path=name, expected="GOODSIG, VALIDSIG", actual=last)
    return Signer(valid[0].split()[-1], good[0].partition(" ")[2])
