"""The command line of ``scripts/kill-test``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from .registry import docker_registry
from .trial import KillError, Trial

LOCAL = frozenset({"dehydrate", "rehydrate", "archive"})
REMOTE = frozenset({"push", "pull", "fetch"})
_MOST_STARTS = 10  # for each kill
NAMES = sorted(LOCAL | REMOTE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kill-test",
        description="Kill 'build dehydrate', 'rehydrate' to a directory and to an archive, 'push', 'pull' and "
        "'rehydrate --store' with a registry at random moments with SIGKILL. Nothing wrong may have a final name, and "
        "the next run has to make everything and clear away what was left.",
    )
    parser.add_argument("builddir", type=Path, metavar="BUILDDIR", help="a coreos-assembler build directory")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="kills in all (default: 200)")
    parser.add_argument("--only", action="append", choices=NAMES, help="kill this command only; may be repeated")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="run to the end after so many (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments (default: 0)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), metavar="DIR", help="where temporary files go")
    return parser


def _dehydration(builddir: Path, store: Path) -> Trial:
    words = ("build", "dehydrate", str(builddir), str(store), "--level", "1", "--no-compressed")
    return Trial("dehydrate", words, store, whole=True)


def _local(builddir: Path, work: Path, store: Path) -> list[Trial]:
    """Return the commands that need no registry."""
    (work / "making").mkdir()
    choice = ("--all", "--arch", "all", "--store", str(store))
    archive = work / "archives" / "images.tar.zst"
    return [
        _dehydration(builddir, work / "making" / "store"),
        Trial("rehydrate", ("rehydrate", str(work / "images"), *choice), work / "images", whole=False),
        Trial("archive", ("rehydrate", str(archive), *choice), archive.parent, whole=False),
    ]


def _remote(work: Path, store: Path, stack: ExitStack) -> list[Trial]:
    """Return the commands that need a registry, with one that is written to and one that is read from."""
    written, read = (stack.enter_context(docker_registry(work / name)) for name in ("written", "read"))
    Trial("push", ("push", str(store), f"{read}/store:1", "--plain-http"), work / "read", whole=False).finish()
    (work / "pulling").mkdir()
    target, place = work / "pulling" / "store", f"{read}/store:1"
    push = ("push", str(store), f"{written}/store:1", "--plain-http")
    pull = ("pull", place, str(target), "--plain-http")
    fetch = ("rehydrate", str(work / "fetched"), "--all", "--arch", "all", "--store", place, "--plain-http")
    cache = {"XDG_CACHE_HOME": str(work / "cache")}
    return [
        Trial("push", push, work / "written" / "data", whole=False),
        Trial("pull", pull, target, whole=True),
        Trial("fetch", fetch, work / "cache" / "rehydrator" / "blobs", whole=False, variables=cache),
    ]


def _trials(chosen: argparse.Namespace, work: Path, stack: ExitStack) -> list[Trial]:
    """Return the commands that were chosen, with a store for those that need one."""
    builddir, wanted = chosen.builddir.resolve(), set(chosen.only or NAMES)
    store = work / "store"
    _dehydration(builddir, store).finish()
    trials = _local(builddir, work, store) if wanted & LOCAL else []
    trials += _remote(work, store, stack) if wanted & REMOTE else []
    return [trial for trial in trials if trial.name in wanted]


def _kill(trials: Sequence[Trial], count: int, every: int, choose: random.Random) -> None:
    """Start the commands in turn until ``count`` of all runs were killed; each runs to its end after ``every`` starts.

    Raises KillError where hardly any run can be killed.
    """
    starts = 0
    while sum(trial.killed for trial in trials) < count:
        if starts >= _MOST_STARTS * count:
            raise KillError(f"{starts} runs, and few were killed: they end too soon")
        min(trials, key=lambda trial: trial.killed).kill(choose)
        starts += 1
        if starts % every == 0:
            for trial in trials:
                trial.complete()
            killed = sum(trial.killed for trial in trials)
            print(f"{starts} runs, {killed} of {count} kills: nothing wrong so far", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and judge; return 0, or 1 where something wrong was found."""
    chosen = _parser().parse_args(arguments)
    choose = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="rehydrator-kill-", dir=chosen.work) as work, ExitStack() as stack:
        try:
            trials = _trials(chosen, Path(work), stack)
            for trial in trials:
                trial.prepare()
            _kill(trials, chosen.count, chosen.every, choose)
            for trial in trials:
                trial.complete()
        except KillError as error:
            print(f"kill-test: {error}", file=sys.stderr)
            return 1
        except FileNotFoundError as error:
            print(f"kill-test: {error.filename} is missing; --only leaves out what needs it", file=sys.stderr)
            return 2
    for trial in trials:
        print(f"{trial.name}: killed {trial.killed} times, {trial.ended} came to their end first; nothing wrong")
    return 0
