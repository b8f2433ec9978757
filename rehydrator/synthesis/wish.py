"""What is asked for: a platform, and what shall be otherwise than its usual settings."""

from __future__ import annotations

import re

import msgspec

from rehydrator.boot.bls import platforms_of
from rehydrator.errors import UsageError

_PLATFORM = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SIZE = re.compile(r"([1-9][0-9]*)([KMGT]?)")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SECTOR = 512
_LARGEST = 16 << 40  # bytes; where files of ext4 end
_END_OF_TIME = 1 << 32  # where gzip's and VHD's counts of seconds end, and zip's years
MAX_ARGUMENTS = 4096  # the largest COMMAND_LINE_SIZE of the kernel's architectures
MAX_COMMANDS = 64 << 10


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """An image that shall be made.

    ``arguments`` are added to the platform's kernel arguments; ``console``, where given, are the GRUB commands in place
    of the platform's. ``size`` is that of the disk in bytes, 0 for the canonical disk's. ``epoch`` is the time of the
    change in seconds since 1970; without one the files keep their times.
    """

    platform: str
    arguments: tuple[str, ...] = ()
    console: tuple[str, ...] | None = None
    size: int = 0
    epoch: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't stand in a boot loader's files. Raises UsageError."""
        if not _PLATFORM.fullmatch(self.platform):
            raise UsageError("not the name of a platform", expected="a-z, 0-9 and -", actual=self.platform)
        if self.epoch is not None and not 0 <= self.epoch < _END_OF_TIME:
            raise UsageError("not a time for files", expected=f"seconds below {_END_OF_TIME}", actual=self.epoch)
        if self.size > _LARGEST:
            raise UsageError("the disk is too large", expected=f"at most {_LARGEST} bytes", actual=self.size)
        for argument in self.arguments:
            if platforms_of(argument):
                raise UsageError("the platform is not named by --kargs", actual=argument)
            if not argument or not argument.isprintable() or argument != argument.strip():
                raise UsageError("not kernel arguments", expected="printable text of one line", actual=repr(argument))
        if sum(len(argument.encode()) for argument in self.arguments) > MAX_ARGUMENTS:
            raise UsageError("the kernel arguments are too long", expected=f"at most {MAX_ARGUMENTS} bytes")
        for command in self.console or ():
            if not command.isprintable() or command.startswith("#"):
                raise UsageError("not a GRUB command", expected="printable text of one line", actual=repr(command))
        if sum(len(command.encode()) for command in self.console or ()) > MAX_COMMANDS:
            raise UsageError("the GRUB commands are too long", expected=f"at most {MAX_COMMANDS} bytes")


def parse_size(text: str) -> int:
    """Return a size in bytes, told with or without K, M, G, T (powers of 1024). Raises UsageError."""
    found = _SIZE.fullmatch(text.upper())
    size = int(found[1]) << _UNITS[found[2]] if found else 0
    if not size or size % _SECTOR:
        raise UsageError("not the size of a disk", expected=f"a multiple of {_SECTOR} bytes, such as 10G", actual=text)
    return size
