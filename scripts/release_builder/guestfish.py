"""The libguestfs appliance, a small virtual machine that any user may start: its kernel, KVM or not, its commands.

Environment variables: guestfs(3), supermin(1).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .tools import BuildError, CancelledBuildError, Runner, Tool

PROGRAM = "guestfish"
TOOLS = (Tool(PROGRAM, "libguestfs-tools", "guestfs-tools"), Tool("depmod", "kmod", "kmod"))
KERNEL_METAPACKAGE = "linux-image-cloud-amd64"

_BACKEND_SETTINGS = "LIBGUESTFS_BACKEND_SETTINGS"
_KERNEL = "SUPERMIN_KERNEL"
# A machine with working KVM starts in a few seconds; where guests die in it, libguestfs waits for ever.
_KVM_DEADLINE = 60.0


def machine_environment(runner: Runner, work: Path) -> dict[str, str]:
    """Return what makes the appliance start: its kernel, unpacked below ``work``, and KVM only where that works."""
    environment = kernel_environment(runner, work / "kernel")
    environment[_BACKEND_SETTINGS] = working_backend(runner, environment)
    return environment


def kernel_environment(runner: Runner, target: Path) -> dict[str, str]:
    """Return what gives the appliance its kernel: that of Debian's package, unpacked in ``target``.

    A kernel in /boot need not be there, and on Ubuntu only root may read it. Where apt does not know the package,
    libguestfs looks in /boot. A kernel that the caller has set already is kept.
    """
    environment = {"LIBGUESTFS_BACKEND": "direct"}
    if _KERNEL in os.environ:
        return environment
    try:
        name = packages.resolve_kernel(runner, KERNEL_METAPACKAGE)
    except CancelledBuildError:
        raise
    except BuildError:
        return environment
    cache = packages.cache_directory()
    package = packages.fetch(runner, [name], cache)[name]
    target.mkdir()
    packages.unpack(runner, package, target)
    kernel = next((target / "boot").glob("vmlinuz-*"))
    version = kernel.name.removeprefix("vmlinuz-")
    runner.run("depmod", "-b", target, version)
    # An appliance is kept for the next build, for each kernel its own.
    appliance = cache / f"appliance-{version}"
    appliance.mkdir(exist_ok=True)
    return environment | {
        _KERNEL: str(kernel),
        "SUPERMIN_MODULES": str(target / "lib/modules" / version),
        "LIBGUESTFS_CACHEDIR": str(appliance),
    }


def working_backend(runner: Runner, environment: Mapping[str, str]) -> str:
    """Return the backend settings under which the appliance starts: KVM if that works, else emulation."""
    given = os.environ.get(_BACKEND_SETTINGS)
    if given is not None:
        return given
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "force_tcg"
    try:
        runner.run(
            PROGRAM,
            stdin=b"add-drive /dev/null readonly:true\nrun\n",
            env={**environment, _BACKEND_SETTINGS: ""},
            timeout=_KVM_DEADLINE,
        )
    except CancelledBuildError:
        raise
    except BuildError:
        print("KVM does not start a machine here; emulation is used, which is slow", flush=True)
        return "force_tcg"
    return ""


@dataclass(frozen=True)
class Machine:
    """An appliance that can be started."""

    runner: Runner
    environment: Mapping[str, str]

    def run(self, script: str) -> None:
        """Start it and run guestfish commands. Raises BuildError with what it said last."""
        try:
            output = self.runner.run(PROGRAM, stdin=script.encode(), env=self.environment)
        except BuildError as error:
            hint = ""
            if "supermin" in str(error):
                hint = (
                    "\nThe appliance needs a kernel that you may read (Debian: apt-get update, so that apt knows "
                    f"{KERNEL_METAPACKAGE}; Ubuntu, as root: chmod 0644 /boot/vmlinuz-*), and the directory "
                    "/lib/modules, be it empty (as root: mkdir /lib/modules)"
                )
            raise type(error)(f"the libguestfs appliance failed: {error}{hint}") from error
        print(output.decode(errors="replace"), end="", flush=True)
