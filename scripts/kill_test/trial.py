"""One command of the program: run to its end for what it makes, then killed again and again."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ON_THE_WAY = (".", "_uploads")  # hidden, and what a registry has got of blobs that are not whole yet
_SOONER, _LATER = 0.7, 1.1  # what a run that went on where others were killed ends after, and a run from the beginning


class KillError(Exception):
    """A killed run left something wrong, or the run after it did not succeed."""


@dataclass
class Trial:
    """A command that makes ``target``, and nothing else visible in its directory.

    ``whole``: the target appears at once, with all that is in it; else each of its files does. ``variables`` are set in
    the environment.
    """

    name: str
    words: tuple[str, ...]
    target: Path
    whole: bool
    variables: dict[str, str] = field(default_factory=dict)
    usual: float = 0.0  # seconds that a run takes from the beginning
    within: float = 0.0  # the seconds in which the next run is killed
    digests: dict[str, str] = field(default_factory=dict)
    killed: int = 0
    ended: int = 0

    def prepare(self) -> None:
        """Run the command to its end; remember what it makes and how long it takes."""
        begun = time.monotonic()
        self.finish()
        self.usual = self.within = time.monotonic() - begun
        self.digests = _digests(self.target)
        self._clear()

    def kill(self, choose: random.Random) -> None:
        """Start the command, kill it with all its processes after a random time, and judge what is there.

        One that comes to its end first, since killed runs did some of its work, is killed sooner the next time.
        """
        process = subprocess.Popen(
            self._command(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | self.variables,
        )
        try:
            process.wait(choose.uniform(0, self.within))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            self.killed += 1
            self.within = min(self.within * _LATER, self.usual)
        elif process.returncode == 0:
            self.ended += 1
            self.within *= _SOONER
        else:
            raise KillError(f"{self.name}: ended with {process.returncode}: {err.decode(errors='replace')}")
        self._judge()
        if self.whole and self.target.exists():  # the next run would refuse it
            self._clear()

    def complete(self) -> None:
        """Run the command to its end after kills; its result is right, and nothing hidden is left."""
        self.finish()
        self._judge()
        if _digests(self.target) != self.digests:
            raise KillError(f"{self.name}: the run after kills did not make everything")
        left = list(_hidden(self.target.parent if self.whole else self.target))
        if left:
            raise KillError(f"{self.name}: the run after kills left {', '.join(map(str, left))}")
        self._clear()
        self.within = self.usual

    def _judge(self) -> None:
        """Compare whatever has a final name with what it should be."""
        found = _digests(self.target)
        wrong = [name for name, digest in found.items() if self.digests.get(name) != digest] if self.digests else []
        if wrong or (self.whole and self.target.exists() and self.digests and found != self.digests):
            raise KillError(f"{self.name}: wrong under a final name: {', '.join(wrong) or 'not all files'}")

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "rehydrator", *self.words, "--progress", "none"]

    def finish(self) -> None:
        """Run the command to its end, which has to be a good one."""
        done = subprocess.run(self._command(), capture_output=True, check=False, env=os.environ | self.variables)
        if done.returncode:
            raise KillError(f"{self.name}: ended with {done.returncode}: {done.stderr.decode(errors='replace')}")

    def _clear(self) -> None:
        if self.target.exists():
            shutil.rmtree(self.target)


def _hidden(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if path.name.startswith("."))


def _digests(directory: Path) -> dict[str, str]:
    """Return the sha256 of each file below ``directory`` that is not on its way, by its name there."""
    found = {}
    for path in sorted(directory.rglob("*")) if directory.exists() else ():
        if path.is_file() and not any(part.startswith(_ON_THE_WAY) for part in path.relative_to(directory).parts):
            with path.open("rb") as stream:
                found[str(path.relative_to(directory))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
