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
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

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


def advice(missing: Iterable[str]) -> str | None:
    """Tell how to get encoders that are not to be had here, by name, for a file that others do not give back."""
    names = ", ".join(missing)
    if not names:
        return None
    return f"It may be by one of {names}, which are not at hand: run scripts/fetch-codecs and try again"


@functools.cache
def load(wheel: Wheel) -> ctypes.CDLL:
    """Load the shared library of a wheel; raises UnsupportedError, with the way to get it, where it is not there."""
    try:
        return ctypes.CDLL(_place(wheel))
    except OSError as error:
        raise _not_loaded(wheel, error) from error


@functools.cache
def load_module(wheel: Wheel) -> ModuleType:
    """Load the shared library of a wheel as the Python module that it is; raises as :func:`load` does."""
    from importlib import machinery, util  # noqa: PLC0415 - rarely

    name = ".".join(wheel.library.split(".")[0].split("/"))
    place = _place(wheel)
    try:
        loader = machinery.ExtensionFileLoader(name, place)
        made = util.module_from_spec(machinery.ModuleSpec(name, loader, origin=place))
        loader.exec_module(made)
    except ImportError as error:
        raise _not_loaded(wheel, error) from error
    return made


def _not_loaded(wheel: Wheel, error: Exception) -> UnsupportedError:
    return UnsupportedError(f"the library of {wheel.requirement} can't be loaded: {error}")


def _place(wheel: Wheel) -> str:
    """Return a path that the library can be loaded from."""
    path = _installed(wheel)
    if path is not None:
        return str(path)
    for file in _files(wheel):
        content = _unpack(file, wheel)
        if content is not None:
            return _in_memory(content, wheel)
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


def _in_memory(content: bytes, wheel: Wheel) -> str:
    """Return a path of a library that has no place in the file system.

    Its descriptor stays open: the loader knows libraries by name, and another one under the same number would be
    taken for this one.
    """
    fd = os.memfd_create(wheel.requirement)
    with open(fd, "wb", closefd=False) as stream:
        stream.write(content)
    return f"/proc/self/fd/{fd}"
