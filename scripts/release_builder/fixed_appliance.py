"""A fixed libguestfs appliance without what rehydrator never asks of it.

What libguestfs makes has every program that any of its functions may call, and all modules of its kernel. This keeps
the drivers of the virtual hardware and of the file systems, and the programs that check those. Source:
libguestfs-make-fixed-appliance(1).
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from . import guestfish
from .tools import BuildError, Runner, Tool, describe_missing, missing_tools

PROGRAM = "libguestfs-make-fixed-appliance"
_TOOLS = (*guestfish.TOOLS, Tool(PROGRAM, "libguestfs-tools", "libguestfs"))
_FILES = ("kernel", "initrd", "root", "README.fixed")
_MODULES = "/usr/lib/modules/*/kernel"
_NO_DRIVERS = (
    "comedi,firmware,hid,hv,infiniband,leds,media,mfd,misc,net,ptp,soundwire,target,thermal,uio,vfio,vhost,xen"
)
_NO_FILESYSTEMS = "autofs,cachefiles,ceph,fscache,lockd,netfs,nfs,nfs_common,nfsd,orangefs,smb,sysv,zonefs"
_UUID = "6e0cb7b4-1c5a-4f0e-9d2f-5b0a3c1d7e90"  # any other than libguestfs chooses at random
_ROOM = 64 << 20  # the appliance makes directories in its root when it starts
# Shell patterns in the appliance's root: hardware that no virtual machine has, network, firmware and compiler tools
_UNUSED = (
    *(f"{_MODULES}/{name}" for name in ("net", "sound", "virt", "arch/*/kvm")),
    *(f"{_MODULES}/drivers/{name}" for name in _NO_DRIVERS.split(",")),
    *(f"{_MODULES}/fs/{name}" for name in _NO_FILESYSTEMS.split(",")),
    "/usr/lib/udev/hwdb.d",
    "/usr/lib/*/gconv",
    "/usr/lib/*/libgprofng*",
    "/usr/bin/*-linux-gnu-*",
    "/usr/bin/grub-*",
    "/usr/sbin/grub-*",
    "/usr/bin/qemu-*",
    "/usr/bin/ssh*",
    "/usr/sbin/dhclient",
    "/usr/share/perl*",
    "/usr/share/grub",
    "/usr/share/augeas",
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/locale",
)


def make(runner: Runner, target: Path) -> None:
    """Make the appliance and put it at ``target``, which must not exist, once a machine has started with it."""
    if target.exists():
        raise BuildError(f"{target} exists already")
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.resolve().parent) as directory:
        work = Path(directory)
        environment = guestfish.machine_environment(runner, work)
        made = work / "made"
        runner.run(PROGRAM, made, env=environment)
        # The machine that shrinks it has a root file system with the same UUID, by which its kernel finds that one.
        runner.run("tune2fs", "-U", _UUID, made / "root")
        _shrink(guestfish.Machine(runner, environment), made / "root")
        shrunk = guestfish.Machine(runner, {**environment, "LIBGUESTFS_PATH": str(made)})
        shrunk.run(f"add-drive {_scratch(work)} format:raw\nrun\nmkfs ext4 /dev/sda\nmount /dev/sda /\n")
        made.rename(target)


def _shrink(machine: guestfish.Machine, root: Path) -> None:
    """Remove what is unused from an appliance's root, and cut it to what is left and some room."""
    drive = f"add-drive {root} format:raw discard:enable\nrun\n"
    trim = "mount /dev/sda /\nfstrim /\numount-all\n"
    removals = "".join(f"-glob rm-rf {pattern}\n" for pattern in _UNUSED)
    machine.run(f"{drive}mount /dev/sda /\n{removals}umount-all\ne2fsck /dev/sda forceall:true\nresize2fs-M /dev/sda\n")
    told = machine.runner.run("dumpe2fs", "-h", root).decode()
    fields = {name: int(value) for name, value in re.findall(r"^(Block (?:count|size)): +(\d+)$", told, re.MULTILINE)}
    with root.open("r+b") as stream:
        stream.truncate(fields["Block count"] * fields["Block size"] + _ROOM)
    machine.run(f"{drive}resize2fs /dev/sda\n{trim}")


def _scratch(work: Path) -> Path:
    """Make an empty disk to try the appliance on."""
    path = work / "scratch"
    with path.open("wb") as stream:
        stream.truncate(_ROOM)
    return path


def main() -> int:
    """Make the appliance; return 0, or 2 where that can't be done."""
    parser = argparse.ArgumentParser(
        prog="make-appliance",
        description="Make a small fixed libguestfs appliance; use it with --appliance DIR or LIBGUESTFS_PATH=DIR.",
    )
    parser.add_argument("target", type=Path, metavar="DIR", help="the directory to make")
    arguments = parser.parse_args()
    missing = missing_tools(_TOOLS)
    if missing:
        print(f"make-appliance: {describe_missing(missing)}", file=sys.stderr)
        return 2
    try:
        make(Runner(), arguments.target)
    except (BuildError, OSError) as error:
        print(f"make-appliance: {error}", file=sys.stderr)
        return 2
    size = sum((arguments.target / name).stat().st_blocks * 512 for name in _FILES)
    print(f"{arguments.target}: {size / (1 << 20):.0f} MiB on disk")
    return 0
