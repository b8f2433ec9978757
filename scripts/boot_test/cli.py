"""The command line of ``scripts/boot-test``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehydrator.boot.bls import platforms_of
from rehydrator.check import check
from rehydrator.destination import to_directory
from rehydrator.errors import RehydratorError
from rehydrator.manifest.schema import Manifest
from rehydrator.progress import Style, make_progress
from rehydrator.rehydrate import Options
from rehydrator.release.naming import platform_id
from rehydrator.selection import ALL, Choice, architectures, choose, short_name
from rehydrator.store.reader import Store

from .console import Console, start
from .machines import DRIVERS, Machine, machines_of

LARGE_SECTOR = 4096


@dataclass(frozen=True)
class Trial:
    """One image started in one machine: what ``check`` says of it, and whether it booted as its platform."""

    image: str
    healthy: bool
    console: Console
    platform: str

    @property
    def booted(self) -> bool:
        """Whether a kernel was started with the platform's id."""
        return platforms_of(self.console.command_line or "") == [self.platform]

    @property
    def agrees(self) -> bool:
        """Whether what ``check`` says came true."""
        return self.healthy == self.booted

    def line(self) -> str:
        """Return a line for the reader."""
        said = f"booted as {self.platform}" if self.booted else f"did not boot as {self.platform}: {self._reason()}"
        verdict = "healthy" if self.healthy else "unhealthy"
        return (
            f"{'OK' if self.agrees else 'WRONG':<5}  {self.image}: {self.console.machine.name}, {said} "
            f"({self.console.seconds:.1f} s); check: {verdict}"
        )

    def _reason(self) -> str:
        return self.console.command_line or self.console.failure or "nothing was said"


def main(arguments: Sequence[str] | None = None) -> int:
    """Start images; return 0 when ``check`` was right about all, 1 when not, 2 when they can't be started."""
    chosen = _parser().parse_args(arguments)
    trials = right = 0
    try:
        for trial in _trials(chosen):
            trials, right = trials + 1, right + trial.agrees
            print(trial.line(), flush=True)
            if not trial.agrees:
                print(trial.console.tail, file=sys.stderr)
    except (RehydratorError, OSError) as error:
        print(f"boot-test: {error}", file=sys.stderr)
        return 2
    if not trials:
        print("boot-test: nothing chosen can be started here", file=sys.stderr)
        return 2
    print(f"{right} of {trials} as check says")
    return 0 if right == trials else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="boot-test",
        description="Rehydrate disks from a store, start each in an emulated machine until the kernel tells its "
        "command line, and compare with what `rehydrator check` says. Nothing is run natively, nothing needs root.",
        epilog="The kernel has to tell its command line on the serial console: content boot, small or medium of "
        "scripts/build-release does, on every platform.",
    )
    parser.add_argument("store", type=Path, help="the store")
    parser.add_argument("--arch", default=ALL, help="an architecture of the store (default: all)")
    parser.add_argument("--disk", action="append", default=[], metavar="PLATFORM",
                        help=f"a platform; may be repeated (default: all in {', '.join(DRIVERS)})")  # fmt: skip
    return parser


def _trials(chosen: argparse.Namespace) -> Iterator[Trial]:
    with Store(chosen.store) as store:
        choice = Choice(tuple(chosen.disk), everything=not chosen.disk)
        for manifest in choose(store, architectures(store, chosen.arch), choice):
            if manifest.artifact.role != "disk" or Path(manifest.content.name).suffix not in DRIVERS:
                continue
            with tempfile.TemporaryDirectory(prefix="boot-test-") as scratch:
                to_directory([manifest], store, Path(scratch), make_progress(Style.NONE), Options())
                yield from _started(manifest, Path(scratch) / manifest.content.name)


def _started(manifest: Manifest, image: Path) -> Iterator[Trial]:
    platform = short_name(manifest.artifact.key)
    healthy = check(image, platform).healthy
    sector = LARGE_SECTOR if platform == "metal4k" else 512
    for machine in machines_of(manifest.artifact.arch):
        if _possible(machine, sector):
            yield Trial(image.name, healthy, start(machine, image, sector), platform_id(platform))


def _possible(machine: Machine, sector: int) -> bool:
    if machine.firmware == "BIOS" and sector != 512:
        return False  # the BIOS can't start a disk of larger sectors
    missing = machine.missing()
    if missing:
        print(f"boot-test: {machine.name}: missing {', '.join(missing)}", file=sys.stderr)
    return not missing
