"""A short run of the mutation fuzzer on every reader, and proof that it sees what it looks for."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from container_fuzz import trial
from container_fuzz.seeds import SeedMaker
from container_fuzz.targets import Target, targets
from rehydrator.errors import CorruptError
from rehydrator.layers.table import FORMATS

COUNT = 60
FIRST = 1_000_000  # inputs that no run of the script with its default seeds has
ROOT = Path(__file__).parent.parent


@pytest.mark.oracle
def test_no_damaged_input_does_more_than_be_refused(
    need: Callable[..., None], tmp_path: Path, real_store: Path
) -> None:
    need("qemu-img", "tar", "gzip", "xz", "zip", "sfdisk", "genisoimage", "xorriso", "cpio", "mksquashfs", "mkfs.erofs")
    manifests = [path.read_bytes() for path in sorted(real_store.glob("*/manifests/*.json"))]
    outcomes = {target.name: trial.run(target, COUNT, FIRST) for target in targets(SeedMaker(tmp_path), manifests)}
    for outcome in outcomes.values():
        assert [(failure.seed, failure.problem) for failure in outcome.failures] == [], outcome
        assert outcome.accepted + outcome.refused == COUNT
        if outcome.name != "chain":  # explain compares a damaged layer as it is
            assert outcome.refused, f"{outcome.name}: the damage does not reach the reader"
    names = {item.name for item in FORMATS}
    ways = {f"{name}-{way}" for name in names for way in ("look", "record")}
    others = {"vmdk-trailing", "iso-owners", "squashfs-owners", "erofs-owners", "miniso", "minimal-iso"}
    assert names | ways | others <= set(outcomes)


def _refuse(data: bytes) -> None:
    raise CorruptError("refused", path="x", offset=0, expected=1, actual=data[0])


def _loop(_data: bytes) -> None:
    while True:
        pass


def _grow(_data: bytes) -> None:
    bytearray(trial.MAX_MEMORY * 2)


@pytest.mark.parametrize(
    ("parse", "problem"),
    [(lambda data: data[99], "IndexError"), (_loop, "TooSlowError"), (_grow, "MemoryError")],
    ids=["traceback", "endless", "memory"],
)
def test_failures_are_seen(parse: Callable[[bytes], None], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MAX_SECONDS", 0.05)
    outcome = trial.run(Target("x", lambda order: order.randbytes(4), parse), 2, 7)
    assert [failure.seed for failure in outcome.failures] == [7, 8]
    assert all(failure.problem.startswith(problem) for failure in outcome.failures), outcome.failures


def test_refusals_are_none_and_inputs_follow_from_their_number() -> None:
    seen: list[bytes] = []

    def make(order: random.Random) -> bytes:
        seen.append(order.randbytes(4))
        return seen[-1]

    target = Target("x", make, _refuse)
    assert str(trial.run(target, 2, 7)).startswith("x: 2 inputs, 0 accepted, 2 refused, 0 failures")
    trial.run(target, 1, 8)
    assert seen[2] == seen[1] != seen[0]


@pytest.mark.oracle
def test_the_script(need: Callable[..., None]) -> None:
    need("qemu-img", "tar", "gzip", "xz", "zip", "sfdisk", "genisoimage", "xorriso", "cpio", "mksquashfs", "mkfs.erofs")
    command = [sys.executable, str(ROOT / "scripts/fuzz-containers"), "--count", "3", "--only", "gpt", "--only", "vhd"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.partition(",")[0] for line in result.stdout.splitlines()] == ["vhd: 3 inputs", "gpt: 3 inputs"]
