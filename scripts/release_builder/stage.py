"""Work inside mounted filesystems, each piece in a process with a mount namespace of its own.

The parent attaches the loop devices and starts `python -m release_builder.stage REQUEST` under unshare(1). So several
disks can be mounted at the same path at once, as the image builder does (ext4 keeps that path in its superblock), no
mount is ever visible outside, and a killed stage leaves none behind.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from . import osmet
from .architectures import BOOT, ROOT
from .bootconfig import (
    Console,
    append_options,
    change_platform,
    console_cfg,
    console_of,
    entry_field,
    replace_console_settings,
)
from .disk import read_partitions
from .selinux import label_tree
from .tools import Runner
from .zipl import Target, Zipl

MOUNTS = Path("/run/osbuild/mounts")
SYSROOT = Path("/run/appliance/sysroot")
SYSROOT_SEEN = Path("/sysroot")  # by who runs in the appliance
_ASIDE = ".orig"
# What the image builder says whatever the disk, since its manifests leave the option out.
ZIPL_SECTOR = 512
_FIRST_BOOT = "ignition.firstboot"


@dataclass(frozen=True)
class Request:
    """What one stage does, and on which devices."""

    action: str
    root: str
    boot: str = ""
    platform: str = ""
    source: str = ""
    output: str = ""
    description: str = ""
    sector_size: int = 512
    architecture: str = ""
    device: str = ""  # the whole disk's
    location: int = 0  # of the boot partition on it
    arguments: tuple[str, ...] = ()  # kernel arguments, or those of the program that makes `output`


@cache
def _propagation() -> str:
    """How unshare(1) is to treat existing mounts: private, or as they are in a chroot whose root is no mount."""
    private = ["unshare", "--mount", "--propagation", "private", "true"]
    return "private" if subprocess.run(private, capture_output=True, check=False).returncode == 0 else "unchanged"


def run_stage(runner: Runner, request: Request) -> None:
    """Run one stage in a child process (the parent's side)."""
    package_parent = str(Path(__file__).resolve().parent.parent)
    runner.run(
        "unshare", "--mount", "--propagation", _propagation(), sys.executable, "-m", "release_builder.stage",
        json.dumps(asdict(request)), env={"PYTHONPATH": package_parent, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def _call(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()


@contextmanager
def _mounted(device: str, target: Path, fstype: str, options: str = "") -> Iterator[None]:
    target.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", fstype, *(("-o", options) if options else ()), device, target)
    try:
        yield
        _call("sync", "-f", target)
    finally:
        _call("umount", target)


@contextmanager
def _mounted_root(device: str, target: Path = MOUNTS) -> Iterator[None]:
    # Siblings share their UUID, and several of them are mounted at the same time.
    with _mounted(device, target, "xfs", "nouuid"):
        yield


def _default_deployment(root: Path) -> tuple[Path, str]:
    """Find the deployment as the image builder does; what it reads here gets new access times."""
    found = glob.glob(f"{root}/ostree/deploy/*/deploy/*.0")  # noqa: PTH207 (reads the same directories)
    path = Path(found[0])
    osname = path.parts[-3]
    commit, serial = path.name.split(".")
    parsed = _call("ostree", "rev-parse", commit, f"--repo={root}/ostree/repo")
    return root / "ostree/deploy" / osname / "deploy" / f"{parsed}.{serial}", osname


@contextmanager
def _deployment(tree: Path) -> Iterator[None]:
    """Make the mounted root look like the booted system: the deployment on top, the root at /sysroot."""
    _call("mount", "--bind", "--make-private", tree, tree)
    root, osname = _default_deployment(tree)
    _call("mount", "--bind", "--make-private", root, root)
    _call("mount", "--bind", "--make-private", tree, root / "sysroot")
    _call("mount", "--bind", "--make-private", tree / "ostree/deploy" / osname / "var", root / "var")
    _call("mount", "--bind", "--make-private", tree / "boot", root / "boot")
    _call("mount", "--move", root, tree)
    try:
        yield
        _call("sync", "-f", tree)
    finally:
        _call("umount", "-R", tree)
        _call("umount", "-R", tree)


def stage_mkdir(request: Request) -> None:
    """Make the mount points /boot on root and /efi on boot, both mounted apart."""
    root, boot = MOUNTS / "root-mount-point", MOUNTS / "boot-mount-point"
    with _mounted_root(request.root, root), _mounted(request.boot, boot, "ext4"):
        (root / "boot").mkdir(mode=0o755)
        (boot / "efi").mkdir(mode=0o755)


def stage_selinux_root(request: Request) -> None:
    """Label what is on root."""
    with _mounted_root(request.root):
        label_tree(MOUNTS)


def stage_selinux_boot(request: Request) -> None:
    """Label what is on boot, with both mounted."""
    with _mounted_root(request.root), _mounted(request.boot, MOUNTS / "boot", "ext4"):
        label_tree(MOUNTS / "boot", lambda _path: "boot_t")


def stage_copy(request: Request) -> None:
    """Copy the whole tree onto root and boot; kernel arguments go to the boot loader entry, in place."""
    with _mounted_root(request.root), _mounted(request.boot, MOUNTS / "boot", "ext4"):
        _call("cp", "-a", "--reflink=auto", f"{request.source}/.", f"{MOUNTS}/")
        if request.arguments:
            (entry,) = (MOUNTS / "boot/loader/entries").glob("*.conf")
            entry.write_text(append_options(entry.read_text(encoding="utf-8"), request.arguments), encoding="utf-8")


def stage_bootloader(request: Request) -> None:
    """Copy the static boot loader configuration onto boot."""
    with _mounted_root(request.root), _mounted(request.boot, MOUNTS / "boot", "ext4"):
        _default_deployment(MOUNTS)
        _call("cp", "-a", "--reflink=auto", f"{request.source}/.", f"{MOUNTS}/boot/")


def stage_chattr(request: Request) -> None:
    """Make the deployment immutable."""
    with _mounted_root(request.root), _deployment(MOUNTS):
        _call("chattr", "+i", MOUNTS)


def stage_platform(request: Request) -> None:
    """Make the disk one of a platform: platforms.json, console.cfg, boot loader entry, in this order.

    A tree without platforms.json and a boot partition without GRUB's directory do without the first two.
    """
    with (
        _mounted_root(request.root),
        _deployment(MOUNTS),
        _mounted(request.boot, MOUNTS / "boot", "ext4"),
    ):
        source = MOUNTS / "usr/share/coreos-assembler/platforms.json"
        console = Console()
        if source.exists():
            target = MOUNTS / "boot/coreos/platforms.json"
            target.parent.mkdir(mode=0o755, exist_ok=True)
            shutil.copy(source, target)
            console = console_of(target.read_text(encoding="utf-8"), request.platform)
        if (MOUNTS / "boot/grub2").exists():
            (MOUNTS / "boot/grub2/console.cfg").write_text(console_cfg(console.grub_commands), encoding="utf-8")
        arguments = (f"ignition.platform.id={request.platform}", *console.kernel_arguments)
        for name in glob.glob(f"{MOUNTS}/boot/loader/entries/*.conf"):  # noqa: PTH207 (reads the same directories)
            entry, temporary = Path(name), Path(name + ".tmp")
            temporary.write_text(append_options(entry.read_text(encoding="utf-8"), arguments), encoding="utf-8")
            temporary.rename(entry)


def stage_zipl(request: Request) -> None:
    """Let zipl make the disk bootable; `source` is the tree that it runs in."""
    with _mounted_root(request.root), _mounted(request.boot, MOUNTS / "boot", "ext4"):
        (entry,) = (MOUNTS / "boot/loader/entries").glob("*.conf")
        text = entry.read_text(encoding="utf-8")
        _run_zipl(request, MOUNTS, text, f"{entry_field(text, 'options')} {_FIRST_BOOT}")


def _run_zipl(request: Request, root: Path, entry: str, parmline: str) -> None:
    """Run zipl on the kernel and the initramfs that the text of an entry names."""
    kernel, ramdisk = (root / entry_field(entry, key).lstrip("/") for key in ("linux", "initrd"))
    target = Target(request.device, request.sector_size, request.location)
    Zipl(Path(request.source)).run(target, root / "boot", kernel, ramdisk, parmline)


def stage_secex_mkdir(request: Request) -> None:
    """Make the mount point of the partition `se`."""
    with _mounted_root(request.root):
        (MOUNTS / "se").mkdir(mode=0o755)


def stage_secex(request: Request) -> None:
    """Copy the image `output` to the partition `se`, which is `root` here; zipl in `source` makes it bootable."""
    with _mounted(request.root, MOUNTS, "ext4"):
        image = MOUNTS / "sdboot"
        shutil.copyfile(request.output, image)
        Zipl(Path(request.source)).run(Target(request.device, ZIPL_SECTOR, request.location), MOUNTS, image)


def _change_platform(boot: Path, platform: str) -> None:
    """Edit the three texts of a finished disk in place: truncate and write, no new inode.

    A disk without platforms.json has the boot loader entry only.
    """
    entry = next((boot / "loader/entries").glob("ostree-*.conf"))
    if not (boot / "coreos/platforms.json").exists():
        text = entry.read_text(encoding="utf-8")
        entry.write_text(change_platform(text, platform, Console(), Console()), encoding="utf-8")
        return
    platforms = (boot / "coreos/platforms.json").read_text(encoding="utf-8")
    new = console_of(platforms, platform)
    text = entry.read_text(encoding="utf-8")
    old_platform = text.split("ignition.platform.id=", 1)[1].split()[0]
    entry.write_text(change_platform(text, platform, console_of(platforms, old_platform), new), encoding="utf-8")
    console = boot / "grub2/console.cfg"
    text = console.read_text(encoding="utf-8")
    console.write_text(replace_console_settings(text, new.grub_commands), encoding="utf-8")


def stage_change_platform(request: Request) -> None:
    """Make another platform out of a finished one, as the older libguestfs path does.

    All filesystems are mounted read-only, then boot is remounted read-write.
    """
    with _appliance_mounts(request):
        _in_appliance(lambda: _change_platform(SYSROOT_SEEN / "boot", request.platform))
    _call("e2fsck", "-f", "-n", request.boot)


def stage_change_platform_zipl(request: Request) -> None:
    """The same for s390x: zipl in `source` reads an entry that also tells of the first boot, which then goes away."""
    with _appliance_mounts(request):
        _in_appliance(lambda: _change_platform(SYSROOT_SEEN / "boot", request.platform))
        _in_appliance(lambda: _set_aside(SYSROOT_SEEN / "boot"))
        text = _entry_of(SYSROOT / "boot").read_text(encoding="utf-8")
        _run_zipl(request, SYSROOT, text, entry_field(text, "options"))
        _in_appliance(lambda: _put_back(SYSROOT_SEEN / "boot"))
    _call("e2fsck", "-f", "-n", request.boot)


@contextmanager
def _appliance_mounts(request: Request) -> Iterator[None]:
    """Mount both file systems as guestfish did."""
    boot = SYSROOT / "boot"
    with (
        _mounted(request.root, SYSROOT, "xfs", "ro,nouuid"),
        _mounted(request.boot, boot, "ext4", "ro"),
    ):
        _call("mount", "-o", "remount,rw", boot)
        yield


def _in_appliance(action: Callable[[], None]) -> None:
    """Do something in a process that sees the mount point as the appliance does: ext4 records it."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.chroot(SYSROOT.parent)
            action()
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("changing the platform failed")


def _entry_of(boot: Path) -> Path:
    (entry,) = (boot / "loader/entries").glob("ostree-*.conf")
    return entry


def _set_aside(boot: Path) -> None:
    entry = _entry_of(boot)
    text = entry.read_text(encoding="utf-8")
    entry.rename(f"{entry}{_ASIDE}")
    entry.write_text(append_options(text, (_FIRST_BOOT,)), encoding="utf-8")


def _put_back(boot: Path) -> None:
    entry = _entry_of(boot)
    Path(f"{entry}{_ASIDE}").rename(entry)


def stage_squashfs(request: Request) -> None:
    """Make the live root filesystem of a copy of the metal disk; `source` holds the files of its ESP if it has one."""
    top = Path("/run/live-rootfs")
    with ExitStack() as stack:
        stack.enter_context(_mounted_root(request.root, top))
        stack.enter_context(_mounted(request.boot, top / "boot", "ext4"))
        if request.source:
            # A tmpfs stands for the ESP: not every kernel has the vfat driver.
            stack.enter_context(_mounted("esp", top / "boot/efi", "tmpfs"))
            _call("cp", "-a", f"{request.source}/.", f"{top}/boot/efi/")
        _call("sed", "-i", "/readonly=true/d", top / "ostree/repo/config")
        for pattern in ("boot/ostree/*/.*.hmac", "boot/ostree/*/vmlinuz*"):
            kernel = next(top.glob(pattern))
            (top / "boot" / kernel.name).hardlink_to(kernel)
        _call("mksquashfs", top, request.output, "-root-becomes", top, "-wildcards", "-no-recovery", "-no-progress",
              *request.arguments)  # fmt: skip


def stage_osmet(request: Request) -> None:
    """Write the osmet file of the disk image `source`, whose devices are read-only."""
    top = Path("/run/osmet")
    image = Path(request.source)
    parts = read_partitions(image, request.sector_size)
    with ExitStack() as stack:
        stack.enter_context(_mounted(request.root, top / "root", "xfs", "ro,nouuid"))
        stack.enter_context(_mounted(request.boot, top / "boot", "ext4", "ro"))
        disk = osmet.Disk(image, request.sector_size, top / "root", top / "boot", parts[ROOT], parts[BOOT])
        osmet.pack(disk, request.description, request.architecture, Path(request.output))


STAGES = {
    "mkdir": stage_mkdir,
    "selinux-root": stage_selinux_root,
    "selinux-boot": stage_selinux_boot,
    "copy": stage_copy,
    "bootloader": stage_bootloader,
    "chattr": stage_chattr,
    "platform": stage_platform,
    "zipl": stage_zipl,
    "secex-mkdir": stage_secex_mkdir,
    "secex": stage_secex,
    "change-platform": stage_change_platform,
    "change-platform-zipl": stage_change_platform_zipl,
    "squashfs": stage_squashfs,
    "osmet": stage_osmet,
}


def main() -> None:
    """Run the stage that the first argument describes (the child's side)."""
    request = Request(**json.loads(sys.argv[1]))
    # Mount points live on a private tmpfs: nothing is left on the host.
    _call("mount", "-t", "tmpfs", "stage", "/run")
    STAGES[request.action](request)


if __name__ == "__main__":
    main()
