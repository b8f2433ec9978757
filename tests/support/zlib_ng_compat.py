"""zlib-ng in place of zlib under another program, as on Fedora: built from the source distribution of the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from rehydrator.codecs.wheels import Wheel

PROGRAMS = ("cmake", "make", "gcc")
_SOURCE = "src/zlib_ng/zlib-ng"
_LIBRARY = "libz.so.1"
# Versions before 2.3 call the second option by the name of the third: tests of their own, which would fetch sources.
# What the library writes does not depend on optimisation, which takes longer than compressing does here.
_OPTIONS = (
    "-DZLIB_COMPAT=ON",
    "-DBUILD_TESTING=OFF",
    "-DZLIB_ENABLE_TESTS=OFF",
    "-DCMAKE_BUILD_TYPE=None",
    "-DCMAKE_C_FLAGS=-O1",
    "-DBUILD_SHARED_LIBS=ON",  # and no static one
)


def build(wheel: Wheel, cache: Path) -> Path:
    """Return the library that stands in for zlib; made once, then kept in ``cache``.

    Raises CalledProcessError where the source can't be downloaded or built.
    """
    directory = cache / f"{wheel.project}-{wheel.version}"
    library = directory / "build" / _LIBRARY
    if not library.exists():
        directory.mkdir(parents=True, exist_ok=True)
        source = _download(wheel, directory)
        _run(["cmake", "-S", source, "-B", library.parent, *_OPTIONS])
        _run(["cmake", "--build", library.parent, "--parallel"])
    return library


def minigzip(wheel: Wheel, cache: Path) -> Path:
    """Return zlib-ng's own example of a gzip, which uses the gzip functions of the library; raises as ``build``."""
    library = build(wheel, cache)
    program = library.with_name("minigzip")
    if not program.exists():
        (source,) = library.parent.parent.glob(f"*/{_SOURCE}")
        words: list[str | Path] = [
            "-DZLIB_COMPAT",
            f"-I{library.parent}",
            f"-I{source}",
            source / "test" / "minigzip.c",
            library,
        ]
        _run(["gcc", "-O1", *words, f"-Wl,-rpath,{library.parent}", "-o", program])
    return program


def _download(wheel: Wheel, directory: Path) -> Path:
    words: list[str | Path] = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        directory,
    ]
    _run([sys.executable, "-m", "pip", "download", *words, wheel.requirement])
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(directory, filter="data")
    (source,) = directory.glob(f"*/{_SOURCE}")
    return source


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def environment(library: Path) -> dict[str, str]:
    """Return the environment in which a program uses ``library`` in place of zlib."""
    return {**os.environ, "LD_PRELOAD": str(library)}
