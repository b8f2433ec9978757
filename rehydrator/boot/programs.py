"""Is this the kernel, or the boot loader, of an architecture?

Each function takes the first bytes of a program and says what is wrong with them, "" for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from rehydrator.boot.c_programs import (
    ARM64_MAGIC,
    ELF_MAGIC,
    ELFCLASS64,
    ELFDATA2LSB,
    EM_PPC,
    EM_PPC64,
    GRUB_NAME,
    GZIP_MAGIC,
    MZ_MAGIC,
    PE_MAGIC,
    S390_EP_OFFSET,
    S390_EP_STRING,
    X86_BOOT_FLAG,
    X86_HEADER,
    ZBOOT_MAGIC,
    Arm64Image,
    CoffHeader,
    DosHeader,
    Elf,
    GrubBootSector,
    X86Setup,
    Zboot,
)

HEAD = S390_EP_OFFSET + len(S390_EP_STRING)  # bytes of a program that the functions look at
Problem = Callable[[bytes], str]


def x86_kernel(head: bytes) -> str:
    """Expect a bzImage."""
    if len(head) >= X86Setup.SIZE:
        setup = X86Setup.parse(head)
        if (setup.boot_flag, setup.header) == (X86_BOOT_FLAG, X86_HEADER):
            return ""
    return "is no bzImage: no boot_flag 0xaa55 and header HdrS"


def arm64_kernel(head: bytes) -> str:
    """Expect an Image, plain, in gzip, or unpacking itself as an EFI program."""
    if head.startswith(GZIP_MAGIC):
        return ""
    if len(head) >= Zboot.SIZE and Zboot.parse(head).zimg == ZBOOT_MAGIC and head.startswith(MZ_MAGIC):
        return ""
    if len(head) >= Arm64Image.SIZE and Arm64Image.parse(head).magic == ARM64_MAGIC:
        return ""
    return "is no arm64 Image: no magic ARM\\x64, nor gzip, nor zimg"


def ppc64le_kernel(head: bytes) -> str:
    """Expect a vmlinux or zImage."""
    if _elf_machine(head, ELFDATA2LSB) == EM_PPC64 and Elf.parse(head).ei_class == ELFCLASS64:
        return ""
    return "is no little-endian 64-bit ELF program for POWER"


def s390x_kernel(head: bytes) -> str:
    """Expect an image that zipl can load."""
    if head[S390_EP_OFFSET:].startswith(S390_EP_STRING):
        return ""
    return f"is no s390x image: no {S390_EP_STRING.decode()} at {S390_EP_OFFSET:#x}"


def prep_loader(head: bytes) -> str:
    """Expect a program that Open Firmware starts: 32 or 64 bits, big-endian."""
    if _elf_machine(head) in (EM_PPC, EM_PPC64):
        return ""
    return "is no ELF program for POWER"


def efi_loader(machine: int) -> Problem:
    """Return a function that expects an EFI program for ``machine``."""

    def problem(head: bytes) -> str:
        if len(head) < DosHeader.SIZE or DosHeader.parse(head).e_magic != MZ_MAGIC:
            return "is no EFI program: no MZ"
        at = DosHeader.parse(head).e_lfanew
        if len(head) < at + CoffHeader.SIZE or CoffHeader.parse(head, at).signature != PE_MAGIC:
            return "is no EFI program: no PE header"
        found = CoffHeader.parse(head, at).Machine
        return "" if found == machine else f"is an EFI program for another machine ({found:#06x})"

    return problem


def bios_loader(code: bytes, core: int) -> str:
    """Expect boot code; GRUB's has to lead to its core image at sector ``core``."""
    if not code.strip(b"\0"):
        return "holds no boot code"
    sector = GrubBootSector.parse(code)
    if GRUB_NAME in sector.rest and sector.kernel_sector != core:
        return f"GRUB's boot code leads to sector {sector.kernel_sector}, its core image begins at {core}"
    return ""


def _elf_machine(head: bytes, data: int | None = None) -> int | None:
    if len(head) < Elf.SIZE:
        return None
    elf = Elf.parse(head)
    return elf.machine if elf.magic == ELF_MAGIC and data in (None, elf.ei_data) else None
