"""Starting an image in an emulated machine, and reading its console."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .machines import DRIVERS, Machine

# The kernel's own line, or that of the release builder's initramfs, which no log level hides.
_COMMAND_LINE = re.compile(rb"(?:CMDLINE|Kernel command line): ([^\r\n]*)\r?\n")
# A guest that has said nothing of use by then is given up; alone and under emulation the slowest takes half a minute.
LIMIT = 600.0
_COMMON = ("-accel", "tcg", "-nographic", "-nodefaults", "-no-reboot", "-m", "1024", "-smp", "1")


@dataclass(frozen=True)
class Console:
    """What a machine printed until it was stopped, and the seconds that it ran."""

    machine: Machine
    printed: bytes
    seconds: float

    @property
    def command_line(self) -> str | None:
        """The command line of the kernel that was started, None where none was."""
        found = _COMMAND_LINE.search(self.printed)
        return found[1].decode(errors="replace") if found else None

    @property
    def failure(self) -> str:
        """What firmware or boot loader said when it found nothing to start, "" where it did not."""
        found = self.machine.failure.search(self.printed)
        return found[0].decode(errors="replace") if found and self.command_line is None else ""

    @property
    def tail(self) -> str:
        """The end of what was printed."""
        return self.printed[-2000:].decode(errors="replace")


def start(machine: Machine, image: Path, sector: int = 512) -> Console:
    """Start ``image`` and read until a kernel told its command line, nothing was found to start, or time is over.

    Nothing is written to the image. The emulator is gone when this returns.
    """
    sizes = f",logical_block_size={sector},physical_block_size={sector}" if sector != 512 else ""
    argv = [
        machine.program, *_COMMON, *machine.arguments,
        "-drive", f"if=none,id=disk,file={image},format={DRIVERS[image.suffix]},snapshot=on",
        "-device", f"{machine.device},drive=disk{sizes}",
    ]  # fmt: skip
    begin = time.monotonic()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        printed = _read(process, machine, begin + LIMIT)
    finally:
        process.kill()
        process.wait()
    return Console(machine, printed, time.monotonic() - begin)


def _read(process: subprocess.Popen[bytes], machine: Machine, end: float) -> bytes:
    assert process.stdout is not None
    printed = b""
    with selectors.DefaultSelector() as waiting, process.stdout as stream:
        waiting.register(stream, selectors.EVENT_READ)
        while not _COMMAND_LINE.search(printed) and not machine.failure.search(printed) and time.monotonic() < end:
            if waiting.select(timeout=max(end - time.monotonic(), 0)):
                data = os.read(stream.fileno(), 1 << 16)
                if not data:
                    break
                printed += data
    return printed
