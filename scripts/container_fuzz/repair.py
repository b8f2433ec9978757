"""Making the checksums of damaged containers right again, so that what lies behind them is reached."""

from __future__ import annotations

import zlib
from pathlib import Path

from rehydrator.codecs import c_xz
from rehydrator.codecs.c_xz import StreamFooter, StreamHeader
from rehydrator.disk.c_gpt import GptHeader
from rehydrator.disk.source import BytesSource
from rehydrator.errors import RehydratorError
from rehydrator.layers import c_vhdx
from rehydrator.layers.c_gzip import Trailer
from rehydrator.layers.c_tar import BLOCKSIZE, TMAGIC, PosixHeader
from rehydrator.layers.c_vhd import COOKIE, DYNAMIC_COOKIE, DynamicHeader, Footer
from rehydrator.layers.c_vmdk import (
    ENTRY_SIZE,
    GD_AT_END,
    MAX_GRAIN_SIZE,
    NUM_GTES_PER_GT,
    GrainMarker,
    SparseExtentHeader,
)
from rehydrator.layers.c_zip import CentralDirectoryHeader, EndRecord, LocalFileHeader
from rehydrator.layers.gzip_read import read_header
from rehydrator.layers.tar_header import checksum as tar_checksum
from rehydrator.layers.vhd_footer import sealed as vhd_sealed
from rehydrator.layers.vhdx_record import LOG_ENTRY_SIZE
from rehydrator.layers.vhdx_tables import sealed
from rehydrator.layers.zip_read import read_member

from . import rebuilt

_SECTOR = 512
_MAX_CONTENT = 1 << 20
_PATH = Path("repaired")


def vmdk(data: bytes) -> bytes:
    """Make the damaged grains of a streamOptimized VMDK whole where they have the room, and its copies equal.

    These are the first of the redundant tables, or the footer of a file with its directory at the end.
    """
    if len(data) < 4 * _SECTOR:
        return data
    header = SparseExtentHeader.parse(data)
    made = bytearray(data)
    directory = header.gdOffset
    if directory == GD_AT_END:
        footer_at = (len(data) // _SECTOR - 2) * _SECTOR
        directory = SparseExtentHeader.parse(data, footer_at).gdOffset
        made[footer_at : footer_at + header.SIZE] = header.replaced(gdOffset=directory).pack()
    table, copy = _number(made, directory * _SECTOR) * _SECTOR, _number(made, header.rgdOffset * _SECTOR) * _SECTOR
    if 0 < table < len(data) and 1 < header.grainSize <= MAX_GRAIN_SIZE:
        size = min(NUM_GTES_PER_GT * ENTRY_SIZE, len(data) - table)
        for at in range(table, table + size, ENTRY_SIZE):
            start = _number(made, at) * _SECTOR
            if start and start + GrainMarker.SIZE <= len(data):
                _repair_grain(made, start, header)
        if 0 < copy < len(data) - size and header.gdOffset != GD_AT_END:
            made[copy : copy + size] = made[table : table + size]
    return bytes(made)


def _number(data: bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + ENTRY_SIZE], "little") if at < len(data) else 0


def _repair_grain(made: bytearray, start: int, header: SparseExtentHeader) -> None:
    """Make the stream of one grain whole; a marker with an impossible size stays."""
    marker = GrainMarker.parse(made, start)
    at = start + GrainMarker.SIZE
    packed = bytes(made[at : at + min(marker.size, 2 * header.grainSize * _SECTOR)])
    room = -(start + GrainMarker.SIZE + len(packed)) % _SECTOR + len(packed)
    size = min(header.grainSize, max(header.capacity - marker.lba, 0)) * _SECTOR
    again = None if _is_whole(packed) else rebuilt.grain(packed, room, size)
    if again is not None:
        made[start : at + room] = marker.replaced(size=len(again)).pack() + again.ljust(room, b"\0")


def _is_whole(packed: bytes) -> bool:
    try:
        zlib.decompress(packed)
    except zlib.error:
        return False
    return True


def vhd(data: bytes) -> bytes:
    """Repair the footers of a VHD, and the header of a dynamic one where qemu-img puts it."""
    made = bytearray(data)
    for kind, cookie, at in (
        (Footer, COOKIE, 0),
        (DynamicHeader, DYNAMIC_COOKIE, Footer.SIZE),
        (Footer, COOKIE, max(len(data) - Footer.SIZE, 0)),
    ):
        held = bytes(made[at : at + kind.SIZE])
        if len(held) == kind.SIZE and held.startswith(cookie):
            made[at : at + kind.SIZE] = vhd_sealed(kind, held)
    return bytes(made)


def vhdx(data: bytes) -> bytes:
    """Repair headers, region tables and the first log entries of a VHDX; make the region tables equal."""
    made = bytearray(data)
    first, second = c_vhdx.REGION_TABLE_OFFSETS
    made[second : second + c_vhdx.REGION_TABLE_SIZE] = made[first : first + c_vhdx.REGION_TABLE_SIZE]
    log = range(c_vhdx.HEADER_SECTION, c_vhdx.HEADER_SECTION + 4 * LOG_ENTRY_SIZE, LOG_ENTRY_SIZE)
    structures = [
        *((at, c_vhdx.HEADER_SIZE) for at in c_vhdx.HEADER_OFFSETS),
        *((at, c_vhdx.REGION_TABLE_SIZE) for at in c_vhdx.REGION_TABLE_OFFSETS),
        *((at, LOG_ENTRY_SIZE) for at in log if made[at : at + 4] == c_vhdx.LOG_ENTRY_SIGNATURE),
    ]
    for at, length in structures:
        if at + length <= len(made):
            made[at : at + length] = sealed(bytes(made[at : at + length]))
    return bytes(made)


def tar(data: bytes) -> bytes:
    """Repair the checksum of every block that looks like a header."""
    made = bytearray(data)
    magic, chksum = PosixHeader.offset_of("magic"), PosixHeader.offset_of("chksum")
    at = data.find(TMAGIC[:5])
    while at >= 0:
        start = at - magic
        if start >= 0 and start % BLOCKSIZE == 0 and start + BLOCKSIZE <= len(made):
            block = bytes(made[start : start + BLOCKSIZE])
            made[start + chksum : start + chksum + 8] = b"%06o\0 " % tar_checksum(block)
        at = data.find(TMAGIC[:5], at + 1)
    return bytes(made)


def gpt(data: bytes) -> bytes:
    """Repair the checksums of the primary header and its entries."""
    if len(data) < 2 * _SECTOR:
        return data
    header = GptHeader.parse(data, _SECTOR)
    start = header.PartitionEntryLBA * _SECTOR
    entries = data[start : start + min(header.SizeOfPartitionEntry * header.NumberOfPartitionEntries, len(data))]
    blank = header.replaced(PartitionEntryArrayCRC32=zlib.crc32(entries), HeaderCRC32=0).pack()
    covered = (blank + data[_SECTOR + len(blank) : 2 * _SECTOR])[: header.HeaderSize]
    made = GptHeader.parse(blank).replaced(HeaderCRC32=zlib.crc32(covered)).pack()
    return data[:_SECTOR] + made + data[_SECTOR + len(made) :]


def _inflated(data: bytes) -> tuple[bytes, int] | None:
    """Return what a raw deflate stream holds and the stream's length; None for one that does not end."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = decoder.decompress(data, _MAX_CONTENT)
    except zlib.error:
        return None
    return (content, len(data) - len(decoder.unused_data)) if decoder.eof else None


def gzip(data: bytes) -> bytes:
    """Repair the trailer of a gzip file, and end the file with it."""
    try:
        start = read_header(BytesSource(data), _PATH).length
    except RehydratorError:
        return data
    found = _inflated(data[start:])
    if found is None:
        return data
    content, length = found
    return data[: start + length] + Trailer(CRC32=zlib.crc32(content), ISIZE=len(content)).pack()


def zipped(data: bytes) -> bytes:
    """Repair the CRC-32 of a zip file's member in both of its headers."""
    try:
        member = read_member(BytesSource(data), _PATH)
    except RehydratorError:
        return data
    held = data[member.data_at : member.data_at + member.data_size]
    found = _inflated(held) if member.central.compression_method else (held, len(held))
    if found is None:
        return data
    central_at = EndRecord.parse(data, len(data) - EndRecord.SIZE).central_directory_offset
    local = member.local.replaced(crc_32=zlib.crc32(found[0])).pack()
    central = member.central.replaced(crc_32=zlib.crc32(found[0])).pack()
    return local + data[LocalFileHeader.SIZE : central_at] + central + data[central_at + CentralDirectoryHeader.SIZE :]


def xz(data: bytes) -> bytes:
    """Repair the CRC-32 of header, first block header, index and footer of a .xz file."""
    made = bytearray(data)
    if len(data) < StreamHeader.SIZE + StreamFooter.SIZE + 1:
        return data
    footer = len(data) - StreamFooter.SIZE
    index = c_xz.index_size(StreamFooter.parse(data, footer))
    covered = [
        (StreamHeader.offset_of("stream_flags"), StreamHeader.offset_of("crc32")),
        (StreamHeader.SIZE, StreamHeader.SIZE + (data[StreamHeader.SIZE] + 1) * 4 - 4),
        (footer - index, footer - 4),
    ]
    for start, end in covered:
        if 0 < start < end <= footer - 4:
            made[end : end + 4] = zlib.crc32(made[start:end]).to_bytes(4, "little")
    sealed_part = made[
        footer + StreamFooter.offset_of("backward_size") : footer + StreamFooter.offset_of("footer_magic")
    ]
    made[footer : footer + 4] = zlib.crc32(sealed_part).to_bytes(4, "little")
    return bytes(made)
