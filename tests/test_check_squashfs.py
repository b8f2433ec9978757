"""The squashfs layer on random trees that several versions of the real mksquashfs packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.codecs import wheels
from release_builder.tools import BuildError, Runner
from squashfs_oracle.cli import Version, main
from squashfs_oracle.trial import Scenario, run_trial

pytestmark = pytest.mark.oracle

SEED = 39  # a small tree that has hard links, holes, attributes, duplicates and a large directory
NUMBERS = {"bullseye": "4.4", "trixie": "4.6.1", "sid": "4."}


def version(suite: str) -> Version:
    try:
        return Version.of(suite, Runner())
    except BuildError as error:
        pytest.skip(f"squashfs-tools of {suite}: {error}")


@pytest.mark.parametrize(
    ("suite", "options"),
    [*((suite, "gzip -always-use-fragments") for suite in NUMBERS), ("sid", "xz -Xbcj arm,powerpc -b 16K")],
)
def test_versions(suite: str, options: str, need: Callable[..., None], tmp_path: Path) -> None:
    """Debian 12's own version is what tests/test_squashfs_layer.py has."""
    need("apt-get", "dpkg-deb", "tar")
    found = version(suite)
    assert found.number.startswith(NUMBERS[suite])
    compressor, *others = options.split()
    outcome = run_trial(Scenario(SEED, compressor, tuple(others)), found.command, tmp_path)
    assert (outcome.problem, outcome.refused, outcome.patched) == ("", "", 0)
    assert outcome.encoder == {"gzip": "zlib-9", "xz": "liblzma-6-aligned"}[compressor]


@pytest.mark.parametrize(("suite", "known"), [("trixie", True), ("bullseye", False)])
def test_versions_of_zstd(
    suite: str,
    known: bool,
    need: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetched_codecs: Callable[[], Path],
) -> None:
    """That of trixie is 1.5.7; that of bullseye, 1.4.8, is none of the known ones, and is told apart."""
    need("apt-get", "dpkg-deb", "tar")
    monkeypatch.setenv(wheels.DIRECTORY_VARIABLE, str(fetched_codecs()))
    outcome = run_trial(Scenario(SEED, "zstd", ()), version(suite).command, tmp_path)
    assert outcome.problem == ""
    assert (not outcome.refused and not outcome.patched) is known


def test_the_program(need: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    need("apt-get", "dpkg-deb", "tar")
    version("trixie")
    assert main(["--count", "1", "--seed", str(SEED), "--suite", "trixie"]) == 0
    line, table = capsys.readouterr().out.split("\n\n")
    assert line.startswith(f"seed {SEED}: mksquashfs 4.6.1, -comp ")
    assert "identical by" in line
    assert table.splitlines()[1].split()[-1] == "0"


def test_a_filter_of_newer_versions(need: Callable[..., None], tmp_path: Path) -> None:
    """Python can't apply it, and liblzma undoes it from 5.6 on."""
    need("apt-get", "dpkg-deb", "tar")
    case = Scenario(SEED, "xz", ("-Xbcj", "riscv", "-b", "16K"))
    outcome = run_trial(case, version("sid").command, tmp_path)
    assert outcome.problem == ""
    if outcome.refused:
        assert "a filter for code that is not known here" in outcome.refused
    else:
        assert outcome.encoder.startswith("liblzma-6")
