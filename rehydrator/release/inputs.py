"""Telling what an input path is and reading all inputs of a dehydration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from rehydrator.errors import InputError, UsageError
from rehydrator.manifest.text import JSON_ERRORS
from rehydrator.release import cosa
from rehydrator.release.artifact import Inputs, Release
from rehydrator.release.stream import merge_streams, read_stream
from rehydrator.release.workdir import STATE, WorkDirectory


class _Sniff(msgspec.Struct):
    """The keys that tell one JSON file from another."""

    architectures: dict[str, msgspec.Raw] | None = None
    buildid: str | None = None


def read_inputs(paths: Iterable[Path], arch: str | None) -> Inputs:
    """Read build directories and stream metadata files; keep ``arch`` only, or all where it is None."""
    releases: list[Release] = []
    streams: list[bytes] = []
    notes: list[str] = []
    for path in paths:
        found, stream, left_out = _read(path)
        releases += found
        notes += left_out
        if stream is not None:
            streams.append(stream)
    chosen = [release for release in releases if arch in (None, "all", release.arch)]
    if not chosen:
        available = ", ".join(sorted({release.arch for release in releases})) or "none"
        raise UsageError(f"no input for architecture {arch}", hint=f"The inputs have: {available}")
    seen: set[str] = set()
    for release in chosen:
        if release.arch in seen:
            raise UsageError(f"two inputs bring architecture {release.arch}", hint="Choose one of them")
        seen.add(release.arch)
    return Inputs(tuple(chosen), merge_streams(streams), tuple(notes))


def _read(path: Path) -> tuple[list[Release], bytes | None, list[str]]:
    if path.is_file():
        return _read_json(path)
    if not path.is_dir():
        raise InputError("no such file or directory", path=path)
    if (path / STATE).is_file():
        work = WorkDirectory(path)
        return work.releases(), work.document(), []
    for directory, stream in ((path / "builds", path / "stream.json"), (path, path.parent / "stream.json")):
        if (directory / "builds.json").is_file():
            found = cosa.read_builds(directory)
            document = stream.read_bytes() if stream.is_file() else None
            return list(found.releases), document, list(found.notes)
    if (path / "meta.json").is_file():
        build = cosa.read_build(path)
        return list(build.releases), None, list(build.notes)
    if (path / "stream.json").is_file():
        return _read_json(path / "stream.json")
    raise InputError(
        "neither a coreos-assembler build directory nor stream metadata",
        path=path,
        expected="build.json, builds/builds.json, builds.json, meta.json or stream.json in it",
    )


def _read_json(path: Path) -> tuple[list[Release], bytes | None, list[str]]:
    data = path.read_bytes()
    try:
        sniff = msgspec.json.decode(data, type=_Sniff)
    except JSON_ERRORS as error:
        raise InputError(f"is not JSON of a release: {error}", path=path) from error
    if sniff.architectures is not None:
        return read_stream(path), data, []
    if sniff.buildid is not None:
        build = cosa.read_build(path.parent)
        return list(build.releases), None, list(build.notes)
    raise InputError("is neither stream metadata nor a meta.json", path=path)
