"""Completion, by the shells themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import fine, run

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shell(tmp_path: Path, real_store: Path) -> Callable[..., list[str]]:
    """Run a shell that has the program on its PATH, beside a store; return the lines that it prints."""
    program = tmp_path / "bin" / "rehydrator"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m rehydrator "$@"\n')
    program.chmod(0o755)
    (tmp_path / "store").symlink_to(real_store)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}

    def start(*command: str, **variables: str) -> list[str]:
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, **variables}, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return start


# the words before the cursor, and some of what they are completed to
CASES: list[tuple[str, set[str]]] = [
    ("rehydrator reh", {"rehydrate"}),
    ("rehydrator build d", {"dehydrate", "download"}),
    ("rehydrator rehydrate - --compress", {"--compress", "--compressed"}),
    ("rehydrator rehydrate - --compress ", {"xz", "gzip", "zstd"}),
    ("rehydrator rehydrate - --disk o", {"openstack"}),
    ("rehydrator rehydrate - --disk qemu --disk ", {"metal", "openstack", "qemu"}),
    ("rehydrator info ", {"metal", "openstack", "qemu"}),
    ("rehydrator verify --store store q", {"qemu"}),
    ("rehydrator explain --platform m", {"metal"}),
    ("rehydrator list --arch ", {"x86_64", "all"}),
    ("rehydrator info --store nowhere ", set()),
]
_BASH = r"""
eval "$(rehydrator completion bash)"
complete -p rehydrator >/dev/null
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_rehydrator_completion rehydrator
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(("line", "expected"), CASES, ids=[line for line, _ in CASES])
def test_bash(shell: Callable[..., list[str]], line: str, expected: set[str]) -> None:
    assert {word for word in shell("bash", "-c", _BASH, "bash", line) if word} == expected


@pytest.mark.oracle
@pytest.mark.parametrize(("line", "expected"), [CASES[0], CASES[4], CASES[6]])
def test_fish(shell: Callable[..., list[str]], need: Callable[..., None], line: str, expected: set[str]) -> None:
    need("fish")
    made = shell("fish", "--no-config", "-c", f"rehydrator completion fish | source; complete -C '{line}'")
    assert {word.partition("\t")[0] for word in made} == expected


@pytest.mark.oracle
def test_zsh(shell: Callable[..., list[str]], need: Callable[..., None]) -> None:
    """The script loads, and the program answers it; zsh itself completes in an interactive shell only."""
    need("zsh")
    loaded = shell("zsh", "-fc", 'autoload -Uz compinit; compinit -u; eval "$(rehydrator completion zsh)"; '
                   "print ${_comps[rehydrator]}")  # fmt: skip
    assert loaded == ["_rehydrator_completion"]
    answer = shell("rehydrator", _REHYDRATOR_COMPLETE="zsh_complete", COMP_WORDS="rehydrator info o", COMP_CWORD="2")
    assert answer == ["plain", "openstack", "_"]


def test_other_shells_are_refused() -> None:
    result = run("completion", "csh")
    assert result.code == 2
    assert "bash" in result.err


def test_scripts_are_the_same_each_time() -> None:
    assert fine("completion", "bash").text == fine("completion", "bash").text
