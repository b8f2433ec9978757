"""The partition map and the HFS Plus volume that ``grub-mkrescue`` lays over an image for other firmware.

Sources: "Inside Macintosh: Devices", chapter 3 (``Block0``, ``Partition``), and Apple's Technical Note TN1150, "Volume
Header" and "Fork Data Structure". Numbers are big-endian.
"""

# ruff: noqa: N815 - the specifications' names

from __future__ import annotations

from rehydrator.binary import Structure, field

SIGNATURES = (b"H+", b"HX")
HEADER_AT = 1024  # bytes from the start of the volume; a copy lies as far from its end
EXTENTS = 8  # of a fork in the volume header
MIN_BLOCK, MAX_BLOCK = 512, 1 << 20


DRIVER_SIGNATURE, PARTITION_SIGNATURE = b"ER", b"PM"
MAX_PARTITIONS = 15  # entries that find room in front of the volume descriptors, in blocks of 2048 bytes
HFS_TYPE = b"Apple_HFS"


class Block0(Structure, byteorder=">"):
    """``Block0``, the driver descriptor record, as far as it tells where the map is."""

    sbSig: bytes = field("2s")
    sbBlkSize: int = field("H")
    sbBlkCount: int = field("I")


class Partition(Structure, byteorder=">"):
    """``Partition``, an entry of the map, as far as it tells what lies where."""

    pmSig: bytes = field("2s")
    pmSigPad: int = field("H")
    pmMapBlkCnt: int = field("I")
    pmPyPartStart: int = field("I")
    pmPartBlkCnt: int = field("I")
    pmPartName: bytes = field("32s")
    pmParType: bytes = field("32s")
    pmLgDataStart: int = field("I")
    pmDataCnt: int = field("I")
    pmPartStatus: int = field("I")


class ExtentDescriptor(Structure, byteorder=">"):
    """``HFSPlusExtentDescriptor``, in allocation blocks."""

    startBlock: int = field("I")
    blockCount: int = field("I")


class ForkData(Structure, byteorder=">"):
    """``HFSPlusForkData``."""

    logicalSize: int = field("Q")
    clumpSize: int = field("I")
    totalBlocks: int = field("I")
    extents: bytes = field(f"{EXTENTS * ExtentDescriptor.SIZE}s")


class VolumeHeader(Structure, byteorder=">"):
    """``HFSPlusVolumeHeader``."""

    signature: bytes = field("2s")
    version: int = field("H")
    attributes: int = field("I")
    lastMountedVersion: bytes = field("4s")
    journalInfoBlock: int = field("I")
    createDate: int = field("I")
    modifyDate: int = field("I")
    backupDate: int = field("I")
    checkedDate: int = field("I")
    fileCount: int = field("I")
    folderCount: int = field("I")
    blockSize: int = field("I")
    totalBlocks: int = field("I")
    freeBlocks: int = field("I")
    nextAllocation: int = field("I")
    rsrcClumpSize: int = field("I")
    dataClumpSize: int = field("I")
    nextCatalogID: int = field("I")
    writeCount: int = field("I")
    encodingsBitmap: int = field("Q")
    finderInfo: bytes = field("32s")
    allocationFile: bytes = field(f"{ForkData.SIZE}s")
    extentsFile: bytes = field(f"{ForkData.SIZE}s")
    catalogFile: bytes = field(f"{ForkData.SIZE}s")
    attributesFile: bytes = field(f"{ForkData.SIZE}s")
    startupFile: bytes = field(f"{ForkData.SIZE}s")
