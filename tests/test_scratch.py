"""Directories that nothing is left of: several processes make theirs and clear away those of the killed."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from rehydrator.disk.scratch import ScratchDirectory
from rehydrator.errors import OutputError

PREFIX = "scratch-"


def test_processes_spare_each_other(tmp_path: Path) -> None:
    """Each has its directory for as long as it wants it, however many come and are killed meanwhile."""
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            code = 1
            try:
                for _ in range(100):
                    mine = ScratchDirectory(PREFIX, tmp_path)
                    (mine.path / "file").write_bytes(b"x")
                    ScratchDirectory(PREFIX, tmp_path).remove()
                    assert (mine.path / "file").exists()
                    mine.remove()
                ScratchDirectory(PREFIX, tmp_path)
                code = 0
            finally:
                os.kill(os.getpid(), signal.SIGKILL) if not code else os._exit(code)
        children.append(child)
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {-signal.SIGKILL}
    ScratchDirectory(PREFIX, tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    ScratchDirectory(PREFIX, tmp_path).remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", f"{PREFIX}file", f"{PREFIX}link"]


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "nowhere"
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    with pytest.raises(OutputError, match=r"nowhere.*no temporary directory.*TMPDIR"):
        ScratchDirectory(PREFIX)
