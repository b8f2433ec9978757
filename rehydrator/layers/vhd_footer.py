"""Reading and writing the footer that every VHD ends with."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

from rehydrator.binary import Structure
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.layers.c_vhd import COOKIE, DATA_OFFSET_FIXED, FILE_FORMAT_VERSION, DiskType, Footer
from rehydrator.layers.vhd_record import VhdRecord


def checksum(kind: type[Structure], data: bytes) -> int:
    """Return the one's complement of the sum of all bytes of a structure but the checksum's own."""
    at = kind.offset_of("checksum")
    return ~(sum(data[:at]) + sum(data[at + 4 :])) & 0xFFFFFFFF


def sealed(kind: type[Structure], data: bytes) -> bytes:
    """Return a structure with its checksum."""
    at = kind.offset_of("checksum")
    return data[:at] + checksum(kind, data).to_bytes(4, "big") + data[at + 4 :]


def wrong_field(
    kind: type[Structure], name: str, at: int, path: Path, expected: object, actual: object
) -> CorruptError:
    """Return the error about a field of a structure at byte ``at``."""
    where = at + kind.offset_of(name)
    return CorruptError(f"VHD {name} is wrong", path=path, offset=where, expected=expected, actual=actual)


def _unread(what: str, name: str, at: int, expected: object, actual: object) -> UnsupportedError:
    """Return the error about a footer, at byte ``at``, of a kind that is not read; its reader completes it."""
    return UnsupportedError(what, offset=at + Footer.offset_of(name), expected=expected, actual=actual)


def read_footer(outer: Source, path: Path) -> Footer:
    """Read the last 512 bytes and check what a footer of any kind has to have."""
    at = outer.size - Footer.SIZE
    if at < 0:
        raise CorruptError(
            "too short for a VHD", path=path, offset=0, expected=f"at least {Footer.SIZE} bytes", actual=outer.size
        )
    data = bytes(outer.read(at, Footer.SIZE))
    footer = Footer.parse(data)
    if footer.cookie != COOKIE:
        raise wrong_field(Footer, "cookie", at, path, COOKIE.decode(), footer.cookie.hex())
    if footer.checksum != checksum(Footer, data):
        expected = f"{checksum(Footer, data):#x}"
        raise wrong_field(Footer, "checksum", at, path, expected, f"{footer.checksum:#x}")
    if footer.disk_type == DiskType.DIFFERENCING:
        raise _unread("differencing VHD", "disk_type", at, "2 or 3", footer.disk_type)
    if footer.disk_type not in (DiskType.FIXED, DiskType.DYNAMIC):
        raise wrong_field(Footer, "disk_type", at, path, "2, 3 or 4", footer.disk_type)
    if footer.file_format_version != FILE_FORMAT_VERSION:
        version = f"{FILE_FORMAT_VERSION:#x}"
        found = f"{footer.file_format_version:#x}"
        raise _unread("unknown VHD version", "file_format_version", at, version, found)
    return footer


def footer_record(footer: Footer, at: int) -> VhdRecord:
    """Return the record of a footer that lies at byte ``at``."""
    try:
        application, host = footer.creator_application.decode("ascii"), footer.creator_host_os.decode("ascii")
    except UnicodeDecodeError as error:
        found = (footer.creator_application + footer.creator_host_os).hex()
        raise _unread("VHD with a creator that is no text", "creator_application", at, "ASCII", found) from error
    return VhdRecord(
        time_stamp=footer.time_stamp,
        unique_id=str(uuid.UUID(bytes=footer.unique_id)),
        creator_application=application,
        creator_version=(footer.creator_version_major, footer.creator_version_minor),
        creator_host_os=host,
        geometry=(footer.cylinders, footer.heads, footer.sectors_per_track),
        features=footer.features,
        original_size=None if footer.original_size == footer.current_size else footer.original_size,
        saved_state=footer.saved_state,
    )


def footer_bytes(record: VhdRecord, size: int) -> bytes:
    """Return the footer of a disk of ``size`` bytes; raises MismatchError for values that do not fit."""
    dynamic = record.dynamic is not None
    try:
        footer = Footer(
            cookie=COOKIE,
            features=record.features,
            file_format_version=FILE_FORMAT_VERSION,
            data_offset=Footer.SIZE if dynamic else DATA_OFFSET_FIXED,
            time_stamp=record.time_stamp,
            creator_application=record.creator_application.encode("ascii"),
            creator_version_major=record.creator_version[0],
            creator_version_minor=record.creator_version[1],
            creator_host_os=record.creator_host_os.encode("ascii"),
            original_size=size if record.original_size is None else record.original_size,
            current_size=size,
            cylinders=record.geometry[0],
            heads=record.geometry[1],
            sectors_per_track=record.geometry[2],
            disk_type=DiskType.DYNAMIC if dynamic else DiskType.FIXED,
            checksum=0,
            unique_id=uuid.UUID(record.unique_id).bytes,
            saved_state=record.saved_state,
            reserved=b"",
        ).pack()
    except (ValueError, OverflowError, struct.error) as error:
        raise MismatchError(f"the VHD record holds impossible values: {error}") from error
    return sealed(Footer, footer)
