"""C libraries out of pinned wheels: several versions of one library side by side.

What a compressor writes depends on its library's version, and pip installs one version of a distribution. A library
that a record names by its version is therefore looked for in the installed distribution, when that happens to have
the version, and else in a directory of wheel files, which ``scripts/fetch-codecs`` fills. It is loaded straight from
the wheel: from memory, under a name of its own, so that versions do not meet.
"""

from __future__ import annotations

import ctypes
import fnmatch
import functools
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.errors import UnsupportedError

DIRECTORY_VARIABLE = "REHYDRATOR_CODECS"
_MAX_LIBRARY = 64 << 20  # what a wheel may unpack to: the largest that is known has 4 MiB


class Wheel(msgspec.Struct, frozen=True):
    """A distribution of PyPI at one version; ``library`` is the pattern of its shared library's name in the wheel."""

    project: str
    version: str
    library: str

    @property
    def requirement(self) -> str:
        """What pip is told to get exactly this one."""
        return f"{self.project}=={self.version}"


def directory() -> Path:
    """Return where wheel files are looked for: $REHYDRATOR_CODECS, or beside what pip installed."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    return Path(named) if named else Path(sys.prefix) / "share" / "rehydrator" / "codecs"


@functools.cache
def load(wheel: Wheel) -> ctypes.CDLL:
    """Load the shared library of a wheel; raises UnsupportedError, with the way to get it, where it is not there."""
    path = _installed(wheel)
    try:
        if path is not None:
            return ctypes.CDLL(str(path))
        for file in _files(wheel):
            content = _unpack(file, wheel)
            if content is not None:
                return _load_from_memory(content, wheel)
    except OSError as error:
        raise UnsupportedError(f"the library of {wheel.requirement} can't be loaded: {error}") from error
    raise UnsupportedError(
        f"the library of {wheel.requirement} is needed, but it is neither installed nor in {directory()}",
        hint=f"Run scripts/fetch-codecs, or: pip install {wheel.requirement}",
    )


def _installed(wheel: Wheel) -> Path | None:
    """Return the library of the installed distribution, if it has the version."""
    from importlib import metadata  # noqa: PLC0415 - a tenth of the time that the program takes to start

    try:
        found = metadata.distribution(wheel.project)
    except metadata.PackageNotFoundError:
        return None
    if found.version != wheel.version:
        return None
    names = (item for item in found.files or () if fnmatch.fnmatch(item.as_posix(), wheel.library))
    return next((Path(str(item.locate())) for item in names), None)


def _files(wheel: Wheel) -> Iterator[Path]:
    """Yield the wheel files of this version that are built for this Python and processor."""
    stem = f"{wheel.project.replace('-', '_')}-{wheel.version}-"
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for path in sorted(directory().glob(f"{stem}*.whl")):
        tags = path.stem.removeprefix(stem).split("-")
        built_for_python = tags[0] in (python, "py3") or "abi3" in tags
        if built_for_python and platform.machine() in tags[-1]:
            yield path


def _unpack(path: Path, wheel: Wheel) -> bytes | None:
    import zipfile  # noqa: PLC0415 - only here, and rarely

    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                if fnmatch.fnmatch(item.filename, wheel.library) and item.file_size <= _MAX_LIBRARY:
                    return archive.read(item)
    except zipfile.BadZipFile as error:
        raise UnsupportedError("this wheel is damaged", path=path, hint="Run scripts/fetch-codecs again") from error
    return None


def _load_from_memory(content: bytes, wheel: Wheel) -> ctypes.CDLL:
    """Load a library that has no place in the file system.

    Its descriptor stays open: the loader knows libraries by name, and another one under the same number would be
    taken for this one.
    """
    fd = os.memfd_create(wheel.requirement)
    with open(fd, "wb", closefd=False) as stream:
        stream.write(content)
    return ctypes.CDLL(f"/proc/self/fd/{fd}")
