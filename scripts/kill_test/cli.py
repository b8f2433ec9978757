"""The command line of ``scripts/kill-test``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .trial import KillError, Trial


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kill-test",
        description="Kill 'build dehydrate' and 'rehydrate' at random moments with SIGKILL. Nothing wrong may have a "
        "final name, and the next run has to make everything and clear away what was left.",
    )
    parser.add_argument("builddir", type=Path, metavar="BUILDDIR", help="a coreos-assembler build directory")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="kills in all (default: 200)")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="run to the end after so many (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments (default: 0)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), metavar="DIR", help="where temporary files go")
    return parser


def _dehydration(builddir: Path, store: Path) -> Trial:
    words = ("build", "dehydrate", str(builddir), str(store), "--level", "1", "--no-compressed")
    return Trial("dehydrate", words, store, whole=True)


def _trials(builddir: Path, work: Path) -> list[Trial]:
    """Return the commands, with a store for the one that needs it."""
    (work / "making").mkdir()
    store, images = work / "store", work / "images"
    _dehydration(builddir, store).finish()
    words = ("rehydrate", str(images), "--all", "--arch", "all", "--store", str(store))
    return [_dehydration(builddir, work / "making" / "store"), Trial("rehydrate", words, images, whole=False)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and judge; return 0, or 1 where something wrong was found."""
    chosen = _parser().parse_args(arguments)
    choose = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="rehydrator-kill-", dir=chosen.work) as work:
        try:
            trials = _trials(chosen.builddir.resolve(), Path(work))
            for trial in trials:
                trial.prepare()
            for number in range(chosen.count):
                trials[number % len(trials)].kill(choose)
                if (number + 1) % chosen.every == 0:
                    for trial in trials:
                        trial.complete()
            for trial in trials:
                trial.complete()
        except KillError as error:
            print(f"kill-test: {error}", file=sys.stderr)
            return 1
    for trial in trials:
        print(f"{trial.name}: killed {trial.killed} times, {trial.ended} came to their end first; nothing wrong")
    return 0
