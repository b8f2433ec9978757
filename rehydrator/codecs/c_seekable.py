"""Structures of the zstd seekable format.

Source: facebook/zstd ``contrib/seekable_format/zstd_seekable_compression_format.md`` (version 0.1.0): independent
zstd frames, then one skippable frame that holds the seek table. ``zstd -d`` reads such a file as it is.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

SKIPPABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
CHECKSUM_FLAG = 0x80
RESERVED_BITS = 0x7C


class SkippableHeader(Structure, byteorder="<"):
    """Head of the seek table's skippable frame."""

    Skippable_Magic_Number: int = field("I")
    Frame_Size: int = field("I")


class SeekTableEntry(Structure, byteorder="<"):
    """One frame: its size in the file and the size of its content, in bytes."""

    Compressed_Size: int = field("I")
    Decompressed_Size: int = field("I")


class SeekTableFooter(Structure, byteorder="<"):
    """The last bytes of the file."""

    Number_Of_Frames: int = field("I")
    Seek_Table_Descriptor: int = field("B")
    Seekable_Magic_Number: int = field("I")
