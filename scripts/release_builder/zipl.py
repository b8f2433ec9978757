"""zipl, which makes s390x disks bootable: real zipl for s390x, run with an emulator of its programs."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import foreign, packages
from .architectures import S390X
from .tools import BuildError, Runner, search_path

SUITES = ("bookworm", "trixie", "sid")  # with zipl 2.16, 2.35 and 2.40
# The newest C library runs all of them, and its packages do not vanish with a point release.
_LIBRARY_SUITE = "sid"
EMULATOR = "qemu-s390x-static"
ZIPL_PACKAGE = "s390-tools"
_LIBRARIES = ("libc6", "zlib1g", "libgcc-s1")
_PROGRAMS = ("usr/sbin/zipl", "sbin/zipl")


@dataclass(frozen=True)
class Target:
    """What zipl is told: the whole-disk device, sector size and first sector of the boot partition."""

    device: str
    sector: int
    offset: int


@dataclass(frozen=True)
class Zipl:
    """One zipl: the tree that it sees as its root."""

    root: Path

    @property
    def program(self) -> Path:
        """The program. Raises BuildError where the tree has none."""
        for name in _PROGRAMS:
            if (self.root / name).exists():
                return self.root / name
        raise BuildError(f"no zipl in {self.root}")

    def version(self, runner: Runner) -> str:
        """Return the version that it says it has."""
        text = runner.run(EMULATOR, "-L", self.root, self.program, "--version").decode()
        return text.split("version", 1)[1].split("-")[0].strip()

    def run(
        self,
        target: Target,
        boot: Path,
        kernel: Path,
        ramdisk: Path | None = None,
        parmline: str = "",
        *,
        secure: bool = False,
    ) -> None:
        """Make `boot` bootable as osbuild's stage does, on a machine with or without secure IPL. Raises BuildError."""
        command = [
            EMULATOR, "-L", self.root, self.program, "--verbose", "--target", boot, "--image", kernel,
            "--targetbase", target.device, "--targettype", "SCSI", "--targetblocksize", str(target.sector),
            "--targetoffset", str(target.offset),
        ]  # fmt: skip
        if ramdisk:
            command += ["--ramdisk", ramdisk, "--parameters", parmline]
        with self._machine(secure=secure):
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"zipl failed with {done.returncode}: {done.stderr.strip()[-500:]}")

    @contextmanager
    def _machine(self, *, secure: bool) -> Iterator[None]:
        """Let the tree say whether the machine has secure IPL; others that run its zipl wait meanwhile."""
        place = self.root / "sys/firmware/ipl"
        place.mkdir(parents=True, exist_ok=True)
        with (place / "has_secure").open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.truncate(0)
            stream.write(f"{int(secure)}\n")
            stream.flush()
            yield


def emulator() -> str | None:
    """Return the path of the emulator, None where there is none."""
    return shutil.which(EMULATOR, path=search_path())


def zipl_of(suite: str, cache: Path, runner: Runner) -> Zipl:
    """Return the zipl of a Debian suite, downloaded and unpacked below `cache` when first asked for."""
    root = cache / f"zipl-{suite}"
    if not (root / "ready").exists():
        files = fetch(suite, cache, runner)
        shutil.rmtree(root, ignore_errors=True)
        unpack(runner, files, root)
        (root / "ready").touch()
    return Zipl(root)


def fetch(suite: str, cache: Path, runner: Runner) -> list[Path]:
    """Return the packages of a suite's zipl and of the libraries that it needs."""
    tools = foreign.fetch(runner, foreign.Collection(S390X.debian, suite), [ZIPL_PACKAGE], cache)
    libraries = foreign.fetch(runner, foreign.Collection(S390X.debian, _LIBRARY_SUITE), _LIBRARIES, cache)
    return [*tools.values(), *libraries.values()]


def unpack(runner: Runner, files: Iterable[Path], root: Path) -> None:
    """Unpack zipl and its libraries."""
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for package in files:
        packages.unpack(runner, package, root)
