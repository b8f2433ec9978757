"""The command line of ``scripts/fuzz-containers``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .seeds import SeedMaker
from .targets import targets
from .trial import Outcome, run

_RELEASE = Path(__file__).resolve().parents[2] / "fixtures" / "release"
_BATCH = 500
_MANIFEST = "manifest"  # what the names of targets begin with that need a store


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; return 0 when every input was read exactly or refused, 1 when one was not, 2 when it can't be run."""
    parser = argparse.ArgumentParser(
        prog="fuzz-containers",
        description="Feed damaged containers, compressed files, partition tables, manifests and forged records to "
        "their readers. Each must come back exactly or be refused with an error of this project, in bounded time and "
        "memory.",
    )
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="inputs per reader (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first input's number (default: 0)")
    parser.add_argument("--only", action="append", metavar="READER", help="fuzz these readers only")
    parser.add_argument("--list", action="store_true", help="list the readers")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write inputs that fail into this directory")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-containers-") as work:
        try:
            maker = SeedMaker(Path(work))
            names = chosen.only or [_MANIFEST]
            needed = any(name.startswith(_MANIFEST) for name in names)
            manifests = manifests_of(_RELEASE, Path(work) / "store") if needed else []
            found = list(targets(maker, manifests))
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"fuzz-containers: {error}; scripts/test installs what is missing", file=sys.stderr)
            return 2
        if chosen.list:
            print("\n".join(target.name for target in found))
            return 0
        wanted = [target for target in found if not chosen.only or target.name in chosen.only]
        failed = 0
        for target in wanted:
            outcome = Outcome(target.name)
            for first in range(chosen.seed, chosen.seed + chosen.count, _BATCH):
                part = run(target, min(_BATCH, chosen.seed + chosen.count - first), first)
                outcome = outcome.joined(part)
            failed += len(outcome.failures)
            _report(outcome, chosen.keep)
    return 1 if failed else 0


def manifests_of(release: Path, store: Path) -> list[bytes]:
    """Dehydrate a release and return its manifests."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "rehydrator",
        "build",
        "dehydrate",
        release,
        store,
        "--progress",
        "none",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=release.parents[1])
    return [path.read_bytes() for path in sorted(store.glob("*/manifests/*.json"))]


def _report(outcome: Outcome, keep: Path | None) -> None:
    print(outcome, flush=True)
    for failure in outcome.failures[:20]:
        print(f"  input {failure.seed}: {failure.problem}", flush=True)
    if keep is not None and outcome.failures:
        keep.mkdir(parents=True, exist_ok=True)
        for failure in outcome.failures:
            (keep / f"{outcome.name}-{failure.seed}").write_bytes(failure.data)
