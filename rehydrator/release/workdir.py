"""The directory in which ``build`` brings a stream's files together.

::

    build.json                     what was asked for, and which signatures were checked
    stream.json                    the stream metadata, verbatim
    builds/<release>/<arch>/       the files, as a build directory of coreos-assembler has them
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Literal

import msgspec

from rehydrator.disk.sink import FileSink
from rehydrator.errors import AbsentError, InputError, MismatchError, OutputError, UsageError
from rehydrator.manifest.text import decode, encode
from rehydrator.manifest.version import BUILD_VERSION, check_version
from rehydrator.release.artifact import Release
from rehydrator.release.document import read_document
from rehydrator.release.naming import plain_name
from rehydrator.release.stream import Listed, build_path, list_stream, local_releases, stream_facts

STATE = "build.json"
STREAM = "stream.json"
_BUILDS = "builds"
_CANONICAL = "metal"  # the platform from which all others are told


class BuildState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``build.json``. ``sha256`` is that of ``stream.json``, which came from ``source``, a path or an address.

    ``architectures`` and ``platforms`` are those that were asked for, none for all. ``signers`` has the fingerprint of
    the key for each file whose signature was checked.
    """

    format: Literal["rehydrator-build"] = "rehydrator-build"
    version: str
    stream: str
    source: str
    sha256: str
    architectures: list[str] = []
    platforms: list[str] = []
    signers: dict[str, str] = {}


class _Version(msgspec.Struct):
    """Enough of the state of any version to say which version it has."""

    version: str


class Wish(msgspec.Struct, frozen=True):
    """Which part of a stream is wanted: architectures and platforms by name, none for all."""

    architectures: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()


class WorkDirectory:
    """A directory that :func:`start` made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        path = root / STATE
        try:
            data = read_document(path)
        except AbsentError as error:
            raise UsageError(
                f"no build begins here: {error.message}", path=path, hint="Run 'rehydrator build init' first"
            ) from error
        check_version("the build", decode(data, _Version, path).version, BUILD_VERSION, path)
        self.state = decode(data, BuildState, path)
        self.stream_path = root / STREAM

    def document(self) -> bytes:
        """Return the stream metadata. Raises MismatchError where it is not what came from its source."""
        data = read_document(self.stream_path)
        actual = hashlib.sha256(data).hexdigest()
        if actual != self.state.sha256:
            raise MismatchError(
                "was changed since 'rehydrator build init'",
                path=self.stream_path,
                expected=self.state.sha256,
                actual=actual,
                hint="Run it again",
            )
        return data

    def listed(self) -> list[Listed]:
        """Return the files that are wanted."""
        wish = Wish(tuple(self.state.architectures), tuple(self.state.platforms))
        return wanted(self.document(), self.stream_path, wish)

    def place(self, listed: Listed) -> Path:
        """Return where a file is, or will be."""
        return build_path(self.root, listed.identity, listed.name)

    def releases(self) -> list[Release]:
        """Return the releases, all of whose wanted files have to be here."""
        listed = self.listed()
        missing = [item.name for item in listed if not self.place(item).is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(listed)} files are not here",
                path=self.root,
                actual=", ".join(missing[:5]) + (" …" if len(missing) > 5 else ""),
                hint="Run 'rehydrator build download'",
            )
        return local_releases(listed, self.stream_path)

    def signed(self, signers: dict[str, str]) -> None:
        """Note whose signatures were checked."""
        self.state = msgspec.structs.replace(self.state, signers=signers)
        _write(self.root / STATE, encode(self.state))

    def remove(self) -> None:
        """Remove all that was downloaded or begun, and the directory where nothing else is in it."""
        try:
            if (self.root / _BUILDS).exists():
                shutil.rmtree(self.root / _BUILDS)
            for name in (STREAM, STATE):  # the state last: until then this can be done again
                (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot be removed: {error.strerror}", path=error.filename or self.root) from error
        with contextlib.suppress(OSError):
            self.root.rmdir()


def check_place(root: Path) -> None:
    """Raise UsageError or OutputError where no build can begin or go on in ``root``, before anything is fetched."""
    try:
        if (root / STATE).is_file():
            place = root
        elif root.is_symlink() or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
            raise UsageError("exists, and no build begins there", path=root, hint="Name another directory")
        else:
            place = next(parent for parent in (root, *root.absolute().parents) if parent.exists())
    except OSError as error:
        raise OutputError(f"cannot be used: {error.strerror}", path=root) from error
    if not place.is_dir():
        raise OutputError("cannot be created: is below a file", path=root)
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError("cannot be written to", path=place, hint="Name a directory that you may write to")


def start(root: Path, document: bytes, source: str, wish: Wish) -> WorkDirectory:
    """Make ``root`` the work directory for a stream, or bring the one that it is up to date.

    Raises what :func:`check_place` and :func:`wanted` raise, and UsageError where another stream's build is there.
    """
    check_place(root)
    path = root / STREAM
    wanted(document, path, wish)
    stream = plain_name(stream_facts(document, path).stream, path)
    if (root / STATE).is_file():
        before = WorkDirectory(root).state
        if before.stream != stream:
            raise UsageError(
                "a build of another stream is here",
                path=root,
                expected=stream,
                actual=before.stream,
                hint="'rehydrator build clean' removes it",
            )
    state = BuildState(
        version=BUILD_VERSION,
        stream=stream,
        source=source,
        sha256=hashlib.sha256(document).hexdigest(),
        architectures=list(wish.architectures),
        platforms=list(wish.platforms),
    )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=root) from error
    _write(path, document)
    _write(root / STATE, encode(state))
    return WorkDirectory(root)


def wanted(document: bytes, path: Path, wish: Wish) -> list[Listed]:
    """Return the files of a stream that are wanted; metal's, from which all others are told, always are.

    Raises UsageError for what the stream does not have, and InputError where names would lead elsewhere or collide.
    """
    listed = list_stream(document, path)
    _check_there({item.identity.arch for item in listed}, wish.architectures, "architecture", path)
    _check_there({item.identity.platform for item in listed}, wish.platforms, "platform", path)
    chosen = [
        item
        for item in listed
        if (not wish.architectures or item.identity.arch in wish.architectures)
        and (not wish.platforms or item.identity.platform in {_CANONICAL, *wish.platforms})
    ]
    if not chosen:
        raise InputError("lists no file", path=path)
    seen: set[Path] = set()
    for item in chosen:
        for part in (item.identity.release, item.identity.arch, item.name):
            plain_name(part, path)
        place = build_path(Path(), item.identity, item.name)
        if place in seen:
            raise InputError("lists two files of the same name", path=path, actual=str(place))
        seen.add(place)
    return chosen


def _check_there(there: set[str], names: tuple[str, ...], what: str, path: Path) -> None:
    missing = sorted(set(names) - there)
    if missing:
        raise UsageError(
            f"the stream has no {what} {', '.join(map(repr, missing))}",
            path=path,
            hint=f"It has: {', '.join(sorted(there))}",
        )


def _write(path: Path, data: bytes) -> None:
    with FileSink(path, sparse=False) as file:
        file.write(data)
        file.commit()
