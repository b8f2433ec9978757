"""The release that is measured: a coreos-assembler build directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BenchError

_NOT_RELEASED = frozenset({"ostree", "oci-manifest"})
_COMPRESSIONS = (".xz", ".gz", ".zip")


@dataclass(frozen=True)
class Artifact:
    """One shipped file. Its content is what the release gives a sha256 for: uncompressed where there is such."""

    key: str
    path: Path
    size: int
    sha256: str
    content_size: int
    content_sha256: str

    @property
    def peeled(self) -> bool:
        """Whether the content is not the shipped file itself."""
        return self.content_sha256 != self.sha256

    @property
    def content_name(self) -> str:
        """File name of the content."""
        return self.path.stem if self.peeled else self.path.name

    @property
    def container(self) -> str:
        """The suffix of the content's name: ``raw``, ``qcow2``, ``vmdk``, …."""
        return self.content_name.rpartition(".")[2]

    @property
    def live(self) -> bool:
        """Whether this is a file of the live system and no disk."""
        return self.key.startswith("live-")


@dataclass(frozen=True)
class Release:
    """One architecture of the newest build in a build directory; ``meta`` is its meta.json."""

    directory: Path
    build: str
    arch: str
    artifacts: tuple[Artifact, ...]
    meta: dict[str, Any]

    def get(self, key: str) -> Artifact | None:
        """Return the artifact ``key`` (``metal``, ``openstack``, …) if the release has it."""
        return next((item for item in self.artifacts if item.key == key), None)

    def need(self, key: str) -> Artifact:
        """Return the artifact ``key``; raises BenchError where the release lacks it."""
        found = self.get(key)
        if found is None:
            raise BenchError(f"{self.directory}: the release has no {key}")
        return found


@dataclass(frozen=True)
class _Build:
    """The newest build of a build directory, and its architectures in its own order, as far as they are there."""

    directory: Path
    arches: tuple[str, ...]


def _newest(directory: Path) -> _Build:
    """Find the newest build below ``directory`` or ``directory/builds``."""
    root = next((at for at in (directory, directory / "builds") if (at / "builds.json").is_file()), None)
    if root is None:
        raise BenchError(f"{directory}: no builds.json here, so no build directory of coreos-assembler")
    builds = json.loads((root / "builds.json").read_text())["builds"]
    if not builds:
        raise BenchError(f"{directory}: builds.json lists no build")
    build = root / str(builds[0]["id"])
    listed = builds[0].get("arches") or sorted(item.name for item in build.iterdir())
    return _Build(build, tuple(name for name in listed if (build / name / "meta.json").is_file()))


def architectures_of(directory: Path) -> tuple[str, ...]:
    """Return the architectures of the newest build."""
    return _newest(directory).arches


def read_release(directory: Path, arch: str | None) -> Release:
    """Read the newest build below ``directory`` or ``directory/builds``."""
    build = _newest(directory)
    if not build.arches or (arch and arch not in build.arches):
        there = ", ".join(build.arches) or "none"
        raise BenchError(f"{directory}: no architecture {arch or 'to measure'}; there is {there}")
    chosen = arch or build.arches[0]
    meta = json.loads((build.directory / chosen / "meta.json").read_text())
    artifacts = tuple(
        _artifact(key, image, build.directory / chosen)
        for key, image in meta["images"].items()
        if key not in _NOT_RELEASED
    )
    return Release(directory, build.directory.name, chosen, artifacts, meta)


def _artifact(key: str, image: dict[str, Any], directory: Path) -> Artifact:
    path = directory / str(image["path"])
    if not path.is_file():
        raise BenchError(f"{path}: listed in meta.json but not there")
    size = path.stat().st_size
    content = image.get("uncompressed-sha256") if path.suffix in _COMPRESSIONS else None
    return Artifact(
        key=key,
        path=path,
        size=size,
        sha256=image["sha256"],
        content_size=int(image["uncompressed-size"]) if content else size,
        content_sha256=content or image["sha256"],
    )
