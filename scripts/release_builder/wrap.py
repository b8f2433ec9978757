"""Containers and compression, with the commands that the real release uses."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from . import oci, ova
from .architectures import Architecture
from .disk import Image, copy_sparse
from .metadata import Artifact, Digest, digest_file
from .platforms import Compression, Container, Platform, artifact_name
from .rawimage import Kit
from .tools import BuildError


@dataclass(frozen=True)
class Target:
    """The directory and the names of a build, and how hard to compress it."""

    directory: Path
    build_id: str
    architecture: Architecture
    xz_level: int = 9

    @property
    def arch(self) -> str:
        """The architecture's name in file names."""
        return self.architecture.name

    def compressor(self, compression: Compression) -> tuple[str, ...]:
        """Return the command that compresses the file appended to it to its standard output."""
        return {
            Compression.XZ: ("xz", f"-c{self.xz_level}", "-T2"),
            Compression.GZIP: ("gzip", "-6", "-c"),
            Compression.ZIP: ("zip", "-q", "-9j", "-"),
        }[compression]


def wrap_disk(kit: Kit, target: Target, platform: Platform, image: Image) -> Artifact:
    """Put a platform's disk into its container and compress that; the disk itself stays."""
    name = artifact_name(target.build_id, platform.name, target.arch, platform.suffix)
    scratch = kit.work / f"wrap-{platform.name}"
    scratch.mkdir()
    container = scratch / name
    with kit.steps.step(f"{platform.name}: wrap as {platform.suffix}"):
        _contain(kit, target, platform, image.path, container)
    if platform.compression is Compression.NONE:
        final = target.directory / name
        shutil.move(container, final)
        uncompressed: Digest | None = None
    else:
        final = target.directory / f"{name}.{platform.compression.value}"
        command = target.compressor(platform.compression)
        with kit.steps.step(f"{platform.name}: {' '.join(command)}"):
            uncompressed = digest_file(container)
            kit.runner.run(*command, container, stdout=final)
    shutil.rmtree(scratch)
    return Artifact(
        key=platform.name,
        platform=platform.stream_platform,
        format=platform.stream_format,
        role="disk",
        filename=final.name,
        digest=digest_file(final),
        uncompressed=uncompressed,
    )


def _contain(kit: Kit, target: Target, platform: Platform, disk: Path, container: Path) -> None:
    match platform.container:
        case Container.RAW:
            kit.runner.run("cp", "-a", "--sparse=auto", "--reflink=auto", disk, container)
        case Container.QEMU_IMG:
            qemu_convert(kit, platform, disk, container)
        case Container.TAR_GZ:
            _gcp_tar(kit, disk, container)
        case Container.OCI:
            _kubevirt(kit, target, platform, disk, container)
        case Container.OVA:
            # The descriptor inside the VMDK keeps the name that the file was made under.
            vmdk = container.with_suffix(".vmdk")
            qemu_convert(kit, platform, disk, vmdk)
            ova.make_ova(kit.runner, ova.Machine(platform.name, target.build_id), vmdk, disk.stat().st_size, container)
        case Container.POWERVS:
            copy = container.parent / "copy.raw"
            copy_sparse(kit.runner, disk, copy)
            ova.make_powervs(kit.runner, ova.Machine(platform.name, target.build_id), copy, container)
        case _:
            raise BuildError(f"no way to make {platform.container}")


def qemu_convert(kit: Kit, platform: Platform, disk: Path, container: Path) -> None:
    """Convert a raw disk with the platform's options."""
    kit.runner.run("qemu-img", "convert", "-f", "raw", *platform.convert, disk, container)


def _gcp_tar(kit: Kit, disk: Path, container: Path) -> None:
    tree = container.parent / "tree"
    tree.mkdir()
    (tree / "disk.raw").hardlink_to(disk)
    archive = container.parent / "disk.tar"
    kit.runner.run("tar", "--format=oldgnu", "--sparse", "--auto-compress", "-cf", archive, "-C", tree, "disk.raw")
    kit.runner.run("gzip", "--no-name", "--stdout", "-9", archive, stdout=container)


def _kubevirt(kit: Kit, target: Target, platform: Platform, disk: Path, container: Path) -> None:
    tree = container.parent / "tree"
    (tree / "disk").mkdir(mode=0o755, parents=True)
    qemu_convert(kit, platform, disk, tree / "disk" / f"{container.stem}.qcow2")
    oci.make_oci_archive(kit.runner, tree, container, architecture=target.architecture.go)
