"""An osmet file: header, table of mappings, and an xz stream of everything that no mapping covers.

Source: coreos-installer, ``src/osmet/mod.rs``: ``OsmetFileHeader``, ``Osmet``, ``OsmetPartition``, ``Mapping``,
``Extent``. All are encoded by bincode, one behind the other, without padding. Files up to coreos-installer 0.2.0 have
fixed integers; the version did not change with the encoding.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from rehydrator.codecs.bincode import Integers

OSMET_MAGIC = b"OSMET\0\0\0"
OSMET_VERSION = 1
DIGEST_SIZE = 32  # SHA-256, raw


class Mapping(NamedTuple):
    """``length`` bytes at ``physical`` of a partition are those at ``logical`` of an ostree object (there are many).

    An object shorter than that is followed by zeros. ``object`` is the raw checksum that names it.
    """

    logical: int
    physical: int
    length: int
    object: bytes

    @property
    def end(self) -> int:
        """First byte of the partition behind the mapping."""
        return self.physical + self.length


class OsmetPartition(msgspec.Struct, frozen=True):
    """A partition, in bytes of the disk (``end_offset`` is the first behind it), and what lies in it, in order."""

    start_offset: int
    end_offset: int
    mappings: list[Mapping]


class OsmetFileHeader(msgspec.Struct, frozen=True):
    """Who wrote the file, and for which disks."""

    app_version: str
    sector_size: int
    os_description: str
    os_architecture: str


class Osmet(msgspec.Struct, frozen=True):
    """A whole file but for the xz stream, which begins at byte ``xz_offset``.

    ``checksum`` is the raw SHA-256 of the disk, ``size`` its bytes.
    """

    header: OsmetFileHeader
    partitions: list[OsmetPartition]
    checksum: bytes
    size: int
    integers: Integers
    xz_offset: int
