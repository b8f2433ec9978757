"""How the architectures of CoreOS boot.

Sources: coreos-assembler ``src/osbuild-manifests/coreos.osbuild.<arch>.mpp.yaml`` for the partitions; the Discoverable
Partitions Specification for the types of root partitions.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from uuid import UUID

import msgspec

from rehydrator.boot import programs
from rehydrator.boot.c_programs import IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64


class EfiPath(msgspec.Struct, frozen=True):
    """The file that firmware starts from an EFI system partition, and what it has to be."""

    path: str
    problem: programs.Problem

    @property
    def suffix(self) -> str:
        """How the names of all programs for this machine end, in lower case."""
        return PurePosixPath(self.path).name.lower().removeprefix("boot")


class Architecture(msgspec.Struct, frozen=True):
    """One architecture: the type of its root partition, its kernels, and the ways in which it boots."""

    name: str
    root_type: UUID
    kernel_problem: programs.Problem
    efi: EfiPath | None = None
    bios: bool = False
    prep: bool = False
    zipl: bool = False


ARCHITECTURES = (
    Architecture(
        "x86_64",
        UUID("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
        programs.x86_kernel,
        efi=EfiPath("/EFI/BOOT/BOOTX64.EFI", programs.efi_loader(IMAGE_FILE_MACHINE_AMD64)),
        bios=True,
    ),
    Architecture(
        "aarch64",
        UUID("B921B045-1DF0-41C3-AF44-4C6F280D3FAE"),
        programs.arm64_kernel,
        efi=EfiPath("/EFI/BOOT/BOOTAA64.EFI", programs.efi_loader(IMAGE_FILE_MACHINE_ARM64)),
    ),
    Architecture("ppc64le", UUID("C31C45E6-3F39-412E-80FB-4809C4980599"), programs.ppc64le_kernel, prep=True),
    Architecture("s390x", UUID("5EEAD9A9-FE09-4A1E-A1D7-520D00531306"), programs.s390x_kernel, zipl=True),
)


def by_name(name: str) -> Architecture | None:
    """Return an architecture by its RPM name."""
    return next((item for item in ARCHITECTURES if item.name == name), None)


def by_root_type(kind: UUID) -> Architecture | None:
    """Return the architecture whose root partitions have this type."""
    return next((item for item in ARCHITECTURES if item.root_type == kind), None)


def by_kernel(head: bytes) -> Architecture | None:
    """Return the architecture that a kernel is for."""
    return next((item for item in ARCHITECTURES if not item.kernel_problem(head)), None)
