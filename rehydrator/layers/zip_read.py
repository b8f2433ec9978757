"""Reading how a zip file of one member is built, and its content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.binary import Structure
from rehydrator.codecs import inflating
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
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
from rehydrator.layers.exactness import Cursor, first_difference, reading
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


# Fields of the end record, what other values stand for, and the value that is read.
_ONLY_ONE = (
    ("number_of_this_disk", "zip file on several disks", 0),
    ("entries_on_this_disk", "zip file of other than one member", 1),
    ("entries", "zip file of other than one member", 1),
    ("comment_length", "zip file with a comment", 0),
)


class ZipMember(msgspec.Struct, frozen=True):
    """The one member: its headers, and where the second of them and its data lie; ``size`` is that of the content."""

    local: LocalFileHeader
    central: CentralDirectoryHeader
    central_at: int
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
    with reading(path, at=lambda: reader.at):
        return reader.read()


class _Reader(Cursor):
    """Reads one file."""

    def __init__(self, outer: Source) -> None:
        super().__init__(outer, "zip")

    def read(self) -> ZipMember:
        """Read all of it, from the end."""
        end_at = self._outer.size - EndRecord.SIZE
        end = EndRecord.parse(self.get(end_at, EndRecord.SIZE))
        if end.signature != END_MAGIC:
            raise CorruptError(
                "zip end record is not there: truncated, or with a comment behind it",
                expected=END_MAGIC.hex(),
                actual=end.signature.hex(),
            )
        for name, what, value in _ONLY_ONE:
            if getattr(end, name) != value:
                raise _unread(what, end, name, end_at, value)
        central_at, end64 = end.central_directory_offset, None
        if central_at + end.central_directory_size != end_at:
            central_at, end64 = self._read_end64(end, end_at - EndLocator64.SIZE)
        central = CentralDirectoryHeader.parse(self.get(central_at, CentralDirectoryHeader.SIZE))
        if central.signature != CENTRAL_MAGIC:
            raise CorruptError(
                "zip directory has a wrong magic", expected=CENTRAL_MAGIC.hex(), actual=central.signature.hex()
            )
        rest = self.get(central_at + central.SIZE, end.central_directory_size - central.SIZE)
        return msgspec.structs.replace(self._member(central, rest, central_at), end64=end64)

    def _read_end64(self, end: EndRecord, locator_at: int) -> tuple[int, ZipEnd64]:
        """Return where the directory lies, and what the end records of zip64 tell besides."""
        locator = EndLocator64.parse(self.get(locator_at, EndLocator64.SIZE))
        if locator.signature != LOCATOR64_MAGIC:
            end_at = locator_at + EndLocator64.SIZE
            raise CorruptError(
                "zip directory does not end where the end record begins",
                offset=end_at + EndRecord.offset_of("central_directory_size"),
                expected=end_at - end.central_directory_offset,
                actual=end.central_directory_size,
            )
        at = locator_at - EndRecord64.SIZE
        found = EndRecord64.parse(self.get(at, EndRecord64.SIZE))
        central_at = found.central_directory_offset
        if central_at + found.central_directory_size != at:
            raise CorruptError(
                "zip directory does not end where the end record of zip64 begins",
                offset=at + EndRecord64.offset_of("central_directory_size"),
                expected=at - central_at,
                actual=found.central_directory_size,
            )
        told = ZipEnd64(
            found.version_made_by, found.version_needed, offset_twice=end.central_directory_offset != ALL_ONES
        )
        size = found.central_directory_size
        right = pack_end64(told, central_at, size) + end_record(central_at, size, told).pack()
        there = found.pack() + locator.pack() + end.pack()
        first = first_difference(right, there)
        if first is not None:
            raise UnsupportedError(
                "zip64 end records of other values than those of a file with one member",
                offset=at + first,
                expected=f"byte {right[first]:#04x}",
                actual=f"{there[first]:#04x}",
            )
        return central_at, compact(told)

    def _member(self, central: CentralDirectoryHeader, rest: bytes, central_at: int) -> ZipMember:
        local = LocalFileHeader.parse(self.get(0, LocalFileHeader.SIZE))
        if central.relative_offset_of_local_header:
            what = "zip file whose member does not begin it"
            raise _unread(what, central, "relative_offset_of_local_header", central_at, 0)
        if local.signature != MAGIC:
            raise CorruptError("not a zip file: wrong magic", expected=MAGIC.hex(), actual=local.signature.hex())
        for told in _SAME:
            if getattr(local, told) != getattr(central, told):
                raise _unread(f"zip headers tell another {told}", local, told, 0, getattr(central, told))
        flags, method = central.general_purpose_bit_flag, central.compression_method
        if flags & Flag.ENCRYPTED:
            plain = flags & ~Flag.ENCRYPTED
            raise _unread("zip member is encrypted", central, "general_purpose_bit_flag", central_at, plain)
        if method not in (STORED, DEFLATED):
            known = f"{STORED} or {DEFLATED}"
            raise _unread(
                "zip member of an unknown compression method", central, "compression_method", central_at, known
            )
        name = self.get(local.SIZE, local.file_name_length)
        extra = self.get(local.SIZE + len(name), local.extra_field_length)
        data_at = local.SIZE + len(name) + len(extra)
        central_extra = rest[len(name) :]
        if rest[: len(name)] != name or len(central_extra) != central.extra_field_length:
            raise UnsupportedError(
                "zip directory with another name or a comment",
                offset=central_at + central.SIZE,
                expected=f"{name.hex()} and {central.extra_field_length} bytes",
                actual=f"{rest[: len(name)].hex()} and {len(central_extra)} bytes",
            )
        size, data_size = _sizes(central, central_extra)
        if data_at + data_size > central_at:
            raise CorruptError(
                "zip member ends behind the directory",
                offset=central_at + central.offset_of("compressed_size"),
                expected=f"at most {central_at - data_at}",
                actual=data_size,
            )
        return ZipMember(local, central, central_at, name, extra, central_extra, data_at, data_size, size)


def _unread(what: str, held: Structure, name: str, at: int, expected: object) -> UnsupportedError:
    """Return the error about a field of a structure, at byte ``at``, with a value that is not read."""
    return UnsupportedError(what, offset=at + held.offset_of(name), expected=expected, actual=getattr(held, name))


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
        raise CorruptError(
            "zip member has another size",
            path=path,
            offset=member.central_at + CentralDirectoryHeader.offset_of("uncompressed_size"),
            expected=f"{made} bytes" if made < member.size else f"more than {member.size} bytes",
            actual=member.size,
        )
    if crc32 != member.central.crc_32:
        raise CorruptError(
            "zip crc_32 is wrong",
            path=path,
            offset=member.central_at + CentralDirectoryHeader.offset_of("crc_32"),
            expected=f"{crc32:#x}",
            actual=f"{member.central.crc_32:#x}",
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
        raise CorruptError(
            "zip member is damaged", path=path, offset=at, expected="a deflate stream", actual=str(error)
        ) from error
    if not decoder.eof or decoder.unused_data:
        raise CorruptError(
            "zip member's data ends elsewhere than its size says",
            path=path,
            offset=member.central_at + CentralDirectoryHeader.offset_of("compressed_size"),
            expected=f"{member.data_size - len(decoder.unused_data)} bytes" if decoder.eof else "more bytes",
            actual=f"{member.data_size} bytes",
        )
