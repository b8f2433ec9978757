"""The command line of ``scripts/check-zipl``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rehydrator.errors import RehydratorError
from release_builder import packages
from release_builder.tools import BuildError, Runner
from release_builder.zipl import EMULATOR, SUITES, Zipl, emulator, zipl_of

from .trial import run_trial, scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials; return 0 when all agree, 1 when some do not, 2 when they can't be run."""
    parser = argparse.ArgumentParser(
        prog="check-zipl",
        description="Compare the computed boot records of s390x with those of real zipl, on random boot partitions.",
        epilog="Needs root (loop devices and mounts), Debian's apt and an emulator of s390x programs.",
    )
    parser.add_argument("--count", type=int, default=200, metavar="N", help="trials (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first trial's seed (default: 0)")
    parser.add_argument("--suite", action="append", help=f"Debian suites with a zipl (default: {', '.join(SUITES)})")
    parser.add_argument("--root", action="append", type=Path, default=[], metavar="DIR",
                        help="a tree with another zipl for s390x and its libraries, in place of Debian's; may be given "
                        "several times")  # fmt: skip
    chosen = parser.parse_args(arguments)
    if emulator() is None:
        print(f"check-zipl: {EMULATOR} is missing; Debian: apt-get install qemu-user-static", file=sys.stderr)
        return 2
    try:
        runner = Runner()
        suites = chosen.suite or ([] if chosen.root else SUITES)
        versions = [zipl_of(suite, packages.cache_directory(), runner) for suite in suites]
        versions += [Zipl(root.resolve()) for root in chosen.root]
        failed = 0
        for seed in range(chosen.seed, chosen.seed + chosen.count):
            case, zipl = scenario(seed), versions[seed % len(versions)]
            with tempfile.TemporaryDirectory(prefix="check-zipl-") as work:
                outcome = run_trial(case, zipl, Path(work))
            failed += bool(outcome.problems)
            print(
                f"seed {seed}: zipl {zipl.version(runner)}, {case.block_size}-byte blocks, {case.sector}-byte sectors, "
                f"{outcome.segments} segments: {', '.join(outcome.problems) or 'identical'}",
                flush=True,
            )
    except (BuildError, RehydratorError, OSError, subprocess.CalledProcessError) as error:
        print(f"check-zipl: {error}", file=sys.stderr)
        return 2
    print(f"{chosen.count - failed} of {chosen.count} identical")
    return 1 if failed else 0
