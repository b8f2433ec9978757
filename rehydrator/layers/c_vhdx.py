"""Structures of VHDX files.

Source: Microsoft "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format". All numbers are little-endian.
"""

from __future__ import annotations

import enum
import uuid

from rehydrator.binary import Structure, field

KIB = 1 << 10
MIB = 1 << 20

SIGNATURE = b"vhdxfile"
HEADER_SIGNATURE = b"head"
REGION_SIGNATURE = b"regi"
METADATA_SIGNATURE = b"metadata"
LOG_ENTRY_SIGNATURE = b"loge"
DATA_DESCRIPTOR_SIGNATURE = b"desc"
DATA_SECTOR_SIGNATURE = b"data"

# The header section: structures in 64 KiB each, in the first MiB
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_SIZE = 64 * KIB
HEADER_SIZE = 4 * KIB  # what its checksum covers
HEADER_SECTION = MIB

VERSION = 1
LOG_VERSION = 0
LOG_SECTOR = 4 * KIB
METADATA_TABLE_SIZE = 64 * KIB
MIN_BLOCK_SIZE = MIB
MAX_BLOCK_SIZE = 256 * MIB
MAX_DISK_SIZE = 64 << 40
SECTOR_SIZES = (512, 4096)
SECTORS_PER_BITMAP = 1 << 23  # sectors that one sector bitmap block covers
BAT_ENTRY_SIZE = 8
BAT_STATE_MASK = 7
BAT_OFFSET_SHIFT = 20  # FileOffsetMB

BAT_REGION = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")

FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = uuid.UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")


class BlockState(enum.IntEnum):
    """States of a payload block in the block allocation table."""

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    UNMAPPED_0_95 = 5
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7


class ItemFlag(enum.IntFlag):
    """Bits of ``Flags`` of a metadata item."""

    IS_USER = 1
    IS_VIRTUAL_DISK = 2
    IS_REQUIRED = 4


class FileFlag(enum.IntFlag):
    """Bits of ``FileParameters.Flags``."""

    LEAVE_BLOCK_ALLOCATED = 1
    HAS_PARENT = 2


class FileIdentifier(Structure, byteorder="<"):
    """The start of a file."""

    Signature: bytes = field("8s")
    Creator: bytes = field("512s")  # UTF-16


class Header(Structure, byteorder="<"):
    """One of the two headers; the one with the higher sequence number counts."""

    Signature: bytes = field("4s")
    Checksum: int = field("I")
    SequenceNumber: int = field("Q")
    FileWriteGuid: bytes = field("16s")
    DataWriteGuid: bytes = field("16s")
    LogGuid: bytes = field("16s")
    LogVersion: int = field("H")
    Version: int = field("H")
    LogLength: int = field("I")
    LogOffset: int = field("Q")


class RegionTableHeader(Structure, byteorder="<"):
    """Head of a region table."""

    Signature: bytes = field("4s")
    Checksum: int = field("I")
    EntryCount: int = field("I")
    Reserved: int = field("I")


class RegionTableEntry(Structure, byteorder="<"):
    """One region of a file."""

    Guid: bytes = field("16s")
    FileOffset: int = field("Q")
    Length: int = field("I")
    Required: int = field("I")


class MetadataTableHeader(Structure, byteorder="<"):
    """Head of the metadata table."""

    Signature: bytes = field("8s")
    Reserved: int = field("H")
    EntryCount: int = field("H")
    Reserved2: bytes = field("20s")


class MetadataTableEntry(Structure, byteorder="<"):
    """One metadata item; ``Offset`` counts from the start of the metadata region."""

    ItemId: bytes = field("16s")
    Offset: int = field("I")
    Length: int = field("I")
    Flags: int = field("I")
    Reserved: int = field("I")


class FileParameters(Structure, byteorder="<"):
    """The metadata item of this name."""

    BlockSize: int = field("I")
    Flags: int = field("I")


class LogEntryHeader(Structure, byteorder="<"):
    """Head of a log entry."""

    Signature: bytes = field("4s")
    Checksum: int = field("I")
    EntryLength: int = field("I")
    Tail: int = field("I")
    SequenceNumber: int = field("Q")
    DescriptorCount: int = field("I")
    Reserved: int = field("I")
    LogGuid: bytes = field("16s")
    FlushedFileOffset: int = field("Q")
    LastFileOffset: int = field("Q")


class DataDescriptor(Structure, byteorder="<"):
    """Says where a data sector of the log belongs; holds those bytes of it that the sector has no room for."""

    Signature: bytes = field("4s")
    TrailingBytes: bytes = field("4s")
    LeadingBytes: bytes = field("8s")
    FileOffset: int = field("Q")
    SequenceNumber: int = field("Q")


class DataSector(Structure, byteorder="<"):
    """Bytes 8 to 4091 of a sector that the log brings up to date."""

    Signature: bytes = field("4s")
    SequenceHigh: int = field("I")
    Data: bytes = field("4084s")
    SequenceLow: int = field("I")
