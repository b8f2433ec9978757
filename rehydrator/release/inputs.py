"""Telling what an input path is and reading all inputs of a dehydration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from rehydrator.errors import InputError, UsageError
from rehydrator.manifest.text import JSON_ERRORS
from rehydrator.release import cosa
from rehydrator.release.artifact import Inputs
from rehydrator.release.document import read_document
from rehydrator.release.stream import listed_releases, merge_streams, read_stream
from rehydrator.release.workdir import STATE, STREAM, WorkDirectory

_ALL = "all"


class Selection(msgspec.Struct, frozen=True):
    """Which part of the inputs is wanted: architectures, none for all, and the build of directories that have several.

    ``build`` is an id or tag of ``builds.json``, or ``latest``; "" for the newest.
    """

    architectures: tuple[str, ...] = ()
    build: str = ""

    def has(self, arch: str) -> bool:
        """Whether an architecture is wanted."""
        return not self.architectures or bool({arch, _ALL} & set(self.architectures))


class _Sniff(msgspec.Struct):
    """The keys that tell one JSON file from another."""

    architectures: dict[str, msgspec.Raw] | None = None
    buildid: str | None = None


def read_inputs(given: Iterable[Path | Inputs], selection: Selection) -> Inputs:
    """Read build directories and stream metadata files; join them with what was read already, and keep what is wanted.

    Raises UsageError where an architecture is in none of them, or in two.
    """
    found = [item if isinstance(item, Inputs) else _read(item, selection) for item in given]
    releases = [release for item in found for release in item.releases]
    missing = set(selection.architectures) - {_ALL} - {release.arch for release in releases}
    if missing:
        available = ", ".join(sorted({release.arch for release in releases})) or "none"
        raise UsageError(
            f"no input for architecture {', '.join(sorted(missing))}", hint=f"The inputs have: {available}"
        )
    chosen = [release for release in releases if selection.has(release.arch)]
    seen: set[str] = set()
    for release in chosen:
        if release.arch in seen:
            raise UsageError(f"two inputs bring architecture {release.arch}", hint="Choose one of them")
        seen.add(release.arch)
    streams = [item.stream for item in found if item.stream is not None]
    return Inputs(tuple(chosen), merge_streams(streams), tuple(note for item in found for note in item.notes))


def _read(path: Path, selection: Selection) -> Inputs:
    """Read one input. Raises UsageError where it is a single build and one is to be chosen."""
    if path.is_dir() and not (path / STATE).is_file():
        for directory, stream in ((path / "builds", path / STREAM), (path, path.parent / STREAM)):
            if (directory / cosa.BUILDS).is_file():
                return _with_stream(cosa.read_builds(directory, selection.build or cosa.LATEST), stream)
    if selection.build:
        raise UsageError(
            "has no builds to choose from", path=path, hint=f"--build is for directories with a {cosa.BUILDS}"
        )
    return _read_single(path)


def _read_single(path: Path) -> Inputs:
    if path.is_file():
        return _read_json(path)
    if not path.is_dir():
        raise InputError("no such file or directory", path=path)
    if (path / STATE).is_file():
        work = WorkDirectory(path)
        return Inputs(tuple(work.releases()), work.document())
    if cosa.is_arch(path):
        return cosa.read_arch(path)
    if (path / STREAM).is_file():
        return _read_json(path / STREAM)
    for directory in (path, path / cosa.LATEST, path / "builds" / cosa.LATEST):
        if directory.is_dir() and cosa.is_build(directory):
            return cosa.read_build(directory)
    raise InputError(
        "neither a coreos-assembler build directory nor stream metadata",
        path=path,
        expected="build.json, builds/builds.json, builds.json, meta.json or stream.json in it",
    )


def _with_stream(found: Inputs, path: Path) -> Inputs:
    """Add the stream metadata beside a build, unless it is that of another one."""
    if not path.is_file():
        return found
    document = read_document(path)
    listed = listed_releases(document, path)
    named = {name for release in found.releases for name in listed.get(release.arch, ())}
    here = {release.release for release in found.releases}
    if named - here:
        note = f"{path.name} lists {', '.join(sorted(named))}, not {', '.join(sorted(here))}; left out"
        return msgspec.structs.replace(found, notes=(*found.notes, note))
    return msgspec.structs.replace(found, stream=document)


def _read_json(path: Path) -> Inputs:
    data = read_document(path)
    try:
        sniff = msgspec.json.decode(data, type=_Sniff)
    except JSON_ERRORS as error:
        raise InputError(f"is not JSON of a release: {error}", path=path) from error
    if sniff.architectures is not None:
        return Inputs(tuple(read_stream(path)), data)
    if sniff.buildid is not None:
        return cosa.read_arch(path.parent)
    raise InputError("is neither stream metadata nor a meta.json", path=path)
