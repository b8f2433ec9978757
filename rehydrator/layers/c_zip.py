"""Structures of zip files.

Source: PKWARE APPNOTE.TXT 6.3, section 4; the extra fields of Info-ZIP from its ``proginfo/extrafld.txt``. All numbers
are little-endian. Sizes that do not fit are all ones and lie in the extra field :data:`EXTRA_ZIP64`.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

MAGIC = b"PK\x03\x04"
CENTRAL_MAGIC = b"PK\x01\x02"
DESCRIPTOR_MAGIC = b"PK\x07\x08"
END_MAGIC = b"PK\x05\x06"
END64_MAGIC = b"PK\x06\x06"
LOCATOR64_MAGIC = b"PK\x06\x07"
STORED = 0
DEFLATED = 8
ALL_ONES = 0xFFFFFFFF
EXTRA_ZIP64 = 0x0001
EXTRA_TIMES = 0x5455  # "UT"
EXTRA_OWNER = 0x7875  # "ux"


class Flag(enum.IntFlag):
    """Bits of ``general_purpose_bit_flag``."""

    ENCRYPTED = 1 << 0
    MAXIMUM = 1 << 1  # compressed with most effort
    FAST = 1 << 2
    DESCRIPTOR = 1 << 3  # CRC and sizes follow the data
    UTF8 = 1 << 11


class LocalFileHeader(Structure, byteorder="<"):
    """In front of a member's data; the name and the extra fields follow."""

    signature: bytes = field("4s")
    version_needed: int = field("H")
    general_purpose_bit_flag: int = field("H")
    compression_method: int = field("H")
    last_mod_file_time: int = field("H")
    last_mod_file_date: int = field("H")
    crc_32: int = field("I")
    compressed_size: int = field("I")
    uncompressed_size: int = field("I")
    file_name_length: int = field("H")
    extra_field_length: int = field("H")


class DataDescriptor(Structure, byteorder="<"):
    """Behind the data of a member whose header was written before its sizes were known."""

    signature: bytes = field("4s")
    crc_32: int = field("I")
    compressed_size: int = field("I")
    uncompressed_size: int = field("I")


class DataDescriptor64(Structure, byteorder="<"):
    """The same with large sizes."""

    signature: bytes = field("4s")
    crc_32: int = field("I")
    compressed_size: int = field("Q")
    uncompressed_size: int = field("Q")


class CentralDirectoryHeader(Structure, byteorder="<"):
    """A member in the directory; name, extra fields and comment follow."""

    signature: bytes = field("4s")
    version_made_by: int = field("H")
    version_needed: int = field("H")
    general_purpose_bit_flag: int = field("H")
    compression_method: int = field("H")
    last_mod_file_time: int = field("H")
    last_mod_file_date: int = field("H")
    crc_32: int = field("I")
    compressed_size: int = field("I")
    uncompressed_size: int = field("I")
    file_name_length: int = field("H")
    extra_field_length: int = field("H")
    file_comment_length: int = field("H")
    disk_number_start: int = field("H")
    internal_file_attributes: int = field("H")
    external_file_attributes: int = field("I")
    relative_offset_of_local_header: int = field("I")


class EndRecord(Structure, byteorder="<"):
    """The end of central directory record, last in the file but for a comment."""

    signature: bytes = field("4s")
    number_of_this_disk: int = field("H")
    disk_with_central_directory: int = field("H")
    entries_on_this_disk: int = field("H")
    entries: int = field("H")
    central_directory_size: int = field("I")
    central_directory_offset: int = field("I")
    comment_length: int = field("H")


class EndRecord64(Structure, byteorder="<"):
    """The zip64 end of central directory record; ``size_of_record`` counts what follows that field."""

    signature: bytes = field("4s")
    size_of_record: int = field("Q")
    version_made_by: int = field("H")
    version_needed: int = field("H")
    number_of_this_disk: int = field("I")
    disk_with_central_directory: int = field("I")
    entries_on_this_disk: int = field("Q")
    entries: int = field("Q")
    central_directory_size: int = field("Q")
    central_directory_offset: int = field("Q")


class EndLocator64(Structure, byteorder="<"):
    """Between the two end records: where that of zip64 begins."""

    signature: bytes = field("4s")
    disk_with_end_record: int = field("I")
    end_record_offset: int = field("Q")
    number_of_disks: int = field("I")


class ExtraHeader(Structure, byteorder="<"):
    """In front of the data of an extra field."""

    header_id: int = field("H")
    data_size: int = field("H")


class TimesHead(Structure, byteorder="<"):
    """Data of ``EXTRA_TIMES``; a signed 32-bit number of seconds since 1970 follows for each time that is there."""

    flags: int = field("B")


class Time(Structure, byteorder="<"):
    """One of those times."""

    seconds: int = field("i")


class Owner(Structure, byteorder="<"):
    """Data of ``EXTRA_OWNER`` as Info-ZIP writes it on Unix."""

    version: int = field("B")
    uid_size: int = field("B")
    uid: int = field("I")
    gid_size: int = field("B")
    gid: int = field("I")


class LargeSize(Structure, byteorder="<"):
    """One of the sizes in ``EXTRA_ZIP64``."""

    size: int = field("Q")
