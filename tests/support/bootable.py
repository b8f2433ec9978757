"""A release of four architectures that boots, built once and kept for the next run of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from release_builder import packages

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
_NAME = "boot-release-"
# metal4k, which does not boot on s390x, is made there only.
_BUILDS = (("x86_64,aarch64,ppc64le", "metal,openstack"), ("s390x", "metal,metal4k,openstack"))
_KEPT = 24 * 3600  # seconds after which one that another state of the builder made may go


def _digest() -> str:
    """Return what tells one state of the builder from another."""
    found = sha256(repr(_BUILDS).encode())
    for path in sorted((SCRIPTS / "release_builder").glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def bootable_release() -> list[Path]:
    """Return the build directories, which are read-only; skips the test where they can't be built.

    They lie in the release builder's cache, under a name that depends on the builder's own text.
    """
    cache = packages.cache_directory()
    kept = cache / f"{_NAME}{_digest()}"
    for old in cache.glob(f"{_NAME}*"):
        if old != kept and old.stat().st_mtime < time.time() - _KEPT:
            shutil.rmtree(old, ignore_errors=True)
    if not kept.exists():
        _build(cache / f"{_NAME}making-{os.getpid()}").rename(kept)
    os.utime(kept)
    return [kept / str(number) for number in range(len(_BUILDS))]


def _build(work: Path) -> Path:
    """Build side by side what takes a minute together: each waits for disks and programs most of the time."""
    outs = [work / str(number) for number in range(len(_BUILDS))]
    with ThreadPoolExecutor() as pool:
        problems = list(filter(None, pool.map(_build_one, outs, *zip(*_BUILDS, strict=True))))
    if problems:
        shutil.rmtree(work, ignore_errors=True)
        pytest.skip(f"no release that boots: {problems[0]}")
    return work


def _build_one(out: Path, arch: str, platforms: str) -> str:
    """Return why the build failed, "" where it did not."""
    argv: list[str | Path] = [
        SCRIPTS / "build-release", out, "--arch", arch, "--platforms", platforms,
        "--content", "boot", "--cloud-size", "1G", "--uncompressed",
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-500:] if done.returncode else ""
