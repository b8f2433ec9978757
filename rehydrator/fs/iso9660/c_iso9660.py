"""Structures of ISO 9660 images.

Sources: ECMA-119 (volume descriptors 8, path tables 9.4, directory records 9.1), the El Torito specification 1.0 (boot
catalog), and the System Use Sharing Protocol 1.12 (SUSP) with Rock Ridge (RRIP 1.12). Of numbers that are recorded in
both byte orders the little-endian half is read; the other one is called the same with ``M``.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

SECTOR_SIZE = 2048
SYSTEM_AREA = 16 * SECTOR_SIZE  # bytes before the first volume descriptor
STANDARD_IDENTIFIER = b"CD001"
EL_TORITO = b"EL TORITO SPECIFICATION"
JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")
BOTH_NAMES = (b"\0", b"\1")  # identifiers of a directory itself and of its parent


class DescriptorType(enum.IntEnum):
    """``VolumeDescriptorType`` (8.1.1)."""

    BOOT_RECORD = 0
    PRIMARY = 1
    SUPPLEMENTARY = 2
    TERMINATOR = 255


class FileFlag(enum.IntFlag):
    """``FileFlags`` of a directory record (9.1.6)."""

    DIRECTORY = 0x02
    MULTI_EXTENT = 0x80


class VolumeDescriptor(Structure, byteorder="<"):
    """The first fields of every volume descriptor."""

    VolumeDescriptorType: int = field("B")
    StandardIdentifier: bytes = field("5s")
    VolumeDescriptorVersion: int = field("B")


class VolumeDescription(VolumeDescriptor, byteorder="<"):
    """A primary or supplementary volume descriptor (8.4, 8.5)."""

    VolumeFlags: int = field("B")
    SystemIdentifier: bytes = field("32s")
    VolumeIdentifier: bytes = field("32s")
    Unused: bytes = field("8s")
    VolumeSpaceSize: int = field("I")
    VolumeSpaceSizeM: bytes = field("4s")
    EscapeSequences: bytes = field("32s")
    VolumeSetSize: bytes = field("4s")
    VolumeSequenceNumber: bytes = field("4s")
    LogicalBlockSize: int = field("H")
    LogicalBlockSizeM: bytes = field("2s")
    PathTableSize: int = field("I")
    PathTableSizeM: bytes = field("4s")
    LocationOfTypeLPathTable: int = field("I")
    LocationOfOptionalTypeLPathTable: int = field("I")
    LocationOfTypeMPathTable: bytes = field("4s")
    LocationOfOptionalTypeMPathTable: bytes = field("4s")
    DirectoryRecordForRootDirectory: bytes = field("34s")
    VolumeSetIdentifier: bytes = field("128s")
    PublisherIdentifier: bytes = field("128s")
    DataPreparerIdentifier: bytes = field("128s")
    ApplicationIdentifier: bytes = field("128s")
    CopyrightFileIdentifier: bytes = field("37s")
    AbstractFileIdentifier: bytes = field("37s")
    BibliographicFileIdentifier: bytes = field("37s")
    VolumeCreationDateAndTime: bytes = field("17s")
    VolumeModificationDateAndTime: bytes = field("17s")
    VolumeExpirationDateAndTime: bytes = field("17s")
    VolumeEffectiveDateAndTime: bytes = field("17s")
    FileStructureVersion: int = field("B")
    Reserved: bytes = field("1s")
    ApplicationUse: bytes = field("512s")
    ReservedForFutureStandardization: bytes = field("653s")

    @property
    def joliet(self) -> bool:
        """Whether names are in UCS-2, big-endian."""
        return self.VolumeDescriptorType == DescriptorType.SUPPLEMENTARY and self.EscapeSequences.startswith(
            JOLIET_ESCAPES
        )


class BootRecord(VolumeDescriptor, byteorder="<"):
    """The volume descriptor that leads to the boot catalog (El Torito, figure 7)."""

    BootSystemIdentifier: bytes = field("32s")
    Unused: bytes = field("32s")
    BootCatalogPointer: int = field("I")


class DirectoryRecord(Structure, byteorder="<"):
    """A directory record up to its identifier (9.1)."""

    LengthOfDirectoryRecord: int = field("B")
    ExtendedAttributeRecordLength: int = field("B")
    LocationOfExtent: int = field("I")
    LocationOfExtentM: bytes = field("4s")
    DataLength: int = field("I")
    DataLengthM: bytes = field("4s")
    RecordingDateAndTime: bytes = field("7s")
    FileFlags: int = field("B")
    FileUnitSize: int = field("B")
    InterleaveGapSize: int = field("B")
    VolumeSequenceNumber: bytes = field("4s")
    LengthOfFileIdentifier: int = field("B")


class SystemUseEntry(Structure, byteorder="<"):
    """The head of an entry behind a directory record's identifier (SUSP 4.1)."""

    SignatureWord: bytes = field("2s")
    Length: int = field("B")
    Version: int = field("B")


class ContinuationArea(SystemUseEntry, byteorder="<"):
    """Where more entries lie (SUSP 5.1)."""

    Block: int = field("I")
    BlockM: bytes = field("4s")
    Offset: int = field("I")
    OffsetM: bytes = field("4s")
    AreaLength: int = field("I")
    AreaLengthM: bytes = field("4s")


class AlternateName(SystemUseEntry, byteorder="<"):
    """The head of a Rock Ridge name, or of a part of one (RRIP 4.1.4)."""

    Flags: int = field("B")


class ValidationEntry(Structure, byteorder="<"):
    """The first entry of a boot catalog (El Torito, figure 2)."""

    HeaderID: int = field("B")
    PlatformID: int = field("B")
    Reserved: int = field("H")
    IDString: bytes = field("24s")
    Checksum: int = field("H")
    KeyBytes: int = field("H")


class SectionHeader(Structure, byteorder="<"):
    """What comes before the entries of another platform (El Torito, figure 4)."""

    HeaderIndicator: int = field("B")
    PlatformID: int = field("B")
    NumberOfSectionEntries: int = field("H")
    IDString: bytes = field("28s")


class BootEntry(Structure, byteorder="<"):
    """The initial entry or one of a section (El Torito, figures 3 and 5)."""

    BootIndicator: int = field("B")
    BootMediaType: int = field("B")
    LoadSegment: int = field("H")
    SystemType: int = field("B")
    Unused: int = field("B")
    SectorCount: int = field("H")
    LoadRBA: int = field("I")
    SelectionCriteria: bytes = field("20s")


CATALOG_ENTRY = BootEntry.SIZE
BOOTABLE = 0x88  # BootIndicator
SECTION_HEADERS = (0x90, 0x91)  # HeaderIndicator: more follow, the last one
