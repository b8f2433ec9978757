"""GRUB on every architecture that has it: core images, the EFI system partition, the configuration on boot."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from . import disk
from .architectures import BIOS_BOOT, ESP, PREP, Architecture
from .selinux import label_tree
from .tools import Runner

# Enough to find and read /boot, and to run its configuration.
_MODULES = (
    "part_gpt", "ext2", "normal", "configfile", "search", "search_label", "test", "regexp", "serial", "terminal",
    "memdisk", "tar", "boot", "true",
)  # fmt: skip
_KERNEL_SECTOR_AT = 0x5C  # in boot.img: LBA of the core image, u64
_DRIVE_CHECK_AT = 0x66  # in boot.img: a jump that keeps the BIOS's drive number, made a no-op for hard disks
_BLOCKLIST = struct.Struct("<QHH")  # at the end of the core image's first sector: LBA, sectors, segment
_BLOCKLIST_SEGMENT = 0x820
_SECTOR = 512


@dataclass(frozen=True)
class Grub:
    """A GRUB platform: grub-mkimage's name for it, where its modules are, what it also needs, where it looks first."""

    platform: str
    modules: tuple[str, ...]
    prefix: str
    config: str = ""


_BIOS = Grub("i386-pc", ("biosdisk",), "(,gpt3)/grub2")
_X86_EFI = Grub("x86_64-efi", ("fat",), "/EFI/fedora")
_ARM64_EFI = Grub("arm64-efi", ("fat",), "/EFI/fedora")
# The firmware names the disk, not the partition with the configuration.
_POWER = Grub(
    "powerpc-ieee1275", (), "/grub2", "search --no-floppy --label boot --set root\nset prefix=($root)/grub2\n"
)

# Found on the EFI system partition; the same on all machines.
_ESP_CFG = """if [ -e (md/md-boot) ]; then
  set prefix=md/md-boot
else
  if [ -f ${config_directory}/bootuuid.cfg ]; then
    source ${config_directory}/bootuuid.cfg
  fi
  search --label boot --set prefix --no-floppy
fi
set prefix=($prefix)/grub2
configfile $prefix/grub.cfg
"""
# Debian's GRUB has no command blscfg. An entry is a script to it whose words are functions here; the command linux is
# loaded afterwards, since a command comes before a function of its name.
_GRUB_CFG = """# A static configuration, the same on all platforms.
set timeout=1
search --label boot --set root --no-floppy
if [ -f $prefix/bootuuid.cfg ]; then
  source $prefix/bootuuid.cfg
fi
if [ -f $prefix/console.cfg ]; then
  source $prefix/console.cfg
fi
# CONSOLE-SETTINGS-START

# CONSOLE-SETTINGS-END
if [ -f /ignition.firstboot ]; then
  set ignition_firstboot="ignition.firstboot"
fi
function title { true; }
function version { true; }
function options { set bls_options="$*"; }
function linux { set bls_linux="$1"; }
function initrd { set bls_initrd="$1"; }
for entry in /loader/entries/*.conf; do
  source $entry
done
insmod (memdisk)/linux.mod
linux $bls_linux $bls_options
initrd $bls_initrd
boot
"""


def core_image(runner: Runner, grub: Grub, support: Path, work: Path) -> Path:
    """Make a core image that has all it needs inside, the module of the command linux in an archive."""
    modules = support / "usr/lib/grub" / grub.platform
    # The option for the archive sets a prefix as well, so that it has to come first.
    archive, core = work / "memdisk.tar", work / "core.img"
    runner.run("tar", "--format=ustar", "--owner=0", "--group=0", "-cf", archive, "-C", modules, "linux.mod")
    argv: list[str | Path] = [
        "grub-mkimage", "-O", grub.platform, "-d", modules, "-o", core, "-m", archive, "-p", grub.prefix,
    ]  # fmt: skip
    if grub.config:
        config = work / "early.cfg"
        config.write_text(grub.config, encoding="utf-8")
        argv += ["-c", config]
    runner.run(*argv, *_MODULES, *grub.modules, *_needed_by_linux(modules))
    return core


def _needed_by_linux(modules: Path) -> list[str]:
    for line in (modules / "moddep.lst").read_text(encoding="utf-8").splitlines():
        name, _, needed = line.partition(":")
        if name == "linux":
            return needed.split()
    return []


def install(runner: Runner, image: disk.Image, support: Path, work: Path) -> None:
    """Put what the firmware starts into the partitions that the disk has for it."""
    parts = disk.read_partitions(image.path, image.sector_size)
    if BIOS_BOOT in parts and image.sector_size == _SECTOR:
        _install_bios(runner, support, image.path, parts[BIOS_BOOT], work)
    if PREP in parts:
        core = core_image(runner, _POWER, support, work).read_bytes()
        with image.path.open("r+b") as target:
            target.seek(parts[PREP].offset)
            target.write(core)
        disk.flush(image.path)


def _install_bios(runner: Runner, support: Path, image: Path, partition: disk.Extent, work: Path) -> None:
    """Write GRUB into the boot record and the BIOS boot partition, as grub-install does."""
    core = bytearray(core_image(runner, _BIOS, support, work).read_bytes())
    first = partition.offset // _SECTOR
    sectors = -(-len(core) // _SECTOR) - 1
    _BLOCKLIST.pack_into(core, _SECTOR - _BLOCKLIST.size, first + 1, sectors, _BLOCKLIST_SEGMENT)
    boot = bytearray((support / "usr/lib/grub" / _BIOS.platform / "boot.img").read_bytes()[:440])
    struct.pack_into("<Q", boot, _KERNEL_SECTOR_AT, first)
    boot[_DRIVE_CHECK_AT : _DRIVE_CHECK_AT + 2] = b"\x90\x90"
    with image.open("r+b") as target:
        # Only the code area of the boot record: the protective partition table stays.
        target.write(boot)
        target.seek(partition.offset)
        target.write(core)
    disk.flush(image)


def make_esp(runner: Runner, architecture: Architecture, support: Path, target: Path, *, signed: bool) -> Path:
    """Lay out the EFI system partition if there is one, and return where.

    It has GRUB; on x86_64 shim, which starts it, and the signed GRUB, or one small EFI program.
    """
    if all(spec.name != ESP for spec in architecture.partitions):
        return target
    boot, vendor = target / "EFI/BOOT", target / "EFI/fedora"
    for directory in (boot, vendor):
        directory.mkdir(parents=True)
    if architecture.name == "aarch64":
        core = core_image(runner, _ARM64_EFI, support, target.parent)
        shutil.copyfile(core, boot / "BOOTAA64.EFI")
        shutil.copyfile(core, vendor / "grubaa64.efi")
    elif signed:
        shim = support / "usr/lib/shim/shimx64.efi.signed"
        shutil.copy2(shim, boot / "BOOTX64.EFI")
        # Debian's signed GRUB looks for its configuration elsewhere.
        shutil.copyfile(core_image(runner, _X86_EFI, support, target.parent), boot / "grubx64.efi")
        shutil.copy2(shim, vendor / "shimx64.efi")
        shutil.copy2(support / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", vendor / "grubx64.efi")
    else:
        shutil.copy2(support / "boot/memtest86+x64.efi", boot / "BOOTX64.EFI")
    (vendor / "grub.cfg").write_text(_ESP_CFG, encoding="utf-8")
    return target


def make_boot_config(architecture: Architecture, target: Path) -> Path:
    """Write what GRUB's installer puts on the boot partition, and return where; nothing where zipl makes it boot."""
    if architecture.zipl_suite:
        return target
    grub = target / "grub2"
    grub.mkdir(parents=True)
    (grub / "grub.cfg").write_text(_GRUB_CFG, encoding="utf-8")
    (grub / "grubenv").write_bytes(b"# GRUB Environment Block\n".ljust(1024, b"#"))
    state = {"installed": {"BIOS": {"meta": {"version": "grub2"}}, "EFI": {"meta": {"version": "grub2,shim"}}}}
    (target / "bootupd-state.json").write_text(json.dumps(state), encoding="utf-8")
    label_tree(target, lambda _path: "boot_t")
    return target
