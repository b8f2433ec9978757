"""Trees with a zipl of some version and the s390x libraries that it needs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from release_builder import foreign, packages
from release_builder.tools import BuildError, Runner, search_path

ARCHITECTURE = "s390x"
SUITES = ("bookworm", "trixie", "sid")
EMULATOR = "qemu-s390x-static"
_PACKAGES = ("s390-tools", "libc6", "zlib1g", "libgcc-s1")
_PROGRAMS = ("usr/sbin/zipl", "sbin/zipl")


@dataclass(frozen=True)
class Target:
    """What zipl is told: the whole-disk device, sector size and first sector of the boot partition."""

    device: str
    sector: int
    offset: int


@dataclass(frozen=True)
class Zipl:
    """One zipl: the tree that it sees as its root, and its version."""

    root: Path
    program: Path
    version: str

    def run(self, target: Target, boot: Path, kernel: Path, ramdisk: Path, parmline: str) -> None:
        """Make `boot` bootable as osbuild's stage does. Raises BuildError."""
        command = [
            EMULATOR, "-L", self.root, self.program, "--target", boot, "--image", kernel, "--ramdisk", ramdisk,
            "--parameters", parmline, "--targetbase", target.device, "--targettype", "SCSI",
            "--targetblocksize", str(target.sector), "--targetoffset", str(target.offset),
        ]  # fmt: skip
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"zipl {self.version} failed with {done.returncode}: {done.stderr.strip()[-500:]}")

    def set_secure(self, *, secure: bool) -> None:
        """Say whether the machine that zipl runs on has secure IPL."""
        place = self.root / "sys/firmware/ipl"
        place.mkdir(parents=True, exist_ok=True)
        (place / "has_secure").write_text(f"{int(secure)}\n")


def emulator() -> str | None:
    """Return the path of the emulator, None where there is none."""
    return shutil.which(EMULATOR, path=search_path())


def zipl_of(suite: str, cache: Path, runner: Runner) -> Zipl:
    """Return the zipl of a Debian suite, downloaded and unpacked below `cache` when first asked for."""
    root = cache / f"zipl-{suite}"
    if not (root / "ready").exists():
        files = foreign.fetch(runner, foreign.Collection(ARCHITECTURE, suite), _PACKAGES, cache)
        shutil.rmtree(root, ignore_errors=True)
        (root / "usr/lib").mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        for package in files.values():
            packages.unpack(runner, package, root)
        (root / "ready").touch()
    program = next(root / name for name in _PROGRAMS if (root / name).exists())
    text = runner.run(EMULATOR, "-L", root, program, "--version").decode()
    return Zipl(root, program, text.split("version", 1)[1].split("-")[0].strip())
