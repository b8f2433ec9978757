"""On-disk structures of FAT.

Source: Microsoft "FAT: General Overview of On-Disk Format" (fatgen103), whose names are kept. All numbers are
little-endian.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

BOOT_SIGNATURE = b"\x55\xaa"
BOOT_SIGNATURE_OFFSET = 510
SECTOR_SIZES = (512, 1024, 2048, 4096)
FIRST_CLUSTER = 2
MAX_FAT12_CLUSTERS = 4084
FAT32_MASK = 0x0FFFFFFF

FSI_LEAD_SIG = 0x41615252
FSI_STRUC_SIG = 0x61417272
FSI_TRAIL_SIG = 0xAA550000

ENTRY_END = 0x00
ENTRY_FREE = 0xE5
ENTRY_KANJI = 0x05  # stands for 0xE5 as the first byte of a name
LAST_LONG_ENTRY = 0x40
LONG_CHARS = 13
NTRES_LOWER_BASE = 0x08
NTRES_LOWER_EXT = 0x10


class Attribute(enum.IntFlag):
    """``DIR_Attr``."""

    READ_ONLY = 0x01
    HIDDEN = 0x02
    SYSTEM = 0x04
    VOLUME_ID = 0x08
    DIRECTORY = 0x10
    ARCHIVE = 0x20


ATTR_LONG_NAME = 0x0F
ATTR_LONG_NAME_MASK = 0x3F


class Bpb(Structure, byteorder="<"):
    """The BIOS parameter block that all types share, from byte 0 of the boot sector."""

    BS_jmpBoot: bytes = field("3s")
    BS_OEMName: bytes = field("8s")
    BPB_BytsPerSec: int = field("H")
    BPB_SecPerClus: int = field("B")
    BPB_RsvdSecCnt: int = field("H")
    BPB_NumFATs: int = field("B")
    BPB_RootEntCnt: int = field("H")
    BPB_TotSec16: int = field("H")
    BPB_Media: int = field("B")
    BPB_FATSz16: int = field("H")
    BPB_SecPerTrk: int = field("H")
    BPB_NumHeads: int = field("H")
    BPB_HiddSec: int = field("I")
    BPB_TotSec32: int = field("I")


class Bpb16(Structure, byteorder="<"):
    """What follows the BPB on FAT12 and FAT16."""

    BS_DrvNum: int = field("B")
    BS_Reserved1: int = field("B")
    BS_BootSig: int = field("B")
    BS_VolID: int = field("I")
    BS_VolLab: bytes = field("11s")
    BS_FilSysType: bytes = field("8s")


class Bpb32(Structure, byteorder="<"):
    """What follows the BPB on FAT32."""

    BPB_FATSz32: int = field("I")
    BPB_ExtFlags: int = field("H")
    BPB_FSVer: int = field("H")
    BPB_RootClus: int = field("I")
    BPB_FSInfo: int = field("H")
    BPB_BkBootSec: int = field("H")
    BPB_Reserved: bytes = field("12s")
    BS_DrvNum: int = field("B")
    BS_Reserved1: int = field("B")
    BS_BootSig: int = field("B")
    BS_VolID: int = field("I")
    BS_VolLab: bytes = field("11s")
    BS_FilSysType: bytes = field("8s")


class FsInfo(Structure, byteorder="<"):
    """The FSInfo sector of FAT32."""

    FSI_LeadSig: int = field("I")
    FSI_Reserved1: bytes = field("480s")
    FSI_StrucSig: int = field("I")
    FSI_Free_Count: int = field("I")
    FSI_Nxt_Free: int = field("I")
    FSI_Reserved2: bytes = field("12s")
    FSI_TrailSig: int = field("I")


class DirectoryEntry(Structure, byteorder="<"):
    """A directory entry with a short name."""

    DIR_Name: bytes = field("11s")
    DIR_Attr: int = field("B")
    DIR_NTRes: int = field("B")
    DIR_CrtTimeTenth: int = field("B")
    DIR_CrtTime: int = field("H")
    DIR_CrtDate: int = field("H")
    DIR_LstAccDate: int = field("H")
    DIR_FstClusHI: int = field("H")
    DIR_WrtTime: int = field("H")
    DIR_WrtDate: int = field("H")
    DIR_FstClusLO: int = field("H")
    DIR_FileSize: int = field("I")


class LongEntry(Structure, byteorder="<"):
    """A directory entry with 13 characters of a long name; they come last part first, before the short one."""

    LDIR_Ord: int = field("B")
    LDIR_Name1: bytes = field("10s")
    LDIR_Attr: int = field("B")
    LDIR_Type: int = field("B")
    LDIR_Chksum: int = field("B")
    LDIR_Name2: bytes = field("12s")
    LDIR_FstClusLO: int = field("H")
    LDIR_Name3: bytes = field("4s")
