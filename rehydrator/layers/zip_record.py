"""What has to be kept of a zip file of one member to write it again around its content."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

USUAL_VERSION = 20  # 2.0: deflate
ZIP64_VERSION = 45  # 4.5: zip64
USUAL_MADE_BY = 0x031E  # Unix, Info-ZIP 3.0
USUAL_MODE = 0o100644 << 16  # a plain file, in the place where Unix keeps it


class ZipTimes(msgspec.Struct, tag="times", tag_field="extra", frozen=True):
    """Extra field ``UT``: times in seconds since 1970. The central directory's copy has the flags of the local one."""

    flags: int
    seconds: list[int]


class ZipOwner(msgspec.Struct, tag="owner", tag_field="extra", frozen=True):
    """Extra field ``ux``: the numbers of user and group."""

    uid: int
    gid: int


class ZipLarge(msgspec.Struct, tag="large", tag_field="extra", frozen=True):
    """Extra field of zip64: holds as many sizes as ``sizes`` says, the uncompressed one first; the header has none."""

    sizes: int


class ZipOther(msgspec.Struct, tag="other", tag_field="extra", frozen=True):
    """Any other extra field, in hexadecimal."""

    id: int
    data: str


class ZipEnd64(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end records of zip64, for a directory that lies far from the start.

    ``offset_twice``: the usual end record, too, tells where the directory lies, instead of all ones.
    """

    version_made_by: int = USUAL_MADE_BY
    version_needed: int = ZIP64_VERSION
    offset_twice: bool = False


ZipExtra: TypeAlias = ZipTimes | ZipOwner | ZipLarge | ZipOther


class ZipRecord(msgspec.Struct, tag="zip", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a zip file with one member. Fields named as in the specification, in short.

    ``deflate`` is a name of :mod:`rehydrator.codecs.deflate_stream`, None where the member is stored as it is.
    ``crc32`` is the content's: it lies in front of the data. ``modified`` is the time of MS-DOS, without a zone.
    """

    file_size: int
    name: str
    crc32: int
    modified: str
    deflate: str | None = None
    flags: int = 0
    version_needed: int = USUAL_VERSION
    version_made_by: int = USUAL_MADE_BY
    internal_attributes: int = 0
    external_attributes: int = USUAL_MODE
    extra: list[ZipExtra] = []
    central_extra: list[ZipExtra] = []
    end64: ZipEnd64 | None = None
