"""Structures of zipl's boot record and bootmap for list-directed IPL from SCSI and virtio block devices.

Source: s390-tools ``include/boot/boot_defs.h``, ``zipl/include/boot.h``, ``zipl/src/bootmap.c``. All numbers are
big-endian. Blocks are counted in the target's physical blocks ("sectors" here: 512 or 4096 bytes).
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

MAGIC = b"zIPL"
BOOT_RECORD_VERSION = 1
BOOTMAP_TEXT = b"zSeries bootmap file\ncreated by zIPL\n"
ENVIRONMENT_MAGIC = b"# zIPL Environment Block\n"
SIGNATURE_MAGIC = b"~Module signature appended~\n"
PROGRAM_TABLE_SIZE = 512
PROGRAM_TABLE_ENTRIES = 31
MAX_BLOCK_COUNT = 0xFFFF  # of blockct, which is one less than the number of blocks
ZERO_BLOCK = 1  # index of the bootmap's block of zeros among its 512-byte blocks or sectors

# Load addresses of the parts that are always at the same place (zipl/include/boot.h).
HEAP_ADDRESS = 0x2000
PARAMETERS_ADDRESS = 0x9000
STAGE3_ADDRESS = 0xA000
STACK_ADDRESS = 0xF000
IMAGE_ADDRESS = 0x10000


class ComponentType(enum.IntEnum):
    """Values of ``ComponentEntry.type``."""

    EXECUTE = 1
    LOAD = 2
    SIGNATURE = 3


class BlockPointer(Structure, byteorder=">"):
    """``struct linear_blockptr``: ``blockct`` + 1 blocks of ``size`` bytes from ``blockno`` on; all zero: none."""

    blockno: int = field("Q")
    size: int = field("H")
    blockct: int = field("H")
    reserved: int = field("I")


class BootRecord(Structure, byteorder=">"):
    """``struct scsi_mbr``: the first bytes of sector 0; what follows them is left alone."""

    magic: bytes = field("4s")
    version_id: int = field("I")
    reserved: bytes = field("8s")
    program_table_pointer: bytes = field("16s")
    reserved2: bytes = field("80s")
    boot_info: bytes = field("40s")


class ProgramTable(Structure, byteorder=">"):
    """The start of the program table; pointers to component tables follow, the default one first."""

    magic: bytes = field("4s")
    reserved: bytes = field("12s")


class ComponentHeader(Structure, byteorder=">"):
    """``struct component_header``: the start of a component table."""

    magic: bytes = field("4s")
    type: int = field("B")
    reserved: bytes = field("27s")


class ComponentEntry(Structure, byteorder=">"):
    """``struct component_entry``: ``compdat`` is a load address, a PSW or the signature's format and length."""

    data: bytes = field("16s")
    reserved: bytes = field("7s")
    type: int = field("B")
    compdat: int = field("Q")


class Stage3Parameters(Structure, byteorder=">"):
    """``struct boot_stage3_params`` as zipl before 2.18 wrote it."""

    parm_addr: int = field("Q")
    initrd_addr: int = field("Q")
    initrd_len: int = field("Q")
    load_psw: int = field("Q")
    extra_parm: int = field("Q")
    flags: int = field("Q")
    image_len: int = field("Q")
    image_addr: int = field("Q")


class BootmapHeader(Structure, byteorder=">"):
    """``struct bootmap_header`` up to what is used; version and offset are zero before zipl 2.18."""

    header_text: bytes = field("48s")
    version: int = field("Q")
    envblk_offset: int = field("Q")


class SignatureTrailer(Structure, byteorder=">"):
    """``struct module_signature`` with its magic: the end of a signed kernel or ramdisk."""

    algo: int = field("B")
    hash: int = field("B")
    id_type: int = field("B")
    signer_len: int = field("B")
    key_id_len: int = field("B")
    pad: bytes = field("3s")
    sig_len: int = field("I")
    magic: bytes = field("28s")
