"""The first bytes of kernels and boot loaders, by which they are known.

Sources: Linux ``Documentation/arch/x86/boot.rst``, ``Documentation/arch/arm64/booting.rst``,
``drivers/firmware/efi/libstub/zboot-header.S``, ``arch/s390/include/asm/setup.h``; the ELF specification; Microsoft's
"PE Format"; GRUB ``include/grub/i386/pc/boot.h``.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

X86_BOOT_FLAG = 0xAA55
X86_HEADER = b"HdrS"
ARM64_MAGIC = b"ARM\x64"
MZ_MAGIC = b"MZ"
ZBOOT_MAGIC = b"zimg"
GZIP_MAGIC = b"\x1f\x8b"
S390_EP_OFFSET = 0x10008
S390_EP_STRING = b"S390EP"
ELF_MAGIC = b"\x7fELF"
ELFCLASS64 = 2
ELFDATA2LSB = 1
ELFDATA2MSB = 2
EM_PPC = 20
EM_PPC64 = 21
PE_MAGIC = b"PE\0\0"
GRUB_NAME = b"GRUB "
IMAGE_FILE_MACHINE_AMD64 = 0x8664
IMAGE_FILE_MACHINE_ARM64 = 0xAA64


class X86Setup(Structure, byteorder="<"):
    """The boot sector of a bzImage up to its header's magic number."""

    code: bytes = field("510s")
    boot_flag: int = field("H")
    jump: int = field("H")
    header: bytes = field("4s")


class Arm64Image(Structure, byteorder="<"):
    """The header of an uncompressed arm64 kernel."""

    code0: int = field("I")
    code1: int = field("I")
    text_offset: int = field("Q")
    image_size: int = field("Q")
    flags: int = field("Q")
    res2: int = field("Q")
    res3: int = field("Q")
    res4: int = field("Q")
    magic: bytes = field("4s")


class Zboot(Structure, byteorder="<"):
    """The header of a kernel that unpacks itself as an EFI program."""

    mz: bytes = field("4s")
    zimg: bytes = field("4s")


class Elf(Structure, byteorder="<"):
    """``e_ident`` of an ELF file, which says how to read what follows."""

    magic: bytes = field("4s")
    ei_class: int = field("B")
    ei_data: int = field("B")
    rest: bytes = field("10s")
    e_type: bytes = field("2s")
    e_machine: bytes = field("2s")

    @property
    def machine(self) -> int:
        """``e_machine`` as a number."""
        return int.from_bytes(self.e_machine, "big" if self.ei_data == ELFDATA2MSB else "little")


class DosHeader(Structure, byteorder="<"):
    """``IMAGE_DOS_HEADER``, with which every EFI program begins."""

    e_magic: bytes = field("2s")
    unused: bytes = field("58s")
    e_lfanew: int = field("I")


class CoffHeader(Structure, byteorder="<"):
    """The PE signature and the first field of the COFF file header."""

    signature: bytes = field("4s")
    Machine: int = field("H")


class GrubBootSector(Structure, byteorder="<"):
    """GRUB's ``boot.img`` as far as the MBR has room for it; ``kernel_sector`` is where its core image begins."""

    code: bytes = field("92s")
    kernel_sector: int = field("Q")
    rest: bytes = field("340s")
