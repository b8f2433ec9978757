"""Structures of VHD.

Source: Microsoft "Virtual Hard Disk Image Format Specification" (2006), sections "Hard Disk Footer Format" and "Dynamic
Disk Header Format". All numbers are big-endian.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

COOKIE = b"conectix"
FILE_FORMAT_VERSION = 0x00010000
EPOCH = 946_684_800  # 2000-01-01 UTC in seconds since 1970
DATA_OFFSET_FIXED = 0xFFFFFFFFFFFFFFFF

DYNAMIC_COOKIE = b"cxsparse"
DYNAMIC_DATA_OFFSET = 0xFFFFFFFFFFFFFFFF
DYNAMIC_HEADER_VERSION = 0x00010000
SECTOR = 512
BAT_ENTRY_SIZE = 4  # a sector number each
BAT_ABSENT = 0xFFFFFFFF


class DiskType(enum.IntEnum):
    """Values of ``disk_type``."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


class Footer(Structure, byteorder=">"):
    """The last 512 bytes of a file."""

    cookie: bytes = field("8s")
    features: int = field("I")
    file_format_version: int = field("I")
    data_offset: int = field("Q")
    time_stamp: int = field("I")  # seconds since EPOCH
    creator_application: bytes = field("4s")
    creator_version_major: int = field("H")
    creator_version_minor: int = field("H")
    creator_host_os: bytes = field("4s")
    original_size: int = field("Q")
    current_size: int = field("Q")
    cylinders: int = field("H")
    heads: int = field("B")
    sectors_per_track: int = field("B")
    disk_type: int = field("I")
    checksum: int = field("I")
    unique_id: bytes = field("16s")
    saved_state: int = field("B")
    reserved: bytes = field("427s")


class DynamicHeader(Structure, byteorder=">"):
    """What a dynamic disk has at the footer's ``data_offset``; the parent fields are those of differencing disks."""

    cookie: bytes = field("8s")
    data_offset: int = field("Q")
    table_offset: int = field("Q")
    header_version: int = field("I")
    max_table_entries: int = field("I")
    block_size: int = field("I")
    checksum: int = field("I")
    parent_unique_id: bytes = field("16s")
    parent_time_stamp: int = field("I")
    reserved: bytes = field("4s")
    parent_unicode_name: bytes = field("512s")
    parent_locator_entries: bytes = field("192s")
    reserved_2: bytes = field("256s")
