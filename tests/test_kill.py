"""A few rounds of ``scripts/kill-test``, and that it notices what a killed run must not leave."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kill_test.cli import NAMES, main
from kill_test.trial import KillError, Trial
from tests.support.disks import MIB, random_sparse, sibling, with_gpt
from tests.support.releases import ReleaseMaker


def test_killed_at_random_moments(
    need: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("docker-registry")
    maker = ReleaseMaker(tmp_path / "release")
    metal = with_gpt(random_sparse(1, 4 * MIB, 0.5, 16))
    maker.add("metal", "raw", metal)
    maker.add("aws", "raw", sibling(metal, 2))
    work = tmp_path / "work"
    work.mkdir()
    assert main([str(maker.finish()), "--count", "12", "--every", "6", "--work", str(work)]) == 0
    said = capsys.readouterr().out
    assert [name for name in NAMES if f"{name}: killed 2 times" not in said] == []
    assert list(work.iterdir()) == []


def spoil(target: Path) -> None:
    (target / "image").write_bytes(b"half")


def forget(target: Path) -> None:
    (target / "second").unlink()


def hide(target: Path) -> None:
    (target / ".image.part").write_bytes(b"half")


@pytest.mark.parametrize(
    ("spoiler", "words"), [(spoil, "wrong under a final name"), (forget, "not make everything"), (hide, "left")]
)
def test_what_is_wrong_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiler: Callable[[Path], None], words: str
) -> None:
    trial = Trial("trial", (), tmp_path / "target", whole=False)

    def make() -> None:
        trial.target.mkdir()
        for name in ("image", "second"):
            (trial.target / name).write_bytes(name.encode())

    monkeypatch.setattr(trial, "finish", make)
    trial.prepare()

    def make_wrong() -> None:
        make()
        spoiler(trial.target)

    monkeypatch.setattr(trial, "finish", make_wrong)
    with pytest.raises(KillError, match=words):
        trial.complete()


def test_a_run_that_fails_is_no_killed_run(tmp_path: Path) -> None:
    trial = Trial("trial", ("no-such-command",), tmp_path / "target", whole=True, within=1000.0)
    with pytest.raises(KillError, match="ended with 2"):
        trial.kill(random.Random(0))
