"""Reading how a zip file of one member is built, and its content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.codecs import inflating
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.layers.base import compact
from rehydrator.layers.c_zip import (
    ALL_ONES,
    CENTRAL_MAGIC,
    DEFLATED,
    END_MAGIC,
    EXTRA_ZIP64,
    LOCATOR64_MAGIC,
    MAGIC,
    STORED,
    CentralDirectoryHeader,
    EndLocator64,
    EndRecord,
    EndRecord64,
    ExtraHeader,
    Flag,
    LargeSize,
    LocalFileHeader,
)
from rehydrator.layers.zip_end import end_record, pack_end64
from rehydrator.layers.zip_record import ZipEnd64

_SAME = (
    "version_needed",
    "general_purpose_bit_flag",
    "compression_method",
    "last_mod_file_time",
    "last_mod_file_date",
    "file_name_length",
)


class ZipMember(msgspec.Struct, frozen=True):
    """The one member: its headers and where its data lies; ``size`` is that of the content."""

    local: LocalFileHeader
    central: CentralDirectoryHeader
    name: bytes
    local_extra: bytes
    central_extra: bytes
    data_at: int
    data_size: int
    size: int
    end64: ZipEnd64 | None = None


def read_member(outer: Source, path: Path) -> ZipMember:
    """Read the headers.

    Raises CorruptError for a damaged file, UnsupportedError for several members and for parts that one of them alone
    does not need: comments, encryption, several disks.
    """
    reader = _Reader(outer)
    try:
        return reader.read()
    except RehydratorError as error:
        error.offset = reader.at if error.offset is None else error.offset
        raise error.located(path) from error


class _Reader:
    """Reads one file; ``at`` is the place of what is being read."""

    def __init__(self, outer: Source) -> None:
        self._outer = outer
        self.at = 0

    def _get(self, at: int, length: int) -> bytes:
        self.at = at
        if at < 0 or at + length > self._outer.size:
            raise CorruptError("zip file is cut short", expected=f"{length} bytes", actual=self._outer.size - at)
        return bytes(self._outer.read(at, length))

    def read(self) -> ZipMember:
        """Read all of it, from the end."""
        end_at = self._outer.size - EndRecord.SIZE
        end = EndRecord.parse(self._get(end_at, EndRecord.SIZE))
        if end.signature != END_MAGIC:
            raise CorruptError("zip end record is not there: truncated, or with a comment behind it")
        if (end.entries, end.entries_on_this_disk, end.number_of_this_disk, end.comment_length) != (1, 1, 0, 0):
            raise UnsupportedError("zip file of other than one member", actual=f"{end.entries} members")
        central_at, end64 = end.central_directory_offset, None
        if central_at + end.central_directory_size != end_at:
            central_at, end64 = self._read_end64(end, end_at - EndLocator64.SIZE)
        central = CentralDirectoryHeader.parse(self._get(central_at, CentralDirectoryHeader.SIZE))
        if central.signature != CENTRAL_MAGIC:
            raise CorruptError("zip directory has a wrong magic", actual=central.signature.hex())
        rest = self._get(central_at + central.SIZE, end.central_directory_size - central.SIZE)
        return msgspec.structs.replace(self._member(central, rest, central_at), end64=end64)

    def _read_end64(self, end: EndRecord, locator_at: int) -> tuple[int, ZipEnd64]:
        """Return where the directory lies, and what the end records of zip64 tell besides."""
        locator = EndLocator64.parse(self._get(locator_at, EndLocator64.SIZE))
        if locator.signature != LOCATOR64_MAGIC:
            self.at += EndLocator64.SIZE
            raise CorruptError("zip directory does not end where the end record begins", expected=self.at)
        at = locator_at - EndRecord64.SIZE
        found = EndRecord64.parse(self._get(at, EndRecord64.SIZE))
        central_at = found.central_directory_offset
        if central_at + found.central_directory_size != at:
            raise CorruptError("zip directory does not end where the end record of zip64 begins", expected=at)
        told = ZipEnd64(
            found.version_made_by, found.version_needed, offset_twice=end.central_directory_offset != ALL_ONES
        )
        size = found.central_directory_size
        if (found.pack() + locator.pack(), end) != (
            pack_end64(told, central_at, size),
            end_record(central_at, size, told),
        ):
            raise UnsupportedError("zip64 end records of other values than those of a file with one member")
        return central_at, compact(told)

    def _member(self, central: CentralDirectoryHeader, rest: bytes, central_at: int) -> ZipMember:
        local = LocalFileHeader.parse(self._get(0, LocalFileHeader.SIZE))
        if local.signature != MAGIC or central.relative_offset_of_local_header:
            raise UnsupportedError("zip file whose member does not begin it", actual=local.signature.hex())
        for told in _SAME:
            if getattr(local, told) != getattr(central, told):
                raise UnsupportedError(f"zip headers tell another {told}", actual=getattr(local, told))
        if central.general_purpose_bit_flag & Flag.ENCRYPTED:
            raise UnsupportedError("zip member is encrypted")
        if central.compression_method not in (STORED, DEFLATED):
            raise UnsupportedError("zip member of an unknown compression method", actual=central.compression_method)
        name = self._get(local.SIZE, local.file_name_length)
        extra = self._get(local.SIZE + len(name), local.extra_field_length)
        data_at = local.SIZE + len(name) + len(extra)
        central_extra = rest[len(name) :]
        if rest[: len(name)] != name or len(central_extra) != central.extra_field_length:
            raise UnsupportedError("zip directory with another name or a comment")
        size, data_size = _sizes(central, central_extra)
        if data_at + data_size > central_at:
            raise CorruptError("zip member ends behind the directory", expected=central_at, actual=data_at + data_size)
        return ZipMember(local, central, name, extra, central_extra, data_at, data_size, size)


def _sizes(central: CentralDirectoryHeader, extra: bytes) -> tuple[int, int]:
    """Return the sizes of content and data; those that are all ones lie in an extra field."""
    large: list[int] = []
    at = 0
    while at + ExtraHeader.SIZE <= len(extra):
        head = ExtraHeader.parse(extra, at)
        at += ExtraHeader.SIZE
        if head.header_id == EXTRA_ZIP64:
            places = range(at, min(at + head.data_size, len(extra)) - LargeSize.SIZE + 1, LargeSize.SIZE)
            large = [LargeSize.parse(extra, place).size for place in places]
        at += head.data_size
    told = [central.uncompressed_size, central.compressed_size]
    for number, size in enumerate(told):
        if size == ALL_ONES and large:
            told[number] = large.pop(0)
    return told[0], told[1]


def member_content(outer: Source, member: ZipMember, path: Path) -> Iterator[Data]:
    """Yield the content in pieces; one that is more or less than promised, or has another CRC, is damage."""
    crc32 = made = 0
    for piece in _inflated(outer, member, path) if member.central.compression_method else _stored(outer, member):
        crc32 = inflating.crc32(piece, crc32)
        made += len(piece)
        if made > member.size:
            break
        yield piece
    if made != member.size:
        raise CorruptError("zip member has another size", path=path, expected=member.size, actual=made)
    if crc32 != member.central.crc_32:
        raise CorruptError(
            "zip crc_32 is wrong", path=path, expected=f"{crc32:#x}", actual=f"{member.central.crc_32:#x}"
        )


def _stored(outer: Source, member: ZipMember) -> Iterator[Data]:
    end = member.data_at + member.data_size
    for at in range(member.data_at, end, CHUNK):
        yield outer.read(at, min(CHUNK, end - at))


def _inflated(outer: Source, member: ZipMember, path: Path) -> Iterator[Data]:
    decoder = inflating.decoder(-inflating.MAX_WBITS)
    at = member.data_at
    try:
        for feed in _stored(outer, member):
            at += len(feed)
            rest: Data = feed
            while len(rest) and not decoder.eof:
                yield decoder.decompress(rest, CHUNK)
                rest = decoder.unconsumed_tail
        while not decoder.eof and (piece := decoder.decompress(b"", CHUNK)):
            yield piece
    except inflating.ERRORS as error:
        raise CorruptError(f"zip member is damaged: {error}", path=path, offset=at) from error
    if not decoder.eof or decoder.unused_data:
        raise CorruptError("zip member's data ends elsewhere than its size says", path=path, offset=at)
