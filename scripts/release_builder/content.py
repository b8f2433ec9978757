"""What a release contains: a file system tree made of real packages, in the shape that ostree wants."""

import hashlib
import hmac
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .bootconfig import X86_64_CONSOLES, platforms_json
from .live_config import write_live_config
from .selinux import label_tree
from .tools import Runner

MERGED = ("bin", "lib", "lib64", "sbin")
# The key with which dracut's FIPS module checks the kernel's hmac file.
HMAC_KEY = b"orboDeJITITejsirpADONivirpUkvarP"


@dataclass(frozen=True)
class Profile:
    """A size of content."""

    packages: tuple[str, ...]
    kernel_metapackage: str = ""
    # Module directories to keep, relative to /usr/lib/modules/VERSION/kernel; empty: all.
    modules: tuple[str, ...] = ()
    initramfs_modules: tuple[str, ...] = ()
    real_kernel: bool = True


@dataclass(frozen=True)
class Content:
    """The finished inputs of a release: directories, and the version that names the kernel's."""

    root: Path
    esp: Path
    boot_config: Path
    support: Path  # unpacked packages that are not part of the tree
    kernel_version: str


_BASE = ("base-files", "netbase")
# busybox instead of coreutils: xz of fourteen disks is what takes the time.
_SMALL = (
    *_BASE, "bash", "busybox-static", "kmod", "libc6", "libkmod2", "libtinfo6", "tzdata", "zlib1g",
)  # fmt: skip
_MEDIUM = (
    *_BASE, "bash", "coreutils", "dash", "docker.io", "findutils", "git", "grep", "iproute2", "kmod",
    "libacl1", "libattr1", "libblkid1", "libc6", "libcap2", "libcrypt1", "libgmp10", "libicu72", "libkmod2",
    "libllvm14", "libmount1", "libpcre2-8-0", "libpython3.11-stdlib", "libselinux1", "libssl3", "libstd-rust-dev",
    "libsystemd-shared", "libsystemd0", "libtinfo6", "libzstd1", "mount", "openssh-server", "openssl",
    "perl-modules-5.36", "podman", "python3.11-minimal", "sed", "systemd", "tzdata", "util-linux", "vim-runtime",
    "zlib1g",
)  # fmt: skip

PROFILES = {
    # memtest86+ stands for the kernel: it is a real boot image of the same format and 140 KB small.
    "tiny": Profile((*_BASE, "klibc-utils", "libklibc"), real_kernel=False),
    "small": Profile(
        _SMALL,
        kernel_metapackage="linux-image-cloud-amd64",
        modules=("fs/ext4", "fs/fat", "fs/isofs", "fs/overlayfs", "fs/squashfs", "fs/xfs", "drivers/block/loop",
                 "drivers/block/virtio_blk", "drivers/nvme", "drivers/net/ethernet/amazon", "drivers/net/hyperv",
                 "net/vmw_vsock"),
        initramfs_modules=("fs/isofs", "fs/overlayfs", "fs/squashfs", "fs/xfs"),
    ),
    "medium": Profile(
        _MEDIUM,
        kernel_metapackage="linux-image-amd64",
        initramfs_modules=("fs", "drivers/block", "drivers/net/ethernet", "drivers/nvme", "drivers/scsi"),
    ),
}  # fmt: skip
# Not part of the tree: boot loaders and the initramfs's shell.
_SUPPORT = (
    "busybox-static", "grub-efi-amd64-signed", "grub-pc-bin", "isolinux", "memtest86+", "shim-signed",
    "syslinux-common",
)  # fmt: skip


@dataclass(frozen=True)
class Packages:
    """The package files of a profile by name; `names` are those that go into the tree."""

    names: tuple[str, ...]
    files: dict[str, Path]


def fetch_packages(runner: Runner, profile: Profile) -> Packages:
    """Download what the cache lacks of a profile's packages."""
    names = list(profile.packages)
    if profile.real_kernel:
        names.append(packages.resolve_metapackage(runner, profile.kernel_metapackage, r"linux-image-6\.[-.\w]+"))
    return Packages(tuple(names), packages.fetch(runner, [*names, *_SUPPORT], packages.cache_directory()))


def build_content(runner: Runner, profile: Profile, fetched: Packages, build_id: str, work: Path) -> Content:
    """Unpack everything and lay it out under `work`."""
    files = fetched.files
    root, support = work / "rootfs", work / "support"
    for top in (root, support):
        (top / "usr").mkdir(parents=True)
        for name in MERGED:
            (top / "usr" / name).mkdir()
            (top / name).symlink_to(f"usr/{name}")
    for name in fetched.names:
        packages.unpack(runner, files[name], root)
    for name in _SUPPORT:
        packages.unpack(runner, files[name], support)
    version = _install_kernel(root, support, profile)
    _install_initramfs(runner, root, support, profile, version, work)
    _write_configuration(root, build_id)
    _shape_for_ostree(root)
    label_tree(root)
    return Content(
        root=root,
        esp=_make_esp(support, work / "esp", profile),
        boot_config=_make_boot_config(work / "bootconfig"),
        support=support,
        kernel_version=version,
    )


def _install_kernel(root: Path, support: Path, profile: Profile) -> str:
    if profile.real_kernel:
        kernel = next((root / "boot").glob("vmlinuz-*"))
        version = kernel.name.removeprefix("vmlinuz-")
    else:
        kernel = support / "boot/memtest86+x64.bin"
        version = "6.10.0-memtest86plus"
    modules = root / "usr/lib/modules" / version
    modules.mkdir(parents=True, exist_ok=True)
    shutil.copy2(kernel, modules / "vmlinuz")
    config = root / f"boot/config-{version}"
    if config.exists():
        shutil.copy2(config, modules / "config")
    digest = hmac.new(HMAC_KEY, kernel.read_bytes(), hashlib.sha512).hexdigest()
    (modules / ".vmlinuz.hmac").write_text(f"{digest}  vmlinuz-{version}\n", encoding="utf-8")
    if profile.modules:
        for module in (modules / "kernel").rglob("*.ko"):
            if not module.relative_to(modules / "kernel").as_posix().startswith(profile.modules):
                module.unlink()
    if (root / "boot").exists():
        shutil.rmtree(root / "boot")
    return version


_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "This initramfs only proves that it was unpacked."
exec sh
"""


def _install_initramfs(
    runner: Runner, root: Path, support: Path, profile: Profile, version: str, work: Path
) -> None:
    """Make a small initramfs in the shape of dracut's: a newc archive, compressed."""
    top = work / "initramfs"
    for name in ("bin", "dev", "etc", "proc", "sys", "sysroot"):
        (top / name).mkdir(parents=True)
    (top / "init").write_text(_INIT, encoding="utf-8")
    (top / "init").chmod(0o755)
    if profile.real_kernel:
        shutil.copy2(support / "usr/bin/busybox", top / "bin/busybox")
        for applet in ("sh", "mount", "umount", "switch_root", "insmod"):
            (top / "bin" / applet).symlink_to("busybox")
    else:
        (top / "lib").mkdir()
        shutil.copy2(root / "usr/lib/klibc/bin/sh", top / "bin/sh")
        shutil.copy2(next((root / "usr/lib").glob("klibc-*.so")), top / "lib")
    kernel_modules = root / "usr/lib/modules" / version / "kernel"
    for directory in profile.initramfs_modules:
        target = top / kernel_modules.relative_to(root) / directory
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kernel_modules / directory, target, symlinks=True, dirs_exist_ok=True)
    archive = work / "initramfs.cpio"
    names = "\n".join(sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))).encode()
    runner.run("cpio", "-o", "-H", "newc", "-R", "root:root", "--quiet", "--reproducible", "-D", top,
               stdin=names, stdout=archive)  # fmt: skip
    image = root / "usr/lib/modules" / version / "initramfs.img"
    runner.run("zstd", "-q", "-15", "-c", archive, stdout=image)
    image.chmod(0o600)


def _write_configuration(root: Path, build_id: str) -> None:
    version_id = build_id.split(".", 1)[0]
    lines = {
        "NAME": "CoreOS-like test release",
        "ID": "fedora",
        "VERSION_ID": version_id,
        "VERSION": f"{build_id} (test content from Debian packages)",
        "PRETTY_NAME": f"CoreOS-like test release {build_id}",
        "VARIANT_ID": "coreos",
        "OSTREE_VERSION": build_id,
    }
    text = "".join(f'{key}="{value}"\n' if " " in value else f"{key}={value}\n" for key, value in lines.items())
    (root / "usr/lib/os-release").write_text(text, encoding="utf-8")
    assembler = root / "usr/share/coreos-assembler"
    assembler.mkdir(parents=True)
    (assembler / "platforms.json").write_text(platforms_json(X86_64_CONSOLES), encoding="utf-8")
    image = {"bootfs": "ext4", "rootfs": "xfs", "size": 10, "extra-kargs": ["mitigations=auto,nosmt"]}
    (assembler / "image.json").write_text(json.dumps(image, indent=2) + "\n", encoding="utf-8")
    write_live_config(assembler / "live")


def _shape_for_ostree(root: Path) -> None:
    """Move /etc below /usr and point the writable places to /var, as in every ostree system."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc").rename(root / "usr/etc")
    for name in ("var", "home", "root", "opt", "srv", "mnt", "tmp", "media", "run", "dev", "proc", "sys", "boot"):
        if (root / name).is_dir():
            shutil.rmtree(root / name)
    for name in ("boot", "dev", "proc", "run", "sys", "sysroot", "var"):
        (root / name).mkdir(mode=0o755)
    links = {
        "home": "var/home", "root": "var/roothome", "opt": "var/opt", "srv": "var/srv", "mnt": "var/mnt",
        "media": "run/media", "ostree": "sysroot/ostree", "tmp": "sysroot/tmp",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    if (root / "usr/local").exists():
        shutil.rmtree(root / "usr/local")
    (root / "usr/local").symlink_to("../var/usrlocal")


def _make_esp(support: Path, target: Path, profile: Profile) -> Path:
    """Lay out the EFI system partition: shim and GRUB, or for the tiny content one small EFI program."""
    boot, vendor = target / "EFI/BOOT", target / "EFI/fedora"
    for directory in (boot, vendor):
        directory.mkdir(parents=True)
    if profile.real_kernel:
        shim = support / "usr/lib/shim/shimx64.efi.signed"
        shutil.copy2(shim, boot / "BOOTX64.EFI")
        shutil.copy2(shim, vendor / "shimx64.efi")
        shutil.copy2(support / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", vendor / "grubx64.efi")
    else:
        shutil.copy2(support / "boot/memtest86+x64.efi", boot / "BOOTX64.EFI")
    (vendor / "grub.cfg").write_text(
        "if [ -e (md/md-boot) ]; then\n  set prefix=md/md-boot\nelse\n"
        "  if [ -f ${config_directory}/bootuuid.cfg ]; then\n    source ${config_directory}/bootuuid.cfg\n  fi\n"
        '  search --label boot --set prefix --no-floppy\nfi\nset prefix=($prefix)/grub2\nconfigfile $prefix/grub.cfg\n',
        encoding="utf-8",
    )
    return target


_GRUB_CFG = """# A static configuration, the same on all platforms.
set timeout=1
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
blscfg
"""


def _make_boot_config(target: Path) -> Path:
    """Write what the boot loader's installer puts on the boot partition."""
    grub = target / "grub2"
    grub.mkdir(parents=True)
    (grub / "grub.cfg").write_text(_GRUB_CFG, encoding="utf-8")
    (grub / "grubenv").write_bytes(b"# GRUB Environment Block\n".ljust(1024, b"#"))
    state = {"installed": {"BIOS": {"meta": {"version": "grub2"}}, "EFI": {"meta": {"version": "grub2,shim"}}}}
    (target / "bootupd-state.json").write_text(json.dumps(state), encoding="utf-8")
    label_tree(target, lambda _path: "boot_t")
    return target

