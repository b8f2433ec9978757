"""The machines that are emulated, one per architecture and firmware."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

OVMF = "/usr/share/OVMF/OVMF_CODE.fd"
OVMF_VARIABLES = "/usr/share/OVMF/OVMF_VARS.fd"
ARM_FIRMWARE = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
# qemu's driver by the last suffix of a file's name.
DRIVERS = {".raw": "raw", ".qcow2": "qcow2", ".vmdk": "vmdk", ".vhd": "vpc", ".vhdx": "vhdx"}


@dataclass(frozen=True)
class Machine:
    """A machine: ``device`` is the disk's; ``files`` are firmware that packages of its own bring.

    ``failure`` is what the firmware or boot loader prints when it finds nothing to start.
    """

    arch: str
    firmware: str
    program: str
    arguments: tuple[str, ...]
    device: str
    failure: re.Pattern[bytes]
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Architecture and firmware."""
        return f"{self.arch} {self.firmware}"

    @property
    def needed(self) -> tuple[str, ...]:
        """The program and the files that have to be installed."""
        return (self.program, *self.files)

    def missing(self) -> list[str]:
        """Return what of it is not there."""
        files = [file for file in self.files if not Path(file).is_file()]
        return files if shutil.which(self.program) else [self.program, *files]


_SERIAL = ("-serial", "stdio")
_VIRTIO = "virtio-blk-pci,bootindex=1"
# GRUB's prompt. Its errors are no end: it goes on after them.
_GRUB = rb"grub( rescue)?>"
_EFI = re.compile(rb"Shell> |BdsDxe: failed to (load|start)|" + _GRUB)

MACHINES = (
    Machine(
        "x86_64", "BIOS", "qemu-system-x86_64", ("-M", "pc", "-cpu", "qemu64", *_SERIAL), _VIRTIO,
        re.compile(rb"No bootable device|Boot failed|" + _GRUB),
    ),
    Machine(
        "x86_64", "UEFI", "qemu-system-x86_64",
        ("-M", "q35", "-cpu", "qemu64", *_SERIAL,
         "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF}",
         "-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={OVMF_VARIABLES}"),
        _VIRTIO, _EFI, (OVMF, OVMF_VARIABLES),
    ),
    Machine(
        "aarch64", "UEFI", "qemu-system-aarch64", ("-M", "virt", "-cpu", "cortex-a57", *_SERIAL, "-bios", ARM_FIRMWARE),
        _VIRTIO, _EFI, (ARM_FIRMWARE,),
    ),
    Machine(
        "ppc64le", "SLOF", "qemu-system-ppc64",
        ("-M", "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken", "-cpu", "power9", *_SERIAL),
        _VIRTIO, re.compile(rb"E340\d|" + _GRUB),
    ),
    Machine(
        "s390x", "ccw", "qemu-system-s390x",
        ("-M", "s390-ccw-virtio", "-cpu", "max", "-chardev", "stdio,id=console",
         "-device", "sclpconsole,chardev=console"),
        "virtio-blk-ccw,bootindex=1", re.compile(rb"! [^\r\n]* !|zIPL load failed"),
    ),
)  # fmt: skip


def machines_of(arch: str) -> tuple[Machine, ...]:
    """Return the machines of an architecture."""
    return tuple(machine for machine in MACHINES if machine.arch == arch)
