"""Debian packages as content: downloaded once into a cache, unpacked without their maintainer scripts."""

import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .tools import BuildError, CancelledBuildError, Runner

# Documentation and translations make many small files and are not in a CoreOS either; copyright files
# stay with what they describe.
EXCLUDED = (
    "./usr/share/doc/*/changelog*",
    "./usr/share/doc/*/NEWS*",
    "./usr/share/doc/*/README*",
    "./usr/share/doc/*/examples",
    "./usr/share/doc/*/html",
    "./usr/share/info",
    "./usr/share/lintian",
    "./usr/share/locale",
    "./usr/share/man",
    "./usr/share/bug",
    "./usr/lib/*/gconv",
    "./lib/*/gconv",
)
_KERNEL = r"linux-image-6\.[-.\w]+"


@dataclass(frozen=True)
class Download:
    """One package file as apt would fetch it."""

    package: str
    filename: str
    size: int


def cache_directory() -> Path:
    """Return the download cache, which REHYDRATOR_BUILD_CACHE can move."""
    override = os.environ.get("REHYDRATOR_BUILD_CACHE")
    return Path(override) if override else Path.home() / ".cache" / "rehydrator-build"


def host_architecture(runner: Runner) -> str:
    """Return Debian's name of this machine's architecture."""
    return runner.run("dpkg", "--print-architecture").decode().strip()


def parse_print_uris(text: str) -> list[Download]:
    """Parse `apt-get download --print-uris`: 'URI' FILE SIZE HASH on each line."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) >= 3 and words[1].endswith(".deb"):
            found.append(Download(words[1].split("_", 1)[0], words[1], int(words[2])))
    return found


def resolve_kernel(runner: Runner, name: str) -> str:
    """Return the kernel package behind a metapackage such as linux-image-cloud-amd64."""
    text = runner.run("apt-cache", "depends", "--important", name).decode()
    for word in text.split():
        if re.fullmatch(_KERNEL, word):
            return word
    raise BuildError(f"apt knows no kernel package behind {name}; run apt-get update on a Debian system")


def fetch(runner: Runner, names: list[str], cache: Path) -> dict[str, Path]:
    """Return the package files of `names`, downloading those that the cache lacks."""
    cache.mkdir(parents=True, exist_ok=True)
    apt = ("apt-get", "-o", "APT::Sandbox::User=root", "download", "-q")
    with tempfile.TemporaryDirectory() as empty:
        # apt leaves out the files that the current directory has already.
        try:
            wanted = parse_print_uris(runner.run(*apt, "--print-uris", *names, cwd=Path(empty)).decode())
        except CancelledBuildError:
            raise
        except BuildError as error:
            raise BuildError(f"cannot find all packages (is this Debian, after apt-get update?): {error}") from error
    absent = [
        item.package
        for item in wanted
        if not (cache / item.filename).exists() or (cache / item.filename).stat().st_size != item.size
    ]
    if absent:
        runner.run(*apt, *absent, cwd=cache)
    return {item.package: cache / item.filename for item in wanted}


def unpack(runner: Runner, package: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Unpack one package over `target`, keeping its symbolic links such as /lib to /usr/lib."""
    excludes = [f"--exclude={pattern}" for pattern in (*EXCLUDED, *without)]
    archive = target.with_name(f"{target.name}.tar")
    runner.run("dpkg-deb", "--fsys-tarfile", package, stdout=archive)
    runner.run("tar", "-x", "-p", "--keep-directory-symlink", "--wildcards", *excludes, "-f", archive, "-C", target)
    archive.unlink()
