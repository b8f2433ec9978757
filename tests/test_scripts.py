"""The shell scripts: sound, and doing what they say without installing anything twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rehydrator.store.reader import Store
from tests.support import packages
from tests.support.packages import PACKAGES

ROOT = Path(__file__).parent.parent
SHELL = b"#!/usr/bin/env bash\n"
SCRIPTS = [
    ROOT / ".ci/run",
    *sorted((ROOT / "scripts/lib").glob("*.sh")),
    *(path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and path.read_bytes().startswith(SHELL)),
]


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a Python that has rehydrator already."""
    return subprocess.run(
        [str(word) for word in command],
        cwd="/",
        env={**os.environ, "REHYDRATOR_PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script: Path) -> None:
    done = run("bash", "-n", script)
    assert done.returncode == 0, done.stderr


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("missing: shellcheck")
    done = subprocess.run(
        ["shellcheck", "--external-sources", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_programs_of_the_release_builder_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from release_builder import tools

    wanted = {
        item
        for value in vars(tools).values()
        if isinstance(value, tuple)
        for item in value
        if isinstance(item, tools.Tool)
    }
    assert wanted
    for tool in wanted:
        assert PACKAGES.get(tool.program) == (tool.debian, tool.fedora), tool.program


def test_programs_that_tests_need_are_listed() -> None:
    for path in sorted((ROOT / "tests").glob("*.py")):
        for call in re.findall(r"\bneed\(([^)]*)\)", path.read_text(encoding="utf-8")):
            for program in re.findall(r'"([\w.-]+)"', call):
                assert program in PACKAGES, f"{path.name} needs {program}"


def test_a_missing_program_is_told_with_its_package() -> None:
    assert packages.described("qemu-img") == "qemu-img, in package qemu-utils (Fedora: qemu-img)"
    assert packages.described("zstd") == "zstd, in package zstd"
    assert packages.described("no-such-program") == "no-such-program"


def refusing(directory: Path, *programs: str) -> str:
    """Return a PATH on which these programs fail and say so."""
    directory.mkdir()
    for name in programs:
        (directory / name).write_text(f"#!/bin/sh\necho {name} was called >&2\nexit 99\n", encoding="utf-8")
        (directory / name).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_demo(tmp_path: Path) -> None:
    """It needs no program beyond Python, prints a verdict per file, and keeps what it is asked to keep."""
    path = refusing(tmp_path / "bin", "apt-get", "dnf", "sudo", "pip", "qemu-img", "zstd", "xz", "jq", "curl")
    kept = tmp_path / "kept"
    done = run(ROOT / "scripts/demo", "--keep", kept, PATH=path)
    assert done.returncode == 0, done.stderr
    head, *rows, total = done.stdout.splitlines()
    assert head.split() == ["FILE", "ORIGINAL", "STORED", "TIME", "VERDICT"]
    for row in rows:
        assert re.fullmatch(r"\S+\.(raw|qcow2) +\d+\.\d KiB +\d+\.\d KiB +\d+\.\d\d s  OK", row)
    assert total.startswith("whole release")
    with Store(kept / "store") as store:
        names = {item.content.name for arch in store.architectures for item in store.manifests(arch)}
    assert {row.split()[0] for row in rows} == {item.name for item in (kept / "files").iterdir()} == names
    again = run(ROOT / "scripts/demo", "--keep", kept)
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_demo_notices_a_wrong_file(tmp_path: Path) -> None:
    """A rehydrator that writes other bytes than the release has is found out by sha256sum; nothing is left."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    liar = tmp_path / "python"
    liar.write_text(
        f'#!/bin/bash\n{sys.executable} "$@" || exit\n[[ $3 == rehydrate && $* == *openstack* ]] || exit 0\n'
        'printf x >>"$(ls -d "$4"/*openstack*)"\n',
        encoding="utf-8",
    )
    liar.chmod(0o755)
    done = run(ROOT / "scripts/demo", REHYDRATOR_PYTHON=str(liar), TMPDIR=str(scratch))
    assert done.returncode == 1
    assert [line.split()[-1] for line in done.stdout.splitlines()[1:-1]].count("MISMATCH") == 1
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("argument", ["--nonsense", "--keep"])
def test_demo_refuses(argument: str) -> None:
    assert run(ROOT / "scripts/demo", argument).returncode != 0


def test_missing_programs_are_named_without_root(tmp_path: Path) -> None:
    """Without root, sudo and qemu-img, scripts/test says which package to install and ends with 2."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("bash", "dirname", "cut", "sort", "paste", "env"):
        (directory / name).symlink_to(str(shutil.which(name)))
    (directory / "id").write_text("#!/bin/bash\necho 1000\n", encoding="utf-8")
    (directory / "id").chmod(0o755)
    libraries = f"ROOT={ROOT}; source {ROOT}/scripts/lib/messages.sh; source {ROOT}/scripts/lib/system.sh"
    script = f"{libraries}; PATH={directory}; require_programs"
    done = run("bash", "-euo", "pipefail", "-c", script)
    assert done.returncode == 2
    assert "qemu-img" in done.stderr
    assert re.search(r"apt-get install .*\bqemu-utils\b", done.stderr)
    assert re.search(r"dnf install .*\bqemu-img\b", done.stderr)


def setup_of(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the Python part of the set-up in a copy of the tree."""
    script = (
        f"ROOT={root}; cd {root}; source scripts/lib/messages.sh; source scripts/lib/system.sh; "
        'source scripts/lib/python.sh; require_venv ""; echo "$PYTHON_BIN"'
    )
    return run("bash", "-euo", "pipefail", "-c", script, **{"REHYDRATOR_PYTHON": "", **variables})


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts/lib", tmp_path / "tree/scripts/lib")
    names = ("python3", *(f"python3.{minor}" for minor in range(11, 15)))
    done = setup_of(tmp_path / "tree", PATH=refusing(tmp_path / "bin", *names))
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr


def test_the_second_set_up_installs_nothing(tmp_path: Path) -> None:
    """With a Python whose pip only takes notes: it is called once, and again when pyproject.toml changes."""
    root = tmp_path / "tree"
    shutil.copytree(ROOT / "scripts/lib", root / "scripts/lib")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "rehydrator").mkdir()
    notes = tmp_path / "notes"
    (root / ".venv/bin").mkdir(parents=True)
    python = root / ".venv/bin/python"
    python.write_text(
        f'#!/bin/bash\nif [[ "$1 $2" == "-m pip" ]]; then echo "$@" >>{notes}; else exec {sys.executable} "$@"; fi\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    for _ in range(2):
        done = setup_of(root)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(python)
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 1
    with (root / "pyproject.toml").open("a", encoding="utf-8") as stream:
        stream.write("\n")
    assert setup_of(root).returncode == 0
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "said"), [(("--tests", "few"), "--tests needs all, some or none"), (("x",), "unknown argument x")]
)
def test_wrong_use_of_newcomer(words: tuple[str, ...], said: str) -> None:
    done = run(ROOT / "scripts/newcomer", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout
