"""The man pages: one for each command, with its options, and nothing that the formatters complain about."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.test_json import COMMANDS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("manual") / "man1"
    make(directory, "1700000000")
    return directory


def make(directory: Path, epoch: str) -> None:
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "make-manual", directory],
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch}, check=True, timeout=120,
    )  # fmt: skip


def page(manual: Path, name: str) -> str:
    return (manual / f"rehydrator-{name.replace(' ', '-')}.1").read_text(encoding="utf-8").replace(r"\-", "-")


def test_each_command_has_a_page(manual: Path) -> None:
    groups = {"rehydrator.1", "rehydrator-build.1"}
    pages = {f"rehydrator-{name.replace(' ', '-')}.1" for name in COMMANDS}
    assert {path.name for path in manual.iterdir()} == groups | pages


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_told(manual: Path, name: str) -> None:
    told = page(manual, name)
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert all(word in told for word in option.opts)
            assert option.envvar is None or f".B {option.envvar}" in told


def test_the_same_each_time(manual: Path, tmp_path: Path) -> None:
    make(tmp_path, "1700000000")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in manual.iterdir()
    }
    assert '"2023-11-14"' in page(manual, "rehydrate")


@pytest.mark.oracle
def test_mandoc_finds_nothing(manual: Path, need: Callable[..., None]) -> None:
    need("mandoc")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *sorted(manual.iterdir())],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.oracle
def test_mandoc_shows_words_as_they_are(manual: Path, need: Callable[..., None]) -> None:
    need("mandoc")
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", manual / "rehydrator-rehydrate.1"], capture_output=True, text=True, check=True,
        timeout=60,
    ).stdout  # fmt: skip
    plain = " ".join(re.sub(".\x08", "", shown).split())
    for words in ("--compress [xz|gzip|zstd]", "$SOURCE_DATE_EPOCH, by", ".tar.zst", "'-' for standard output"):
        assert words in plain
