"""Running the real command line in a process of its own and judging how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rehydrator.__main__ import main
from rehydrator.cli import attest, build, check, explain, fetch, inspect, registry, rehydrate, synthesize

# The program imports its commands when they are asked for; here they are wanted before it is forked.
COMMANDS = (attest, build, check, explain, fetch, inspect, registry, rehydrate, synthesize)
PROGRAM = (sys.executable, "-m", "rehydrator")
_IGNORED = ("REHYDRATOR_", "SOURCE_DATE", "PYTHONUNBUFFERED")
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_IGNORED)}
_HIDDEN = ("*.part", "*.dehydrating")


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()

    @property
    def complaints(self) -> list[str]:
        """What the program said about errors, without progress."""
        return [line for line in self.err.splitlines() if line.startswith("rehydrator:")]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would change the program's behaviour."""
    return _ENVIRONMENT | (extra or {})


def run(*arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Result:
    """Run ``rehydrator`` with ``arguments`` to its end, in a fork of this process.

    A fork has all modules loaded already, which saves most of a run's time. How the interpreter starts and ends is
    tested with :data:`PROGRAM`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _become_the_program(list(map(str, arguments)), (out.fileno(), err.fileno()), environment(env), cwd)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return Result(code, out.read(), err.read().decode())


def run_alone(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    """Run ``rehydrator`` in a process that was not forked: it knows nothing of programs that this one has found."""
    done = subprocess.run([*PROGRAM, *arguments], env=environment(env), capture_output=True, check=False, timeout=300)
    return Result(done.returncode, done.stdout, done.stderr.decode())


def _become_the_program(
    arguments: list[str], streams: tuple[int, int], variables: dict[str, str], cwd: Path | None
) -> NoReturn:
    code = 99
    try:
        signal.alarm(300)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w") for number in (1, 2))
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(cwd or Path.cwd())
        sys.argv = ["rehydrator", *arguments]
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def fine(*arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Result:
    """Run ``rehydrator`` and expect that it succeeds without complaints."""
    result = run(*arguments, env=env, cwd=cwd)
    assert (result.code, result.complaints) == (0, []), result.err
    return result


def fails(code: int, words: list[str], *arguments: str | Path) -> Result:
    """Run ``rehydrator`` and expect exit ``code`` with one clear line on standard error that holds all ``words``."""
    result = run(*arguments)
    assert result.code == code, (result.code, result.err, result.text)
    assert "Traceback" not in result.err
    assert len(result.complaints) == 1, result.err
    line = result.complaints[0]
    assert "internal error" not in line
    assert [word for word in words if word not in line] == [], line
    return result


def leftovers(directory: Path) -> list[Path]:
    """Return the temporary files and directories that lie in ``directory``."""
    return sorted(found for pattern in _HIDDEN for found in directory.glob(pattern))


def hidden(directory: Path) -> list[str]:
    """Return the names of all hidden entries of ``directory``, whatever their suffix."""
    return sorted(entry.name for entry in directory.iterdir() if entry.name.startswith("."))
