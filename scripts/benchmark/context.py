"""What all measurements share: the release, its contents, a store made from it, and where temporary files go."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .errors import BenchError
from .files import decompress, sha256_of
from .process import Outcome, Usage, run
from .release import Artifact, Release

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How to measure: ``limit`` is the most seconds that one run of a rival may take."""

    runs: int
    dehydrations: int
    cpus: int
    jobs: int
    limit: float


@dataclass(frozen=True)
class Store:
    """A store of the release. ``listing`` is what ``list --json`` says, by shipped file name."""

    root: Path
    arch: str
    listing: Mapping[str, Mapping[str, Any]]

    @property
    def canonical(self) -> Path:
        """The compressed canonical disk."""
        return self.root / self.arch / "canonical.raw.zst"

    def entry(self, artifact: Artifact) -> Mapping[str, Any]:
        """Return what the store says about an artifact."""
        return self.listing[artifact.path.name]

    def manifest(self, artifact: Artifact) -> Path:
        """Return the path of an artifact's manifest."""
        return self.root / self.arch / "manifests" / f"{self.entry(artifact)['key']}.json"


def find_python() -> str:
    """Return a Python that has rehydrator's dependencies: $REHYDRATOR_PYTHON, that of .venv, or this one."""
    named = os.environ.get("REHYDRATOR_PYTHON")
    venv = ROOT / ".venv" / "bin" / "python"
    return named or (str(venv) if venv.is_file() else sys.executable)


class Bench:
    """One run of the benchmark. What it makes lies in ``work`` and is made when it is first asked for.

    ``store`` is a store of the release that is there already.
    """

    def __init__(self, release: Release, work: Path, settings: Settings, store: Path | None = None) -> None:
        self.release = release
        self.work = work
        self.settings = settings
        self.python = find_python()
        # An installed program is compiled; here the first run does that, unless it is kept from it.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = {**kept, "PYTHONPATH": str(ROOT)}
        self._contents: dict[str, Path] = {}
        self._given = store
        self._store: tuple[Store, list[Usage]] | None = None

    def log(self, text: str) -> None:
        """Tell the person who waits what happens now."""
        print(text, file=sys.stderr, flush=True)

    def command(self, *words: str) -> list[str]:
        """Return the command line of a rehydrator command."""
        return [self.python, "-m", "rehydrator", *words]

    def rehydrator(self, *words: str, into: Sequence[str] = ()) -> Outcome:
        """Run a rehydrator command, piped into the command ``into`` if there is one."""
        return run(*([self.command(*words), into] if into else [self.command(*words)]), env=self.environment)

    def place(self, name: str) -> Path:
        """Return a path below ``work`` at which nothing is left from before."""
        path = self.work / name
        remove(path)
        return path

    def content(self, artifact: Artifact) -> Path:
        """Return an artifact's content: the shipped file, or a decompressed and checked copy."""
        if artifact.key not in self._contents:
            path = artifact.path
            if artifact.peeled:
                self.log(f"decompress {artifact.path.name}")
                path = self.work / "contents" / artifact.content_name
                path.parent.mkdir(exist_ok=True)
                decompress(artifact.path, path, artifact.content_sha256)
            self._contents[artifact.key] = path
        return self._contents[artifact.key]

    def dehydrate(self, directory: Path, target: Path, *words: str) -> Usage:
        """Make a store, proof included."""
        jobs = str(self.settings.cpus)
        return self.rehydrator(
            "build", "dehydrate", str(directory), str(target), "--jobs", jobs, "--arch", self.release.arch,
            "--allow-unhandled", "--progress", "none", *words,
        ).usage  # fmt: skip

    def open_store(self, root: Path) -> Store:
        """Read the listing of a store."""
        document = json.loads(self.rehydrator("list", "--store", str(root), "--json").output)
        return Store(root, self.release.arch, {item["name"]: item for item in document["artifacts"]})

    def store(self) -> tuple[Store, list[Usage]]:
        """Return the store of the release and what making it took, each time; nothing for one that was given."""
        if self._store is None:
            made = [] if self._given else self._made()
            store = self.open_store(self._given or self.work / "store")
            listed = {name: entry["sha256"] for name, entry in store.listing.items()}
            absent = [item.path.name for item in self.release.artifacts if listed.get(item.path.name) != item.sha256]
            if absent:
                raise BenchError(f"the store lacks {', '.join(absent)}")
            self._store = store, made
        return self._store

    def _made(self) -> list[Usage]:
        for artifact in self.release.artifacts:  # into the page cache
            sha256_of(artifact.path)
        made = []
        for number in range(self.settings.dehydrations):
            self.log(f"dehydrate, run {number + 1} of {self.settings.dehydrations}")
            made.append(self.dehydrate(self.release.directory, self.place("store")))
        return made

    def each(self, items: Iterable[Artifact], measure: Callable[[Artifact], T]) -> dict[str, T]:
        """Measure sizes of several artifacts, ``jobs`` at a time; the result is by artifact key."""
        chosen = list(items)
        with ThreadPoolExecutor(self.settings.jobs) as pool:
            return dict(zip((item.key for item in chosen), pool.map(measure, chosen), strict=True))

    def alternate(self, actions: Mapping[str, Callable[[], Usage]]) -> dict[str, list[Usage]]:
        """Run each action once to warm up, then ``runs`` rounds of all of them in turn."""
        usages: dict[str, list[Usage]] = {name: [] for name in actions}
        for number in range(self.settings.runs + 1):
            for name, action in actions.items():
                self.log(f"{name}: {f'run {number} of {self.settings.runs}' if number else 'warm-up'}")
                usage = action()
                if number:
                    usages[name].append(usage)
        return usages


def remove(path: Path) -> None:
    """Remove a file or a tree, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def median(usages: Sequence[Usage]) -> Usage:
    """Return the medians of time; of memory the largest."""
    return Usage(
        statistics.median(usage.wall for usage in usages),
        statistics.median(usage.cpu for usage in usages),
        max(usage.memory for usage in usages),
    )


def ratio(ours: Sequence[Usage], theirs: Sequence[Usage]) -> float:
    """Return the median over the rounds of how much longer ours took in the same round."""
    return statistics.median(one.wall / other.wall for one, other in zip(ours, theirs, strict=True))
