"""The system programs that tests use, as ``scripts/lib/packages.txt`` lists them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

LIST = Path(__file__).parent.parent.parent / "scripts" / "lib" / "packages.txt"

_SYSTEM_PYTHON = "/usr/bin/python3"

# Debian's and Fedora's package by program
PACKAGES = {
    words[0]: (words[1], words[2])
    for line in LIST.read_text(encoding="utf-8").splitlines()
    for words in [line.partition("#")[0].split()]
    if words
}


def present(program: str) -> bool:
    """Tell whether a program is on PATH, a file at the given path, or a module of the system's own Python."""
    if program.startswith("python:"):
        command = [_SYSTEM_PYTHON, "-c", f"import {program.removeprefix('python:')}"]
        return (
            Path(_SYSTEM_PYTHON).exists() and not subprocess.run(command, check=False, capture_output=True).returncode
        )
    return Path(program).is_file() if program.startswith("/") else shutil.which(program) is not None


def described(program: str) -> str:
    """Name a program and its package, as far as the list knows it."""
    if program not in PACKAGES:
        return program
    debian, fedora = PACKAGES[program]
    return f"{program}, in package {debian}" + (f" (Fedora: {fedora})" if fedora != debian else "")
