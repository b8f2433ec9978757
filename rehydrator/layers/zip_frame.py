"""What lies around the compressed bytes of a zip file of one member: headers, directory and end records."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import msgspec

from rehydrator.layers.c_zip import (
    ALL_ONES,
    CENTRAL_MAGIC,
    DEFLATED,
    DESCRIPTOR_MAGIC,
    MAGIC,
    STORED,
    CentralDirectoryHeader,
    DataDescriptor,
    DataDescriptor64,
    Flag,
    LocalFileHeader,
)
from rehydrator.layers.zip_end import end_record, pack_end64
from rehydrator.layers.zip_extra import pack_extra
from rehydrator.layers.zip_record import ZipExtra, ZipLarge, ZipRecord

FIRST_YEAR = 1980


class ZipFrame(msgspec.Struct, frozen=True):
    """The bytes before and behind the compressed ones."""

    head: bytes
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes of both; they are as many whatever the sizes that they tell."""
        return len(self.head) + len(self.tail)


def zip_frame(record: ZipRecord, content_size: int, data_size: int) -> ZipFrame:
    """Return what lies around ``data_size`` bytes to which ``content_size`` bytes are compressed.

    Raises ValueError or struct.error for what a zip file can't tell.
    """
    head = _local(record, content_size, data_size)
    tail = _descriptor(record, content_size, data_size)
    return ZipFrame(head, tail + _directory(record, content_size, data_size, len(head) + data_size + len(tail)))


def _streamed(record: ZipRecord) -> bool:
    return bool(record.flags & Flag.DESCRIPTOR)


def _method(record: ZipRecord) -> int:
    return STORED if record.deflate is None else DEFLATED


def _local(record: ZipRecord, content_size: int, data_size: int) -> bytes:
    large = _large(record.extra)
    # Info-ZIP knows the size of a file that it reads, and not that of what it will write, unless both are the same.
    sizes = [0, 0] if _streamed(record) and large else [content_size, data_size]
    if _streamed(record) and _method(record) == DEFLATED:
        sizes[1] = 0
    date, time = _date_and_time(record.modified)
    extra = pack_extra(record.extra, sizes)
    name = record.name.encode("latin-1")
    header = LocalFileHeader(
        signature=MAGIC,
        version_needed=record.version_needed,
        general_purpose_bit_flag=record.flags,
        compression_method=_method(record),
        last_mod_file_time=time,
        last_mod_file_date=date,
        crc_32=0 if _streamed(record) else record.crc32,
        compressed_size=ALL_ONES if large > 1 else sizes[1],
        uncompressed_size=ALL_ONES if large else sizes[0],
        file_name_length=len(name),
        extra_field_length=len(extra),
    )
    return header.pack() + name + extra


def _descriptor(record: ZipRecord, content_size: int, data_size: int) -> bytes:
    if not _streamed(record):
        return b""
    form = DataDescriptor64 if _large(record.extra) else DataDescriptor
    return form(
        signature=DESCRIPTOR_MAGIC,
        crc_32=record.crc32,
        compressed_size=data_size,
        uncompressed_size=content_size,
    ).pack()


def _directory(record: ZipRecord, content_size: int, data_size: int, at: int) -> bytes:
    """Return the central directory, which lies at byte ``at``, and the end records."""
    large = _large(record.central_extra)
    date, time = _date_and_time(record.modified)
    extra = pack_extra(record.central_extra, [content_size, data_size])
    name = record.name.encode("latin-1")
    header = CentralDirectoryHeader(
        signature=CENTRAL_MAGIC,
        version_made_by=record.version_made_by,
        version_needed=record.version_needed,
        general_purpose_bit_flag=record.flags,
        compression_method=_method(record),
        last_mod_file_time=time,
        last_mod_file_date=date,
        crc_32=record.crc32,
        compressed_size=ALL_ONES if large > 1 else data_size,
        uncompressed_size=ALL_ONES if large else content_size,
        file_name_length=len(name),
        extra_field_length=len(extra),
        file_comment_length=0,
        disk_number_start=0,
        internal_file_attributes=record.internal_attributes,
        external_file_attributes=record.external_attributes,
        relative_offset_of_local_header=0,
    )
    directory = header.pack() + name + extra
    end64 = b"" if record.end64 is None else pack_end64(record.end64, at, len(directory))
    return directory + end64 + end_record(at, len(directory), record.end64).pack()


def _large(extra: Sequence[ZipExtra]) -> int:
    """Return how many sizes lie in a field of zip64."""
    return next((item.sizes for item in extra if isinstance(item, ZipLarge)), 0)


def _date_and_time(modified: str) -> tuple[int, int]:
    moment = datetime.datetime.fromisoformat(modified)
    date = moment.year - FIRST_YEAR << 9 | moment.month << 5 | moment.day
    return date, moment.hour << 11 | moment.minute << 5 | moment.second // 2
