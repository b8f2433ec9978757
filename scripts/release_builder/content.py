"""What a release contains: a file system tree made of real packages, in the shape that ostree wants."""

import hashlib
import hmac
import json
import shutil
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from . import bootloaders, foreign, packages, zipl
from .architectures import Architecture, StandIn
from .bootconfig import platforms_json
from .live_config import write_live_config
from .selinux import label_tree
from .tools import Runner

MERGED = ("bin", "lib", "lib64", "sbin")
# The key with which dracut's FIPS module checks the kernel's hmac file.
HMAC_KEY = b"orboDeJITITejsirpADONivirpUkvarP"


class Kernel(Enum):
    """Which kernel a content has."""

    STAND_IN = "another boot image, small"
    CLOUD = "the smallest real one"
    ORDINARY = "the one for all machines"


@dataclass(frozen=True)
class Profile:
    """A size of content."""

    packages: tuple[str, ...]
    kernel: Kernel = Kernel.STAND_IN
    # Module directories to keep, relative to /usr/lib/modules/VERSION/kernel; None: all.
    modules: tuple[str, ...] | None = None
    initramfs_modules: tuple[str, ...] = ()
    # Whether the tree has the zipl that makes its disks bootable, as CoreOS has. It brings a C library of its own.
    has_zipl: bool = False

    @property
    def boots(self) -> bool:
        """Whether the disks boot Linux."""
        return self.kernel is not Kernel.STAND_IN


@dataclass(frozen=True)
class Content:
    """The finished inputs of a release: directories, and the version that names the kernel's.

    `esp` and `boot_config` do not exist where the architecture has no such thing.
    """

    root: Path
    esp: Path
    boot_config: Path
    support: Path  # unpacked packages that are not part of the tree
    kernel_version: str
    zipl: Path | None  # the tree that zipl runs in


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

_TINY = (*_BASE, "klibc-utils", "libklibc")

PROFILES = {
    "tiny": Profile(_TINY),
    # The least that boots: until its initramfs has said which command line the kernel got.
    "boot": Profile(_TINY, Kernel.CLOUD, modules=()),
    "small": Profile(
        _SMALL,
        Kernel.CLOUD,
        modules=("fs/ext4", "fs/fat", "fs/isofs", "fs/overlayfs", "fs/squashfs", "fs/xfs", "drivers/block/loop",
                 "drivers/block/virtio_blk", "drivers/nvme", "drivers/net/ethernet/amazon", "drivers/net/hyperv",
                 "net/vmw_vsock"),
        initramfs_modules=("fs/isofs", "fs/overlayfs", "fs/squashfs", "fs/xfs"),
        has_zipl=True,
    ),
    "medium": Profile(
        _MEDIUM,
        Kernel.ORDINARY,
        initramfs_modules=("fs", "drivers/block", "drivers/net/ethernet", "drivers/nvme", "drivers/scsi"),
        has_zipl=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Packages:
    """The package files of a content: by name those of the tree and the support, and those of zipl."""

    tree: dict[str, Path]
    support: dict[str, Path]
    zipl: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All files, each once."""
        return list(dict.fromkeys((*self.tree.values(), *self.support.values(), *self.zipl)))


def fetch_packages(runner: Runner, architecture: Architecture, profile: Profile) -> Packages:
    """Download what the cache lacks of a profile's packages."""
    cache = packages.cache_directory()

    def question(apt: Runner, held: Path) -> Packages:
        names = list(profile.packages)
        if profile.boots:
            meta = architecture.cloud_kernel if profile.kernel is Kernel.CLOUD else architecture.kernel
            names.append(packages.resolve_kernel(apt, meta))
        files = packages.fetch(apt, [*names, *architecture.support], held)
        return Packages({name: files[name] for name in names}, {name: files[name] for name in architecture.support})

    if packages.host_architecture(runner) == architecture.debian:
        found = question(runner, cache)
    else:
        found = foreign.ask(runner, foreign.Collection(architecture.debian), cache, question)
    if architecture.zipl_suite:
        found = replace(found, zipl=tuple(zipl.fetch(architecture.zipl_suite, cache, runner)))
    return found


def build_content(
    runner: Runner, architecture: Architecture, profile: Profile, fetched: Packages, build_id: str, work: Path
) -> Content:
    """Unpack everything and lay it out under `work`."""
    root, support = work / "rootfs", work / "support"
    for top in (root, support):
        (top / "usr").mkdir(parents=True)
        for name in MERGED:
            (top / "usr" / name).mkdir()
            (top / name).symlink_to(f"usr/{name}")
    without = ("./lib/modules/*/kernel",) if profile.modules == () else ()
    for path in fetched.tree.values():
        packages.unpack(runner, path, root, without)
    if profile.has_zipl:
        for path in fetched.zipl:
            packages.unpack(runner, path, root)
    for path in fetched.support.values():
        packages.unpack(runner, path, support)
    zipl_root = work / "zipl" if fetched.zipl else None
    if zipl_root:
        zipl.unpack(runner, fetched.zipl, zipl_root)
    version = _install_kernel(root, support if zipl_root is None else zipl_root, profile, architecture.stand_in)
    _install_initramfs(runner, root, support, profile, version, work)
    _write_configuration(root, architecture, build_id)
    _shape_for_ostree(root)
    label_tree(root)
    return Content(
        root=root,
        esp=bootloaders.make_esp(runner, architecture, support, work / "esp", signed=profile.boots),
        boot_config=bootloaders.make_boot_config(architecture, work / "bootconfig"),
        support=support,
        kernel_version=version,
        zipl=zipl_root,
    )


def _complete(installed: Path, stand_in: StandIn) -> None:
    """Make a stand-in as long as a loader expects, with its mark."""
    content = bytearray(installed.read_bytes().ljust(stand_in.size, b"\0"))
    content[stand_in.mark_at : stand_in.mark_at + len(stand_in.mark)] = stand_in.mark
    installed.write_bytes(content)


def _install_kernel(root: Path, support: Path, profile: Profile, stand_in: StandIn) -> str:
    if profile.boots:
        kernel = next((root / "boot").glob("vmlinu[xz]-*"))
        version = kernel.name.partition("-")[2]
    else:
        kernel = support / stand_in.path
        version = stand_in.version
    modules = root / "usr/lib/modules" / version
    modules.mkdir(parents=True, exist_ok=True)
    installed = modules / "vmlinuz"
    shutil.copy2(kernel, installed)
    if not profile.boots:
        _complete(installed, stand_in)
    config = root / f"boot/config-{version}"
    if config.exists():
        shutil.copy2(config, modules / "config")
    digest = hmac.new(HMAC_KEY, installed.read_bytes(), hashlib.sha512).hexdigest()
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
mount -t devtmpfs dev /dev
read -r line </proc/cmdline
for console in console ttyS0 ttyAMA0 hvc0 ttysclp0; do
    [ -c /dev/$console ] && echo "CMDLINE: $line" >/dev/$console
done 2>/dev/null
poweroff -f
"""


def _install_initramfs(runner: Runner, root: Path, support: Path, profile: Profile, version: str, work: Path) -> None:
    """Make a small initramfs in the shape of dracut's: a newc archive, compressed.

    It tells the kernel's command line on every console, and powers the machine off.
    """
    top = work / "initramfs"
    for name in ("bin", "dev", "etc", "proc", "sys", "sysroot"):
        (top / name).mkdir(parents=True)
    (top / "init").write_text(_INIT, encoding="utf-8")
    (top / "init").chmod(0o755)
    if profile.boots:
        shutil.copy2(support / "usr/bin/busybox", top / "bin/busybox")
        for applet in ("sh", "mount", "umount", "switch_root", "insmod", "poweroff"):
            (top / "bin" / applet).symlink_to("busybox")
    else:
        (top / "lib").mkdir()
        shutil.copy2(root / "usr/lib/klibc/bin/sh", top / "bin/sh")
        shutil.copy2(next((root / "usr/lib").glob("klibc-*.so")), top / "lib")
    kernel_modules = root / "usr/lib/modules" / version / "kernel"
    for directory in profile.initramfs_modules:
        if not (kernel_modules / directory).exists():
            continue  # not every architecture has all of them
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


def _write_configuration(root: Path, architecture: Architecture, build_id: str) -> None:
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
    if architecture.consoles is not None:
        (assembler / "platforms.json").write_text(platforms_json(architecture.consoles), encoding="utf-8")
    image = {"bootfs": "ext4", "rootfs": "xfs", "size": 10, "extra-kargs": ["mitigations=auto,nosmt"]}
    (assembler / "image.json").write_text(json.dumps(image, indent=2) + "\n", encoding="utf-8")
    write_live_config(assembler / "live", architecture.name)


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
