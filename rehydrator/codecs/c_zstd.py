"""The frame of a zstd stream: RFC 8878, sections 3.1.1.1 (header) and 3.1.1.2 (blocks). Numbers are little-endian."""

from __future__ import annotations

import enum

MAGIC = b"\x28\xb5\x2f\xfd"
BLOCK_HEADER = 3  # bytes: Last_Block in bit 0, Block_Type in bits 1 and 2, then Block_Size
CHECKSUM = 4  # bytes of Content_Checksum
WINDOW_DESCRIPTOR = 1  # byte, where Single_Segment_Flag is not set
DICTIONARY_ID = (0, 1, 2, 4)  # bytes by Dictionary_ID_Flag
CONTENT_SIZE = (0, 2, 4, 8)  # bytes by Frame_Content_Size_Flag; 1 in place of 0 where Single_Segment_Flag is set


class Descriptor(enum.IntFlag):
    """``Frame_Header_Descriptor``; the lowest two bits are Dictionary_ID_Flag, the highest Frame_Content_Size_Flag."""

    CONTENT_CHECKSUM = 0x04
    RESERVED = 0x08
    SINGLE_SEGMENT = 0x20


class BlockType(enum.IntEnum):
    """``Block_Type``. The content of an RLE block is one byte, whatever its size."""

    RAW = 0
    RLE = 1
    COMPRESSED = 2
    RESERVED = 3
