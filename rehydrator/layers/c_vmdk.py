"""Structures of VMDK sparse extents, as streamOptimized files have them.

Source: VMware "Virtual Disk Format 1.1", section "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
Extents". All numbers are little-endian; positions and sizes count sectors of 512 bytes unless a name says bytes.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

MAGIC = b"KDMV"
SECTOR = 512
GD_AT_END = 0xFFFFFFFFFFFFFFFF
COMPRESSION_DEFLATE = 1
NUM_GTES_PER_GT = 512  # the only value that the specification allows
ENTRY_SIZE = 4  # of grain directories and grain tables
MAX_GRAIN_SIZE = 128
LINE_ENDS = b"\n \r\n"  # changed by transfers in text mode
GTE_ZEROED = 1


class Flag(enum.IntFlag):
    """Bits of ``flags``."""

    VALID_NEW_LINE_DETECTION = 1 << 0
    REDUNDANT_GRAIN_TABLE = 1 << 1
    ZEROED_GRAIN = 1 << 2
    COMPRESSED = 1 << 16
    MARKERS = 1 << 17


class SparseExtentHeader(Structure, byteorder="<"):
    """The header in the first sector."""

    magicNumber: bytes = field("4s")  # noqa: N815 - the specification's names
    version: int = field("I")
    flags: int = field("I")
    capacity: int = field("Q")
    grainSize: int = field("Q")  # noqa: N815
    descriptorOffset: int = field("Q")  # noqa: N815
    descriptorSize: int = field("Q")  # noqa: N815
    numGTEsPerGT: int = field("I")  # noqa: N815
    rgdOffset: int = field("Q")  # noqa: N815
    gdOffset: int = field("Q")  # noqa: N815
    overHead: int = field("Q")  # noqa: N815
    uncleanShutdown: int = field("B")  # noqa: N815
    lineEnds: bytes = field("4s")  # noqa: N815 - singleEndLineChar, nonEndLineChar, doubleEndLineChar1 and 2
    compressAlgorithm: int = field("H")  # noqa: N815
    pad: bytes = field("433s")


class MarkerType(enum.IntEnum):
    """What a marker stands before; one with a size stands before a grain."""

    END_OF_STREAM = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3


class MetadataMarker(Structure, byteorder="<"):
    """The sector before ``val`` sectors of a grain table, the grain directory or the footer; or the file's last one."""

    val: int = field("Q")
    size: int = field("I")  # 0, which tells it from a grain's
    type: int = field("I")
    pad: bytes = field("496s")


class GrainMarker(Structure, byteorder="<"):
    """What comes before a grain's compressed data."""

    lba: int = field("Q")
    size: int = field("I")  # bytes
