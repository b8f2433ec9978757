"""Structures of the GUID partition table.

Source: UEFI specification 2.10, section 5.3. All numbers are little-endian; LBAs count logical sectors.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

SIGNATURE = b"EFI PART"
SECTOR_SIZES = (512, 4096)
MIN_ENTRY_SIZE = 128
MAX_ENTRIES_BYTES = 1 << 20


class GptHeader(Structure, byteorder="<"):
    """The header at LBA 1 and, mirrored, in the last sector."""

    Signature: bytes = field("8s")
    Revision: int = field("I")
    HeaderSize: int = field("I")
    HeaderCRC32: int = field("I")
    Reserved: int = field("I")
    MyLBA: int = field("Q")
    AlternateLBA: int = field("Q")
    FirstUsableLBA: int = field("Q")
    LastUsableLBA: int = field("Q")
    DiskGUID: bytes = field("16s")
    PartitionEntryLBA: int = field("Q")
    NumberOfPartitionEntries: int = field("I")
    SizeOfPartitionEntry: int = field("I")
    PartitionEntryArrayCRC32: int = field("I")


class GptEntry(Structure, byteorder="<"):
    """One entry of the partition entry array."""

    PartitionTypeGUID: bytes = field("16s")
    UniquePartitionGUID: bytes = field("16s")
    StartingLBA: int = field("Q")
    EndingLBA: int = field("Q")
    Attributes: int = field("Q")
    PartitionName: bytes = field("72s")
