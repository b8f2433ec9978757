"""The programs that are compared with; none of them is needed, a missing one costs its column."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from .errors import BenchError
from .process import attempt, run

# program: (Debian package, how it tells its version)
PROGRAMS = {
    "rsync": ("rsync", "--version"),
    "zstd": ("zstd", "--version"),
    "xdelta3": ("xdelta3", "-V"),
    "casync": ("casync", "--version"),
    "qemu-img": ("qemu-utils", "--version"),
    "sha256sum": ("coreutils", "--version"),
    "tar": ("tar", "--version"),
    "cmp": ("diffutils", "--version"),
    "mksquashfs": ("squashfs-tools", "-version"),
    "unsquashfs": ("squashfs-tools", "-version"),
    "cpio": ("cpio", "--version"),
    "xz": ("xz-utils", "--version"),
    "virt-diff": ("libguestfs-tools", "--version"),
    "docker-registry": ("docker-registry", "--version"),
}


def missing(programs: Iterable[str]) -> list[str]:
    """Return those of ``programs`` that are not on PATH."""
    return [program for program in programs if shutil.which(program) is None]


def install(programs: Iterable[str]) -> None:
    """Install the missing ones with apt-get."""
    packages = sorted({PROGRAMS[program][0] for program in missing(programs)})
    if not packages:
        return
    if missing(["apt-get"]):
        raise BenchError(f"--install needs apt-get; install these yourself: {' '.join(packages)}")
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    run([*sudo, "apt-get", "install", "--yes", "--no-install-recommends", *packages])


def versions() -> dict[str, str]:
    """Return the first line of what each installed program says about itself."""
    found = {}
    for program, (_, option) in PROGRAMS.items():
        if missing([program]):
            found[program] = "missing"
            continue
        lines = attempt(["sh", "-c", f"{program} {option} 2>&1"]).output.splitlines()
        found[program] = lines[0].strip() if lines else "unknown"
    return found
