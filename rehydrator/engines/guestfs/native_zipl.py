"""Running an s390x image's own zipl in the machine, through an emulator of s390x programs.

The image's programs, libraries and loader code come from the deployment that its boot loader entry names; they are told
what osbuild's ``stages/org.osbuild.zipl.inst`` tells them. The emulator is this system's, linked statically, so that it
runs in any appliance. zipl makes a new file for its bootmap, so the blocks of that are those that the kernel chose.
"""

from __future__ import annotations

import posixpath
import shlex
import shutil

import msgspec

from rehydrator.boot import bls
from rehydrator.boot.entries import command_line, entry_paths, read_text
from rehydrator.boot.zipl.c_zipl import BootRecord
from rehydrator.boot.zipl.installed import MAX_BOOTMAP, bootmap_inode, read_installed
from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import Source, Window
from rehydrator.edits.zipl import Zipl
from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.machine import DEVICE, DEVICE_INSIDE, Machine
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.xfs.geometry import is_xfs

EMULATOR = "qemu-s390x-static"
_IN_MACHINE = f"/tmp/{EMULATOR}"
_SYSROOT = "/sysroot"  # where libguestfs mounts
_BOOT = "/boot"
_PROGRAMS = ("usr/sbin/zipl", "usr/bin/zipl")
_DEPLOYMENT_KEY = "ostree="
_ROOT_LABEL = " root"
_EXECUTABLE = 0o755
_SHOWN = 6  # lines of what zipl said
_HINT = "Leave out '--zipl native': the model of zipl needs no program"


class ZiplAccount(msgspec.Struct, frozen=True):
    """How many bytes of ``total``, boot record and bootmap file, the image's zipl wrote as the release has them."""

    right: int
    total: int

    def describe(self) -> str:
        """Tell the account."""
        return f"the image's zipl wrote {self.right} of {self.total} bytes of boot record and bootmap"


class NativeZipl:
    """Runs zipl in ``machine``. Raises UnsupportedError where this system has no emulator of s390x programs."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ready = False
        found = shutil.which(EMULATOR)
        if found is None:
            raise UnsupportedError(
                f"the image's zipl needs {EMULATOR}, which is not there",
                hint=f"Install it (Debian, Ubuntu, Fedora: qemu-user-static). {_HINT}",
            )
        self._emulator = found

    def run(self, edit: Zipl, base: Source, target: Source) -> None:
        """Let zipl write boot record and bootmap of the drive, which holds ``base`` with its texts changed already.

        ``target`` has the boot loader entry that it is to install.
        """
        if not self._ready:
            self._machine.call(lambda handle: handle.debug_upload(self._emulator, _IN_MACHINE, _EXECUTABLE))
            self._ready = True
        boot, root = _regions(base, edit.partition)
        wish = _wish(edit, base, target, boot)
        options = "ro,norecovery,nouuid" if is_xfs(Window(base, *root.extent)) else "ro,noload"

        def work(handle: Handle) -> str:
            handle.mount_options(options, f"{DEVICE}{root.number}", "/")
            handle.mount(f"{DEVICE}{boot.number}", _BOOT)
            command = wish.command(handle.realpath(wish.deployment), handle)
            said = handle.debug("sh", [f"{command} 2>&1; code=$?; sync; echo; echo $code"])
            handle.umount_all()
            return said

        _check(self._machine.call(work))


class _Wish(msgspec.Struct, frozen=True):
    """What zipl is told. ``deployment`` is the path that the boot loader entry names; files are below /boot."""

    deployment: str
    kernel: str
    ramdisk: str
    parmline: str
    sector: int
    start: int

    def command(self, tree: str, handle: Handle) -> str:
        """Return the shell's command for the zipl of the deployment ``tree``, which is mounted."""
        program = _program(tree, handle)
        return shlex.join(
            [
                *(_IN_MACHINE, "-L", f"{_SYSROOT}{tree}", f"{_SYSROOT}{program}"),
                *("--target", f"{_SYSROOT}{_BOOT}", "--image", self.kernel, "--ramdisk", self.ramdisk),
                *("--parameters", self.parmline, "--targetbase", DEVICE_INSIDE, "--targettype", "SCSI"),
                *("--targetblocksize", str(self.sector), "--targetoffset", str(self.start)),
            ]
        )


def _regions(base: Source, boot: str) -> tuple[Region, Region]:
    """Return the boot and the root partition."""
    partitions = [region for region in read_table(base).regions if region.partition]
    found = [region for region in partitions if region.name == boot]
    found += [region for region in partitions if region.name.endswith(_ROOT_LABEL)]
    if [region.name == boot for region in found] != [True, False]:
        raise UnsupportedError("the disk has no partition 'root', which would have zipl", hint=_HINT)
    return found[0], found[1]


def _wish(edit: Zipl, base: Source, target: Source, boot: Region) -> _Wish:
    """Take what zipl is told from the boot loader entry, and sectors from the base's own bootmap."""
    fs = Ext4(Window(target, *boot.extent))
    paths = entry_paths(fs)
    entry = (read_text(fs, paths[0]) if paths else None) or ""
    parmline = edit.parmline or command_line(fs, edit.append) or ""
    deployments = [word for word in parmline.split() if word.startswith(_DEPLOYMENT_KEY)]
    kernel, ramdisk = bls.file_of(entry, "linux"), bls.file_of(entry, "initrd")
    if not deployments or kernel is None or ramdisk is None:
        raise UnsupportedError("the boot loader entry names no deployment, kernel or ramdisk", hint=_HINT)
    before = Ext4(Window(base, *boot.extent))
    grid = read_installed(bytes(base.read(0, BootRecord.SIZE)), before).parts.grid
    place = f"{_SYSROOT}{_BOOT}"
    deployment = deployments[0].removeprefix(_DEPLOYMENT_KEY)
    return _Wish(deployment, f"{place}{kernel}", f"{place}{ramdisk}", parmline, grid.sector, grid.start)


def _program(tree: str, handle: Handle) -> str:
    for name in _PROGRAMS:
        path = posixpath.join(tree, name)
        if handle.is_file(path, followsymlinks=1):
            return path
    raise UnsupportedError("the image has no zipl in its deployment", path=tree, hint=_HINT)


def _check(said: str) -> None:
    """Raise UnsupportedError with zipl's last words, unless the exit code behind them is 0."""
    *lines, code = [line for line in said.splitlines() if line.strip()]
    if code != "0":
        told = "\n  ".join(lines[-_SHOWN:])
        raise UnsupportedError(f"the image's zipl failed with {code}", hint=f"It said last:\n  {told}\n{_HINT}")


def zipl_account(edit: Zipl, driven: Source, target: Source) -> ZiplAccount:
    """Compare boot record and bootmap that zipl wrote with those of ``target``, wherever their blocks are."""
    boot, _root = _regions(target, edit.partition)
    wrote, wanted = (_written(disk, boot) for disk in (driven, target))
    right = sum(one == other for one, other in zip(wrote, wanted, strict=False))
    return ZiplAccount(right, len(wanted))


def _written(disk: Source, boot: Region) -> bytes:
    fs = Ext4(Window(disk, *boot.extent))
    inode = bootmap_inode(fs)
    if inode is None:
        raise CorruptError("the image's zipl left no bootmap")
    return bytes(disk.read(0, BootRecord.SIZE)) + fs.read_file(inode, MAX_BOOTMAP)
