"""Whether KVM can be used on this host, as far as that was learned.

Some hosts offer KVM but guests die in it, and libguestfs then waits for ever. No probe tells; only a machine that
started, or did not. What was learned is kept per host and kernel in a file of the user's cache.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

_DEVICE = Path("/dev/kvm")
_MACHINE_ID = Path("/etc/machine-id")
_FILE = "rehydrator/kvm.json"


class Verdict(msgspec.Struct, frozen=True):
    """What became of the last machine that was started with KVM on ``host`` under ``kernel``."""

    host: str
    kernel: str
    works: bool


def _here(works: bool) -> Verdict:
    host = _MACHINE_ID.read_text().strip() if _MACHINE_ID.exists() else platform.node()
    return Verdict(host, platform.release(), works)


def verdict_file() -> Path:
    """Return where the verdict is kept: below ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _FILE


def accessible() -> bool:
    """Tell whether this user may use KVM at all."""
    return os.access(_DEVICE, os.R_OK | os.W_OK)


def known_to_fail() -> bool:
    """Tell whether KVM was found not to start machines on this host."""
    try:
        known = msgspec.json.decode(verdict_file().read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return False
    return known == _here(works=False)


def remember(*, works: bool) -> None:
    """Keep what was learned; a cache that can't be written is no error."""
    path = verdict_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode(_here(works)))
        temporary.replace(path)
    except OSError:
        return
