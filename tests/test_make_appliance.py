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
