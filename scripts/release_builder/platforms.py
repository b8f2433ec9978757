"""The platforms of a release: from which disk, how large, in which container, compressed how, under which name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from .tools import BASE_TOOLS, SECEX_TOOLS, SIGN_TOOLS, ZIP_TOOLS, BuildError, Tool

if TYPE_CHECKING:
    from .architectures import Architecture

NAME = "fedora-coreos"


class Parent(Enum):
    """The disk that a platform's disk is an edit of."""

    RAW = "raw-image"
    RAW_4K = "raw-4k-image"
    QEMU = "qemu"
    SECEX = "raw-secex-image"
    OWN = "own disk"


class Size(Enum):
    """Which of the build's disk sizes a platform has."""

    METAL = "metal"
    CLOUD = "cloud"
    IBMCLOUD = "ibmcloud"


class Container(Enum):
    """The file format around a disk."""

    RAW = "raw"
    QEMU_IMG = "qemu-img"
    TAR_GZ = "tar.gz"
    OCI = "ociarchive"
    OVA = "ova"
    POWERVS = "ova.gz"


class Compression(Enum):
    """What is wrapped around the container, named by the suffix it adds."""

    NONE = ""
    XZ = "xz"
    GZIP = "gz"
    ZIP = "zip"


@dataclass(frozen=True)
class Platform:
    """One disk artifact of the release."""

    name: str
    suffix: str
    container: Container
    compression: Compression = Compression.XZ
    convert: tuple[str, ...] = ()
    parent: Parent = Parent.RAW
    size: Size = Size.CLOUD
    sector_size: int = 512
    # Where stream metadata lists it, if not under its own name and suffix.
    stream_name: str = ""
    format_prefix: str = ""
    ignition_id: str = field(default="")

    @property
    def platform_id(self) -> str:
        """The value of ignition.platform.id."""
        return self.ignition_id or self.name

    @property
    def stream_platform(self) -> str:
        """The platform's name in stream metadata."""
        return self.stream_name or self.name

    @property
    def stream_format(self) -> str:
        """The format's name in stream metadata."""
        compressed = f".{self.compression.value}" if self.compression.value else ""
        return f"{self.format_prefix}{self.suffix}{compressed}"


def _qcow2(name: str, compression: Compression = Compression.XZ, size: Size = Size.CLOUD) -> Platform:
    convert = ("-O", "qcow2", "-o", "compat=1.1")
    return Platform(name, "qcow2", Container.QEMU_IMG, compression, convert, size=size)


def _vhd(name: str) -> Platform:
    return Platform(name, "vhd", Container.QEMU_IMG, convert=("-O", "vpc", "-o", "subformat=fixed,force_size"))


def _raw(name: str, compression: Compression = Compression.XZ) -> Platform:
    return Platform(name, "raw", Container.RAW, compression)


def _ova(name: str, options: str) -> Platform:
    convert = ("-O", "vmdk", "-o", options)
    return Platform(name, "ova", Container.OVA, Compression.NONE, convert, Parent.QEMU)


# metal, metal4k and qemu first: other artifacts wait for them.
_ALL = (
    Platform("metal", "raw", Container.RAW, size=Size.METAL),
    Platform(
        "metal4k", "raw", Container.RAW, parent=Parent.RAW_4K, size=Size.METAL, sector_size=4096,
        stream_name="metal", format_prefix="4k.", ignition_id="metal",
    ),
    _qcow2("qemu"),
    _qcow2("aliyun"),
    _raw("applehv", Compression.GZIP),
    Platform(
        "aws", "vmdk", Container.QEMU_IMG,
        convert=("-O", "vmdk", "-c", "-o", "adapter_type=lsilogic,compat6,subformat=streamOptimized"),
    ),
    _vhd("azure"),
    _vhd("azurestack"),
    _qcow2("digitalocean", Compression.GZIP),
    _qcow2("exoscale"),
    Platform("gcp", "tar.gz", Container.TAR_GZ, Compression.NONE),
    _raw("hetzner"),
    Platform("hyperv", "vhdx", Container.QEMU_IMG, Compression.ZIP, ("-O", "vhdx")),
    _qcow2("ibmcloud", size=Size.IBMCLOUD),
    Platform("kubevirt", "ociarchive", Container.OCI, Compression.NONE, ("-O", "qcow2", "-o", "compat=1.1")),
    Platform("nutanix", "qcow2", Container.QEMU_IMG, Compression.NONE, ("-O", "qcow2", "-c", "-o", "compat=1.1")),
    _qcow2("openstack"),
    _qcow2("oraclecloud"),
    Platform("powervs", "ova.gz", Container.POWERVS, Compression.NONE, parent=Parent.QEMU),
    _qcow2("proxmoxve"),
    Platform(
        "qemu-secex", "qcow2", Container.QEMU_IMG, convert=("-O", "qcow2", "-o", "compat=1.1"), parent=Parent.SECEX,
        ignition_id="qemu",
    ),
    _ova("virtualbox", "subformat=streamOptimized"),
    _ova("vmware", "adapter_type=lsilogic,subformat=streamOptimized,compat6"),
    _raw("vultr"),
)  # fmt: skip
# Not a disk: ISO, PXE kernel, initramfs and rootfs, made from metal and metal4k.
LIVE = "live"


def of_names(names: str) -> tuple[Platform, ...]:
    """Return the platforms of these names, which have spaces between them, in the order of the table above."""
    wanted = set(names.split())
    return tuple(platform for platform in _ALL if platform.name in wanted)


@dataclass(frozen=True)
class Selection:
    """The artifacts to build for an architecture; `needed` also has the platforms that others are made from."""

    architecture: Architecture
    platforms: tuple[Platform, ...]
    needed: tuple[Platform, ...]
    live: bool

    def uncompressed(self) -> Selection:
        """Return the same without the compression around containers."""
        bare = {item.name: replace(item, compression=Compression.NONE) for item in self.needed}
        return replace(self, platforms=tuple(bare[item.name] for item in self.platforms), needed=tuple(bare.values()))

    def tools(self, *, sign: bool) -> list[Tool]:
        """Return the host programs for this selection."""
        tools = [*BASE_TOOLS, *self.architecture.tools]
        if self.live:
            tools += self.architecture.live_tools
        if any(platform.compression is Compression.ZIP for platform in self.platforms):
            tools += ZIP_TOOLS
        if any(platform.parent is Parent.SECEX for platform in self.platforms):
            tools += SECEX_TOOLS
        if sign:
            tools += SIGN_TOOLS
        return tools


def select(text: str, architectures: Sequence[Architecture]) -> list[Selection]:
    """Parse --platforms: "all" or names with commas; parents that were not asked for are added as needed.

    Each architecture takes those of the names that it has. Raises BuildError for a name that none of them has.
    """
    known = {name: None for architecture in architectures for name in _names(architecture)}
    names = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        raise BuildError(f"no platform {', '.join(unknown) or 'given'}; there are {', '.join(known)}")
    selections = [_selection(architecture, set(names)) for architecture in architectures]
    return [selection for selection in selections if selection.platforms or selection.live]


def _names(architecture: Architecture) -> list[str]:
    return [platform.name for platform in architecture.platforms] + ([LIVE] if architecture.live else [])


def _selection(architecture: Architecture, names: set[str]) -> Selection:
    live = architecture.live and LIVE in names
    platforms = tuple(platform for platform in architecture.platforms if platform.name in names)
    needed = {platform.name for platform in platforms}
    if live:
        needed |= {"metal", "metal4k"}
    if any(platform.parent is Parent.QEMU for platform in platforms):
        needed.add("qemu")
    return Selection(
        architecture,
        platforms,
        tuple(platform for platform in architecture.platforms if platform.name in needed),
        live,
    )


def artifact_name(build_id: str, artifact: str, arch: str, suffix: str = "") -> str:
    """Return a file name of the release."""
    return f"{NAME}-{build_id}-{artifact}.{arch}" + (f".{suffix}" if suffix else "")
