"""The end records of zip files of one member, for reading and for writing."""

from __future__ import annotations

from rehydrator.layers.c_zip import (
    ALL_ONES,
    END64_MAGIC,
    END_MAGIC,
    LOCATOR64_MAGIC,
    EndLocator64,
    EndRecord,
    EndRecord64,
)
from rehydrator.layers.zip_record import ZipEnd64


def end_record(central_at: int, central_size: int, end64: ZipEnd64 | None) -> EndRecord:
    """Return the usual end record of a file with one member, whose directory lies at byte ``central_at``."""
    return EndRecord(
        signature=END_MAGIC,
        number_of_this_disk=0,
        disk_with_central_directory=0,
        entries_on_this_disk=1,
        entries=1,
        central_directory_size=central_size,
        central_directory_offset=central_at if end64 is None or end64.offset_twice else ALL_ONES,
        comment_length=0,
    )


def pack_end64(told: ZipEnd64, central_at: int, central_size: int) -> bytes:
    """Return the end record of zip64, which lies behind the directory, and its locator."""
    end = EndRecord64(
        signature=END64_MAGIC,
        size_of_record=EndRecord64.SIZE - EndRecord64.offset_of("version_made_by"),
        version_made_by=told.version_made_by,
        version_needed=told.version_needed,
        number_of_this_disk=0,
        disk_with_central_directory=0,
        entries_on_this_disk=1,
        entries=1,
        central_directory_size=central_size,
        central_directory_offset=central_at,
    )
    locator = EndLocator64(
        signature=LOCATOR64_MAGIC,
        disk_with_end_record=0,
        end_record_offset=central_at + central_size,
        number_of_disks=1,
    )
    return end.pack() + locator.pack()
