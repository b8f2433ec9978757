"""``scripts/make-appliance``: what it refuses. The engine's tests run what libguestfs makes itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from release_builder import fixed_appliance, guestfish
from release_builder.tools import BuildError, Runner

SCRIPT = Path(__file__).parent.parent / "scripts" / "make-appliance"


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="exists already"):
        fixed_appliance.make(Runner(), tmp_path)


def test_missing_programs_are_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "new"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()
    assert "missing programs" in done.stderr


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_runner: Runner, _work: Path) -> dict[str, str]:
        raise BuildError("no machine starts")

    monkeypatch.setattr(guestfish, "machine_environment", fail)
    with pytest.raises(BuildError, match="no machine starts"):
        fixed_appliance.make(Runner(), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_its_root_is_not_taken_for_that_of_the_machine_that_shrinks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel finds the root of the appliance by its UUID, and what is shrunk is a copy of that."""
    usual = "11111111-2222-4333-8444-555555555555"
    seen: list[str] = []

    class Fake(Runner):
        def run(self, *argv: str | Path, **options: object) -> bytes:
            if argv[0] == fixed_appliance.PROGRAM:
                Path(argv[1]).mkdir()
                root = Path(argv[1]) / "root"
                command: list[str | Path] = ["mke2fs", "-q", "-t", "ext2", "-U", usual, root, "8M"]
                subprocess.run(command, check=True)
                return b""
            if argv[0] == guestfish.PROGRAM:
                (root,) = tmp_path.glob(".new-*/made/root")
                told = subprocess.run(["dumpe2fs", "-h", root], check=True, capture_output=True, text=True).stdout
                seen.append(next(line.split()[-1] for line in told.splitlines() if "UUID" in line))
                return b""
            return subprocess.run([str(word) for word in argv], check=True, capture_output=True).stdout

    monkeypatch.setattr(guestfish, "machine_environment", lambda _runner, _work: {})
    fixed_appliance.make(Fake(), tmp_path / "new")
    assert len(seen) == 3
    assert usual not in seen
