"""The architectures of a release: partition table, packages, consoles and platforms of each.

Partition types and sizes are those of coreos-assembler's manifests `coreos.osbuild.ARCH.mpp.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .bootconfig import AARCH64_CONSOLES, PPC64LE_CONSOLES, X86_64_CONSOLES, Console
from .platforms import Platform, of_names
from .tools import GRUB_TOOLS, IPL_ISO_TOOLS, LIVE_TOOLS, PC_ISO_TOOLS, ZIPL_TOOLS, BuildError, Tool

BIOS_BOOT = "BIOS-BOOT"
ESP = "EFI-SYSTEM"
PREP = "PReP"
BOOT = "boot"
ROOT = "root"
SE = "se"
BOOT_HASH = "boothash"
ROOT_HASH = "roothash"

LINUX_TYPE = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
_RESERVED_TYPE = "8DA63339-0007-60C0-C436-083AC8230908"


@dataclass(frozen=True)
class PartitionSpec:
    """One line of the partition table; without a size it takes the rest of the disk, without a number the next one."""

    name: str
    type_guid: str
    size_mib: int | None = None
    bootable: bool = False
    number: int | None = None


_PPC64LE_ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x15\x00"  # ELFCLASS64, ELFDATA2LSB, ET_EXEC, EM_PPC64
_ESP = PartitionSpec(ESP, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 127)


def _table(first: tuple[PartitionSpec, ...], root_type: str) -> tuple[PartitionSpec, ...]:
    """Put boot and root after the partitions of the firmware; they are number 3 and 4 on every architecture."""
    return (
        *first,
        PartitionSpec(BOOT, "BC13C2FF-59E6-4262-A352-B275FD6F7172", 384, number=3),
        PartitionSpec(ROOT, root_type, number=4),
    )


# The disk for Secure Execution: what the machine starts, and for boot and root a tree of hashes each. That it starts no
# other can't be told by the types of boot and root.
SECEX_PARTITIONS = (
    PartitionSpec(SE, LINUX_TYPE, 200, number=1),
    PartitionSpec(BOOT, LINUX_TYPE, 384, number=3),
    PartitionSpec(ROOT, LINUX_TYPE, number=4),
    PartitionSpec(BOOT_HASH, LINUX_TYPE, 128, number=5),
    PartitionSpec(ROOT_HASH, "B325BFBE-C7BE-4AB8-8357-139E652D2F6B", 256, number=6),
)


@dataclass(frozen=True)
class StandIn:
    """A small boot image of the architecture that takes the kernel's place where the content has none.

    `path` is below the unpacked support packages; zeros follow up to `size` bytes, and at byte `mark_at` comes the mark
    that loaders know a kernel by.
    """

    path: str
    version: str
    size: int = 0
    mark: bytes = b""
    mark_at: int = 0


@dataclass(frozen=True)
class Architecture:
    """What is particular to an architecture. `name` is RPM's, as in every file name of a release."""

    name: str
    debian: str
    go: str
    partitions: tuple[PartitionSpec, ...]
    # Metapackages of the kernel: a small one, and the ordinary one.
    cloud_kernel: str
    kernel: str
    stand_in: StandIn
    platforms: tuple[Platform, ...]
    # Boot loaders and the initramfs's shell; not part of the tree.
    support: tuple[str, ...]
    # None where the tree has no platforms.json.
    consoles: dict[str, Console] | None
    # The Debian suite that zipl comes from, which makes the disks bootable; empty where a boot loader does.
    zipl_suite: str = ""
    live: bool = False
    # Kernel arguments that a disk of its own is born with, before the platform's id.
    disk_arguments: tuple[str, ...] = ()
    # Whether the ESP's volume has whatever number mkfs gives it, and root as many allocation groups.
    random_ids: bool = False

    @property
    def live_tools(self) -> tuple[Tool, ...]:
        """The host programs that make its live artifacts."""
        return (*LIVE_TOOLS, *(IPL_ISO_TOOLS if self.zipl_suite else PC_ISO_TOOLS))

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The host programs that make its disks bootable."""
        return ZIPL_TOOLS if self.zipl_suite else GRUB_TOOLS


X86_64 = Architecture(
    name="x86_64",
    debian="amd64",
    go="amd64",
    partitions=_table(
        (PartitionSpec(BIOS_BOOT, "21686148-6449-6E6F-744E-656564454649", 1, bootable=True), _ESP),
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    ),
    cloud_kernel="linux-image-cloud-amd64",
    kernel="linux-image-amd64",
    # It is a real boot image of the same format as a kernel, and 140 KB small.
    stand_in=StandIn("boot/memtest86+x64.bin", "6.10.0-memtest86plus"),
    platforms=of_names(
        "metal metal4k qemu aliyun applehv aws azure azurestack digitalocean exoscale gcp hetzner hyperv ibmcloud "
        "kubevirt nutanix openstack oraclecloud proxmoxve virtualbox vmware vultr"
    ),
    support=(
        "busybox-static", "grub-efi-amd64-bin", "grub-efi-amd64-signed", "grub-pc-bin", "isolinux", "memtest86+",
        "shim-signed", "syslinux-common",
    ),
    consoles=X86_64_CONSOLES,
    live=True,
)  # fmt: skip
AARCH64 = Architecture(
    name="aarch64",
    debian="arm64",
    go="arm64",
    partitions=_table(
        (PartitionSpec("reserved", _RESERVED_TYPE, 1), _ESP), "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
    ),
    cloud_kernel="linux-image-cloud-arm64",
    kernel="linux-image-arm64",
    # The mark is the magic number of the boot protocol, which GRUB's own kernel lacks.
    stand_in=StandIn("usr/lib/grub/arm64-efi/kernel.img", "2.06-grub", mark=b"ARM\x64", mark_at=0x38),
    platforms=of_names(
        "metal metal4k qemu applehv aws azure gcp hetzner hyperv openstack oraclecloud"
    ),
    support=("busybox-static", "grub-efi-arm64-bin"),
    consoles=AARCH64_CONSOLES,
)  # fmt: skip
PPC64LE = Architecture(
    name="ppc64le",
    debian="ppc64el",
    go="ppc64le",
    partitions=_table(
        (
            PartitionSpec(PREP, "9E1A2D38-C612-4316-AA26-8B49521E5A8B", 4, bootable=True),
            PartitionSpec("reserved", _RESERVED_TYPE, 1),
        ),
        "C31C45E6-3F39-412E-80FB-4809C4980599",
    ),
    cloud_kernel="linux-image-powerpc64le",
    kernel="linux-image-powerpc64le",
    # GRUB's own kernel has 32 bits and is big-endian; the mark is the start of an ELF header of the other kind.
    stand_in=StandIn("usr/lib/grub/powerpc-ieee1275/kernel.img", "2.06-grub", mark=_PPC64LE_ELF),
    platforms=of_names("metal metal4k qemu openstack powervs"),
    support=("busybox-static", "grub-ieee1275-bin"),
    consoles=PPC64LE_CONSOLES,
)
S390X = Architecture(
    name="s390x",
    debian="s390x",
    go="s390x",
    partitions=_table((), "5EEAD9A9-FE09-4A1E-A1D7-520D00531306"),
    cloud_kernel="linux-image-s390x",
    kernel="linux-image-s390x",
    # zipl reads the largest parmline at byte 0x10430 of a kernel, so that one can't be shorter; 0 there means 896.
    stand_in=StandIn("usr/lib/s390-tools/stage3.bin", "0-stage3", 72 << 10, b"S390EP", 0x10008),
    platforms=of_names("metal metal4k qemu ibmcloud kubevirt openstack qemu-secex"),
    support=("busybox-static",),
    consoles=None,
    # Newer than the content, whose zipl is from 2020 and knows no environment block.
    zipl_suite="sid",
    live=True,
)
ALL = {item.name: item for item in (X86_64, AARCH64, PPC64LE, S390X)}


def by_names(text: str) -> list[Architecture]:
    """Parse --arch: "all" or names with commas. Raises BuildError."""
    names = list(ALL) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(ALL))
    if unknown or not names:
        raise BuildError(f"no architecture {', '.join(unknown) or 'given'}; there are {', '.join(ALL)}")
    return [ALL[name] for name in dict.fromkeys(names)]
