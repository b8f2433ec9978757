"""Debian packages of other architectures and suites, without telling the host's apt about them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import packages
from .tools import BuildError, CancelledBuildError, Runner

T = TypeVar("T")
_CONFIG = """APT::Architectures {{"{architecture}";}};
APT::Architecture "{architecture}";
Dir::State "{top}";
Dir::State::status "{top}/status";
Dir::Cache "{top}/cache";
Dir::Etc::SourceList "{top}/sources.list";
Dir::Etc::SourceParts "/dev/null";
"""
_INDEX_FORMAT = "$(REPO_URI) $(CODENAME)"


@dataclass(frozen=True)
class Collection:
    """Packages of one architecture (Debian's name for it) and suite; an empty suite is the host's own."""

    architecture: str
    suite: str = ""


def host_collection(runner: Runner) -> tuple[str, str]:
    """Return site and suite of the host's main index. Raises BuildError where apt has none."""
    text = runner.run("apt-get", "indextargets", "--format", _INDEX_FORMAT, "Created-By: Packages").decode()
    for line in text.splitlines():
        site, suite = line.split(" ", 1)
        if "-" not in suite:  # not updates, not security
            return site, suite
    raise BuildError("apt has no index of packages; run apt-get update on a Debian system")


def fetch(runner: Runner, collection: Collection, names: Sequence[str], cache: Path) -> dict[str, Path]:
    """Return the package files of `names`, downloading those that the cache lacks."""
    return ask(runner, collection, cache, lambda apt, held: packages.fetch(apt, list(names), held))


def ask(runner: Runner, collection: Collection, cache: Path, question: Callable[[Runner, Path], T]) -> T:
    """Return what `question` finds out with apt; it gets a runner, and the directory for package files.

    A question that fails is asked again with a new index, since the old one may name packages that are gone.
    """
    site, suite = host_collection(runner)
    suite = collection.suite or suite
    top = cache / f"apt-{collection.architecture}-{suite}"
    fresh = not (top / "ready").exists()
    if fresh:
        _prepare(top, collection.architecture, site, suite)
    apt = runner.with_env({"APT_CONFIG": str(top / "apt.conf")})
    held = cache / collection.architecture
    held.mkdir(parents=True, exist_ok=True)
    try:
        if fresh:
            apt.run("apt-get", "-q", "update")
            (top / "ready").touch()
        return question(apt, held)
    except CancelledBuildError:
        raise
    except BuildError:
        if fresh:
            raise
        shutil.rmtree(top)
        return ask(runner, collection, cache, question)


def _prepare(top: Path, architecture: str, site: str, suite: str) -> None:
    (top / "lists/partial").mkdir(parents=True, exist_ok=True)
    (top / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    (top / "status").touch()
    (top / "apt.conf").write_text(_CONFIG.format(architecture=architecture, top=top), encoding="utf-8")
    (top / "sources.list").write_text(f"deb [arch={architecture}] {site} {suite} main\n", encoding="utf-8")
