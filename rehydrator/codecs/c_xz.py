"""Structures of .xz files.

Source: The .xz File Format, version 1.2.0 (https://tukaani.org/xz/xz-file-format.txt). All numbers are little-endian;
sizes are in bytes.
"""

from __future__ import annotations

import enum
import struct
import zlib

import msgspec

from rehydrator.binary import Structure, field
from rehydrator.errors import CorruptError

HEADER_MAGIC = b"\xfd7zXZ\0"
FOOTER_MAGIC = b"YZ"
FILTER_LZMA2 = 0x21
MAX_VLI = (1 << 63) - 1
_MAX_VLI_SIZE = 9
_ALIGNMENT = 4
_CRC32_SIZE = 4
_INDEX_INDICATOR = 0


class Check(enum.IntEnum):
    """Kinds of check after a block's data."""

    NONE = 0x00
    CRC32 = 0x01
    CRC64 = 0x04
    SHA256 = 0x0A

    @property
    def size(self) -> int:
        """Size of a check of this kind."""
        return {Check.NONE: 0, Check.CRC32: 4, Check.CRC64: 8, Check.SHA256: 32}[self]


class BlockFlag(enum.IntFlag):
    """Bits of ``Block Flags``; the lowest two are the number of filters less one."""

    NUMBER_OF_FILTERS = 0x03
    COMPRESSED_SIZE = 0x40
    UNCOMPRESSED_SIZE = 0x80


class StreamHeader(Structure, byteorder="<"):
    """The head of a stream. ``stream_flags`` are a zero byte and the kind of check."""

    header_magic: bytes = field("6s")
    stream_flags: bytes = field("2s")
    crc32: int = field("I")


class StreamFooter(Structure, byteorder="<"):
    """The end of a stream; ``backward_size`` is the size of the index in units of four bytes, less one."""

    crc32: int = field("I")
    backward_size: int = field("I")
    stream_flags: bytes = field("2s")
    footer_magic: bytes = field("2s")


class BlockHeader(msgspec.Struct, frozen=True):
    """The head of a block with the one filter LZMA2. Sizes that the header leaves out are None.

    ``header_size`` includes the CRC-32 at its end; what the fields do not fill is zero.
    """

    header_size: int
    dictionary_size: int
    compressed_size: int | None = None
    uncompressed_size: int | None = None


class IndexRecord(msgspec.Struct, frozen=True):
    """What the index says of a block; ``unpadded_size`` is that of header, data and check."""

    unpadded_size: int
    uncompressed_size: int


def padding(size: int) -> int:
    """Return how many zero bytes follow ``size`` bytes."""
    return -size % _ALIGNMENT


def stream_flags(check: Check) -> bytes:
    """Return ``Stream Flags``."""
    return bytes([0, check])


def stream_header(check: Check) -> bytes:
    """Return the head of a stream."""
    flags = stream_flags(check)
    return StreamHeader(header_magic=HEADER_MAGIC, stream_flags=flags, crc32=zlib.crc32(flags)).pack()


def stream_footer(check: Check, index_size: int) -> bytes:
    """Return the end of a stream with an index of ``index_size`` bytes."""
    footer = StreamFooter(
        crc32=0,
        backward_size=index_size // _ALIGNMENT - 1,
        stream_flags=stream_flags(check),
        footer_magic=FOOTER_MAGIC,
    )
    covered = footer.pack()[StreamFooter.offset_of("backward_size") : StreamFooter.offset_of("footer_magic")]
    return footer.replaced(crc32=zlib.crc32(covered)).pack()


def index_size(footer: StreamFooter) -> int:
    """Return the size of the index that a footer tells."""
    return (footer.backward_size + 1) * _ALIGNMENT


def encode_vli(number: int) -> bytes:
    """Return a number as variable-length integer: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


class Reader:
    """Reads the fields of a header or index one after the other; what ends early raises CorruptError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def byte(self) -> int:
        """Return the next byte."""
        if self.at >= len(self._data):
            raise CorruptError("xz field is cut short", expected="another byte", actual="the end")
        self.at += 1
        return self._data[self.at - 1]

    def vli(self) -> int:
        """Return the next variable-length integer."""
        number = 0
        for place in range(_MAX_VLI_SIZE):
            byte = self.byte()
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if byte == 0 and place:
                    break
                return number
        raise CorruptError(
            "xz number is not encoded as it should be",
            expected=f"at most {_MAX_VLI_SIZE} bytes, the last one not zero",
            actual=f"{number:#x}",
        )

    def zeros(self) -> None:
        """Check that all that is left is zero."""
        if any(self._data[self.at :]):
            raise CorruptError("xz padding is not zero", expected="zeros", actual=self._data[self.at :].hex())


def dictionary_size(bits: int) -> int:
    """Return the size of the dictionary that the properties byte of LZMA2 stands for."""
    if bits > 40:
        raise CorruptError("impossible xz dictionary size", expected="at most 40", actual=bits)
    return 0xFFFFFFFF if bits == 40 else (2 | bits & 1) << (bits // 2 + 11)


def dictionary_bits(size: int) -> int:
    """Return the properties byte of LZMA2 that stands for the smallest possible dictionary of at least ``size``."""
    return next(bits for bits in range(41) if dictionary_size(bits) >= size)


def pack_block_header(header: BlockHeader) -> bytes:
    """Return the bytes of a block's head; raises ValueError if it does not fit its size."""
    flags = 0
    sizes = b""
    for flag, size in (
        (BlockFlag.COMPRESSED_SIZE, header.compressed_size),
        (BlockFlag.UNCOMPRESSED_SIZE, header.uncompressed_size),
    ):
        if size is not None:
            flags |= flag
            sizes += encode_vli(size)
    length = header.header_size - _CRC32_SIZE
    fields = bytes([header.header_size // _ALIGNMENT - 1, flags]) + sizes
    fields += bytes([FILTER_LZMA2, 1, dictionary_bits(header.dictionary_size)])
    if len(fields) > length or header.header_size % _ALIGNMENT:
        raise ValueError("xz block header does not fit")
    fields = fields.ljust(length, b"\0")
    return fields + struct.pack("<I", zlib.crc32(fields))


def block_header_size(size_byte: int) -> int:
    """Return the size of a block's head from its first byte."""
    return (size_byte + 1) * _ALIGNMENT


def parse_block_header(data: bytes) -> BlockHeader | None:
    """Read a block's head, given whole; None for one with other filters than LZMA2 alone."""
    _check_crc32(data, "block header")
    reader = Reader(data[:-_CRC32_SIZE])
    reader.byte()
    flags = BlockFlag(reader.byte())
    if flags & ~(BlockFlag.NUMBER_OF_FILTERS | BlockFlag.COMPRESSED_SIZE | BlockFlag.UNCOMPRESSED_SIZE):
        raise CorruptError("xz block header with reserved flags", expected="none of them", actual=f"{flags:#x}")
    compressed = reader.vli() if flags & BlockFlag.COMPRESSED_SIZE else None
    uncompressed = reader.vli() if flags & BlockFlag.UNCOMPRESSED_SIZE else None
    if flags & BlockFlag.NUMBER_OF_FILTERS or reader.vli() != FILTER_LZMA2:
        return None
    size = reader.vli()
    if size != 1:
        raise CorruptError("xz filter properties of LZMA2 are not one byte", expected=1, actual=size)
    dictionary = dictionary_size(reader.byte())
    reader.zeros()
    return BlockHeader(len(data), dictionary, compressed, uncompressed)


def pack_index(records: list[IndexRecord]) -> bytes:
    """Return the index of these blocks."""
    numbers = [len(records), *(number for item in records for number in (item.unpadded_size, item.uncompressed_size))]
    data = bytes([_INDEX_INDICATOR]) + b"".join(map(encode_vli, numbers))
    data += bytes(padding(len(data)))
    return data + struct.pack("<I", zlib.crc32(data))


def parse_index(data: bytes) -> list[IndexRecord]:
    """Read an index, given whole."""
    _check_crc32(data, "index")
    reader = Reader(data[:-_CRC32_SIZE])
    indicator = reader.byte()
    if indicator != _INDEX_INDICATOR:
        raise CorruptError("not an xz index", expected=_INDEX_INDICATOR, actual=indicator)
    count = reader.vli()
    if count > len(data) // 2:
        raise CorruptError(
            "xz index with more blocks than fit in it", expected=f"at most {len(data) // 2}", actual=count
        )
    records = [IndexRecord(reader.vli(), reader.vli()) for _ in range(count)]
    reader.zeros()
    return records


def _check_crc32(data: bytes, what: str) -> None:
    right, found = struct.pack("<I", zlib.crc32(data[:-_CRC32_SIZE])), data[-_CRC32_SIZE:]
    if len(data) <= _CRC32_SIZE or right != found:
        raise CorruptError(f"CRC32 of the xz {what} is wrong", expected=right.hex(), actual=found.hex())
