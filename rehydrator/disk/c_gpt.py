"""Structures of the GUID partition table, and of the protective MBR before it.

Source: UEFI specification 2.10, sections 5.2 and 5.3. All numbers are little-endian; LBAs count logical sectors.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

MBR_SIGNATURE = 0xAA55
GPT_PROTECTIVE = 0xEE  # OSType of the partition record that covers a disk with a GPT
SIGNATURE = b"EFI PART"
SECTOR_SIZES = (512, 4096)
MIN_ENTRY_SIZE = 128
MAX_ENTRIES_BYTES = 1 << 20


class MbrRecord(Structure, byteorder="<"):
    """A partition record of the MBR."""

    BootIndicator: int = field("B")
    StartingCHS: bytes = field("3s")
    OSType: int = field("B")
    EndingCHS: bytes = field("3s")
    StartingLBA: int = field("I")
    SizeInLBA: int = field("I")


class Mbr(Structure, byteorder="<"):
    """The first 512 bytes of the disk, whatever its sectors."""

    BootCode: bytes = field("440s")
    UniqueMBRDiskSignature: int = field("I")
    Unknown: int = field("H")
    PartitionRecord: bytes = field("64s")
    Signature: int = field("H")

    @property
    def records(self) -> tuple[MbrRecord, ...]:
        """The four partition records."""
        return tuple(
            MbrRecord.parse(self.PartitionRecord, at) for at in range(0, len(self.PartitionRecord), MbrRecord.SIZE)
        )


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
