"""Structures of the qcow2 image format.

Source: QEMU ``docs/interop/qcow2.txt``. All numbers are big-endian.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from rehydrator.binary import Structure, field

MAGIC = b"QFI\xfb"
SECTOR = 512

# flags of L1 and L2 entries
OFLAG_COPIED = 1 << 63
OFLAG_COMPRESSED = 1 << 62
OFLAG_ZERO = 1 << 0
OFFSET_MASK = 0x00FFFFFFFFFFFE00
ENTRY_SIZE = 8

MIN_CLUSTER_BITS = 9
MAX_CLUSTER_BITS = 21
MAX_L1_BYTES = 32 << 20  # QCOW_MAX_L1_SIZE
MAX_REFTABLE_BYTES = 8 << 20  # QCOW_MAX_REFTABLE_SIZE
DEFAULT_REFCOUNT_ORDER = 4  # 16-bit reference counts
REFCOUNT_SIZE = 2


# compressed clusters: raw deflate with a window of 4 KiB, in at most one byte less than a cluster (qcow2_zlib_compress)
ZLIB_WBITS = -12
ZLIB_MEM_LEVEL = 9
MAX_REFCOUNT = (1 << 8 * REFCOUNT_SIZE) - 1


class CompressionType(enum.IntEnum):
    """Values of ``compression_type``."""

    ZLIB = 0
    ZSTD = 1


class CompressedDescriptor(NamedTuple):
    """The L2 entry of a compressed cluster: byte ``offset`` of its data and the ``end`` of its last sector."""

    offset: int
    end: int

    @classmethod
    def parse(cls, entry: int, cluster_bits: int) -> CompressedDescriptor:
        """Take an L2 entry apart."""
        bits = _offset_bits(cluster_bits)
        offset = entry & ((1 << bits) - 1)
        sectors = (entry & (OFLAG_COMPRESSED - 1)) >> bits
        return cls(offset, (offset // SECTOR + sectors + 1) * SECTOR)

    @staticmethod
    def pack(offset: int, size: int, cluster_bits: int) -> int:
        """Return the L2 entry of ``size`` compressed bytes at ``offset``."""
        sectors = (offset + size - 1) // SECTOR - offset // SECTOR
        return OFLAG_COMPRESSED | sectors << _offset_bits(cluster_bits) | offset


def _offset_bits(cluster_bits: int) -> int:
    return 62 - (cluster_bits - 8)


class Incompatible(enum.IntFlag):
    """Bits of ``incompatible_features``."""

    DIRTY = 1 << 0
    CORRUPT = 1 << 1
    EXTERNAL_DATA_FILE = 1 << 2
    COMPRESSION_TYPE = 1 << 3
    EXTENDED_L2 = 1 << 4


class ExtensionType(enum.IntEnum):
    """Types of header extensions that have a name here."""

    END = 0
    FEATURE_NAME_TABLE = 0x6803F857


class Header(Structure, byteorder=">"):
    """The header of version 2, with which version 3 begins as well."""

    magic: bytes = field("4s")
    version: int = field("I")
    backing_file_offset: int = field("Q")
    backing_file_size: int = field("I")
    cluster_bits: int = field("I")
    size: int = field("Q")
    crypt_method: int = field("I")
    l1_size: int = field("I")
    l1_table_offset: int = field("Q")
    refcount_table_offset: int = field("Q")
    refcount_table_clusters: int = field("I")
    nb_snapshots: int = field("I")
    snapshots_offset: int = field("Q")


class HeaderV3(Structure, byteorder=">"):
    """What version 3 adds behind :class:`Header`."""

    incompatible_features: int = field("Q")
    compatible_features: int = field("Q")
    autoclear_features: int = field("Q")
    refcount_order: int = field("I")
    header_length: int = field("I")


class ExtensionHeader(Structure, byteorder=">"):
    """Head of one header extension; its data is padded to 8 bytes."""

    type: int = field("I")
    length: int = field("I")


class FeatureNameEntry(Structure, byteorder=">"):
    """One entry of the feature name table."""

    feature_type: int = field("B")
    bit: int = field("B")
    name: bytes = field("46s")
