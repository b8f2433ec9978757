"""Whole .xz files as liblzma's ``lzma_stream_buffer_encode`` writes them: one block whose header holds both sizes.

The block's header is as long as it has to be for the largest size that the data might get, which is fixed before
anything is encoded; what is left of it is zero.
"""

from __future__ import annotations

import lzma
import struct
import zlib

import msgspec

from rehydrator.codecs.c_xz import (
    BlockFlag,
    Check,
    IndexRecord,
    dictionary_bits,
    encode_vli,
    pack_index,
    padding,
    stream_footer,
    stream_header,
)
from rehydrator.disk.extents import Data

# Filters for code of a processor, by the name that mksquashfs has for them
BCJ = {
    "x86": lzma.FILTER_X86,
    "powerpc": lzma.FILTER_POWERPC,
    "ia64": lzma.FILTER_IA64,
    "arm": lzma.FILTER_ARM,
    "armthumb": lzma.FILTER_ARMTHUMB,
    "sparc": lzma.FILTER_SPARC,
}
# How mksquashfs sets LZMA2 behind these filters since 4.7: by how long the processor's instructions are
_ALIGNED = {
    "armthumb": {"lp": 1},
    "powerpc": {"lp": 2, "lc": 2},
    "arm": {"lp": 2, "lc": 2},
    "sparc": {"lp": 2, "lc": 2},
    "ia64": {"pb": 4, "lp": 4, "lc": 0},
}
_LZMA2_CHUNK = 1 << 16  # incompressible data is kept in chunks of this size, each with three bytes more
_CHUNK_HEADER = 3
_CRC32 = struct.Struct("<I")
_ALIGNMENT = 4


class Filters(msgspec.Struct, frozen=True):
    """LZMA2 of a preset with a dictionary of its own size, behind a filter for code, which is None for none.

    With ``aligned`` LZMA2's numbers of bits lc, lp and pb are those for the filter, and not the preset's.
    """

    preset: int
    dictionary_size: int
    bcj: str | None = None
    aligned: bool = False


def encode(data: Data, filters: Filters) -> bytes:
    """Return ``data`` as a .xz file with CRC-32 as its check."""
    chain: list[dict[str, int]] = [
        {"id": lzma.FILTER_LZMA2, "preset": filters.preset, "dict_size": filters.dictionary_size}
    ]
    if filters.bcj is not None:
        chain[0] |= _ALIGNED.get(filters.bcj, {}) if filters.aligned else {}
        chain.insert(0, {"id": BCJ[filters.bcj]})
    packed = lzma.compress(data, lzma.FORMAT_RAW, filters=chain)
    header = _block_header(filters, len(packed), len(data))
    crc32 = _CRC32.pack(zlib.crc32(data))
    block = header + packed + bytes(padding(len(packed))) + crc32
    index = pack_index([IndexRecord(len(header) + len(packed) + len(crc32), len(data))])
    return stream_header(Check.CRC32) + block + index + stream_footer(Check.CRC32, len(index))


def _block_header(filters: Filters, packed: int, size: int) -> bytes:
    bcj = b"" if filters.bcj is None else bytes([BCJ[filters.bcj], 0])
    chain = bcj + bytes([lzma.FILTER_LZMA2, 1, dictionary_bits(filters.dictionary_size)])
    bound = size + -(-size // _LZMA2_CHUNK) * _CHUNK_HEADER + 1
    longest = 2 + len(encode_vli(bound)) + len(encode_vli(size)) + len(chain) + _CRC32.size
    length = longest + -longest % _ALIGNMENT
    flags = BlockFlag.COMPRESSED_SIZE | BlockFlag.UNCOMPRESSED_SIZE | (1 if bcj else 0)
    fields = bytes([length // _ALIGNMENT - 1, flags]) + encode_vli(packed) + encode_vli(size) + chain
    fields = fields.ljust(length - _CRC32.size, b"\0")
    return fields + _CRC32.pack(zlib.crc32(fields))
