"""Running the real command line in a process of its own and judging how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = (sys.executable, "-m", "rehydrator")
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("REHYDRATOR_", "SOURCE_DATE"))
}
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
    """Run ``rehydrator`` with ``arguments`` to its end."""
    process = subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, check=False, env=environment(env), cwd=cwd, timeout=300
    )
    return Result(process.returncode, process.stdout, process.stderr.decode())


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
