"""The command line of ``scripts/check-squashfs``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from release_builder import suite_tools
from release_builder.tools import BuildError, Runner

from .trial import Outcome, Scenario, run_trial, scenario

SUITES = ("bullseye", "bookworm", "trixie", "sid")  # with mksquashfs 4.4, 4.5.1, 4.6.1 and 4.7.5 (November 2026)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials; return 0 when every byte comes back, 1 when some do not, 2 when they can't be run."""
    parser = argparse.ArgumentParser(
        prog="check-squashfs",
        description="Take file systems of random trees, by several versions of mksquashfs, apart and together again.",
        epilog="Needs Debian's apt. For zstd, scripts/fetch-codecs has to be run before.",
    )
    parser.add_argument("--count", type=int, default=200, metavar="N", help="trials (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first trial's seed (default: 0)")
    parser.add_argument("--suite", action="append", help=f"Debian suites with a version (default: {', '.join(SUITES)})")
    chosen = parser.parse_args(arguments)
    found: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    try:
        runner = Runner()
        versions = [Version.of(suite, runner) for suite in chosen.suite or SUITES]
        for seed in range(chosen.seed, chosen.seed + chosen.count):
            case, version = scenario(seed), versions[seed % len(versions)]
            with tempfile.TemporaryDirectory(prefix="check-squashfs-") as work:
                outcome = run_trial(case, version.command, Path(work))
            found[version.number, case.compressor].append(outcome)
            print(_line(case, version, outcome), flush=True)
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        print(f"check-squashfs: {error}", file=sys.stderr)
        return 2
    print(*_table(found), sep="\n")
    return 1 if any(outcome.problem for outcomes in found.values() for outcome in outcomes) else 0


class Version:
    """One mksquashfs: how it is started, and the number that it says it has."""

    def __init__(self, command: list[str | Path], number: str) -> None:
        self.command = command
        self.number = number

    @classmethod
    def of(cls, suite: str, runner: Runner) -> Version:
        """Return that of a Debian suite, downloaded when first asked for. Raises BuildError."""
        command = suite_tools.tree_of(suite_tools.SQUASHFS_TOOLS, suite, runner).command("mksquashfs")
        said = subprocess.run(list(map(str, [*command, "-version"])), capture_output=True, text=True, check=False)
        return cls(command, said.stdout.split("version ", 1)[1].split()[0])


def _line(case: Scenario, version: Version, outcome: Outcome) -> str:
    options = " ".join(["-comp", case.compressor, *case.options])
    if outcome.problem or outcome.refused:
        result = outcome.problem or f"refused: {outcome.refused}"
    else:
        result = f"identical by {outcome.encoder}"
        result += f", {outcome.patched} of {outcome.blocks} blocks patched" if outcome.patched else ""
    return f"seed {case.seed}: mksquashfs {version.number}, {options}: {result}"


def _table(found: dict[tuple[str, str], list[Outcome]]) -> list[str]:
    lines = ["", "mksquashfs  compressor  trials  identical  patched  refused  wrong"]
    for (number, compressor), outcomes in sorted(found.items()):
        wrong = sum(bool(item.problem) for item in outcomes)
        refused = sum(bool(item.refused) for item in outcomes)
        patched = sum(bool(item.patched) for item in outcomes)
        total = len(outcomes)
        lines.append(
            f"{number:<10}  {compressor:<10}  {total:>6}  {total - wrong - refused - patched:>9}  {patched:>7}  "
            f"{refused:>7}  {wrong:>5}"
        )
    return lines
