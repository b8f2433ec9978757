"""meta.json, builds.json and stream metadata in the shape of the real ones."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .ostree import ref_of
from .platforms import NAME

_CHUNK = 1 << 20

Json = dict[str, Any]


@dataclass(frozen=True)
class Digest:
    """What identifies a file's content."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Artifact:
    """One file of the release."""

    key: str  # in meta.json
    platform: str  # in stream metadata
    format: str
    role: str
    filename: str
    digest: Digest
    # Only for files that were compressed as a last step.
    uncompressed: Digest | None = None
    signed: bool = False


@dataclass(frozen=True)
class Build:
    """A build of one architecture."""

    build_id: str
    arch: str
    commit: str
    artifacts: tuple[Artifact, ...]
    time: datetime

    @property
    def timestamp(self) -> str:
        """The build's time as the metadata write it."""
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> datetime:
    """Return the time for the metadata."""
    return datetime.now(UTC).replace(microsecond=0)


def digest_file(path: Path) -> Digest:
    """Hash a file."""
    hasher, size = hashlib.sha256(), 0
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return Digest(hasher.hexdigest(), size)


def meta(build: Build) -> Json:
    """Return meta.json."""
    images = {}
    for artifact in sorted(build.artifacts, key=lambda item: item.key):
        entry: Json = {"path": artifact.filename, "sha256": artifact.digest.sha256, "size": artifact.digest.size}
        if artifact.uncompressed:
            entry["uncompressed-sha256"] = artifact.uncompressed.sha256
            entry["uncompressed-size"] = artifact.uncompressed.size
        else:
            entry["skip-compression"] = True
        images[artifact.key] = entry
    return {
        "ref": ref_of(build.arch),
        "ostree-commit": build.commit,
        "ostree-version": build.build_id,
        "ostree-timestamp": build.timestamp,
        "buildid": build.build_id,
        "name": NAME,
        "summary": "CoreOS-like test release",
        "coreos-assembler.build-timestamp": build.timestamp,
        "coreos-assembler.basearch": build.arch,
        "coreos-assembler.image-genver": 0,
        "images": images,
    }


def builds(existing: Json | None, build: Build) -> Json:
    """Return builds.json with this build in front; other architectures of the same build stay."""
    entries = (existing or {}).get("builds", [])
    older = [entry for entry in entries if entry["id"] != build.build_id]
    arches = {arch for entry in entries if entry["id"] == build.build_id for arch in entry["arches"]}
    return {
        "schema-version": "1.0.0",
        "builds": [{"id": build.build_id, "arches": sorted({*arches, build.arch})}, *older],
        "timestamp": build.timestamp,
    }


def stream(existing: Json | None, build: Build, base_url: str) -> Json:
    """Return stream metadata for the build; other architectures of the same build in `existing` stay."""
    platforms: Json = {}
    for artifact in sorted(build.artifacts, key=lambda item: (item.platform, item.format)):
        location = f"{base_url}/{build.build_id}/{build.arch}/{artifact.filename}"
        entry = {"location": location}
        if artifact.signed:
            entry["signature"] = f"{location}.sig"
        entry["sha256"] = artifact.digest.sha256
        if artifact.uncompressed:
            entry["uncompressed-sha256"] = artifact.uncompressed.sha256
        platform = platforms.setdefault(artifact.platform, {"release": build.build_id, "formats": {}})
        platform["formats"].setdefault(artifact.format, {})[artifact.role] = entry
    return {
        "stream": "testing",
        "metadata": {"last-modified": build.timestamp, "generator": "rehydrator build-release"},
        "architectures": {
            **_same_build(existing, build),
            build.arch: {"artifacts": platforms, "images": {}},
        },
    }


def _same_build(existing: Json | None, build: Build) -> Json:
    architectures: Json = (existing or {}).get("architectures", {})
    return {
        arch: content
        for arch, content in architectures.items()
        if any(platform["release"] == build.build_id for platform in content["artifacts"].values())
    }


def write_json(path: Path, document: Json) -> None:
    """Write a JSON file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(document, indent=4) + "\n", encoding="utf-8")
    temporary.replace(path)


def write_build(out: Path, build: Build, base_url: str) -> None:
    """Write the three metadata files of a cosa build directory."""
    write_json(out / "builds" / build.build_id / build.arch / "meta.json", meta(build))
    index, stream_path = out / "builds/builds.json", out / "stream.json"
    write_json(index, builds(_read_json(index), build))
    write_json(stream_path, stream(_read_json(stream_path), build, base_url))


def _read_json(path: Path) -> Json | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
