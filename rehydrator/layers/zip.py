"""The zip layer: files of one member, as Info-ZIP and Python write them."""

from __future__ import annotations

import datetime
import functools
import struct
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.codecs.deflate_stream import candidates, stream_encoder
from rehydrator.disk.on_demand import OnDemand, Section
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.c_zip import STORED, CentralDirectoryHeader, Flag
from rehydrator.layers.exactness import reading
from rehydrator.layers.forward import CheckedContent, ForwardFile, matching
from rehydrator.layers.gzip_read import MAX_CONTENT, MAX_NAME
from rehydrator.layers.zip_extra import parse_extra
from rehydrator.layers.zip_frame import FIRST_YEAR, zip_frame
from rehydrator.layers.zip_read import ZipMember, member_content, read_member
from rehydrator.layers.zip_record import ZipRecord

_EFFORT = Flag.MAXIMUM | Flag.FAST
_LEVELS = {int(Flag.MAXIMUM): (9, 8), int(Flag.FAST): (2, 1), int(_EFFORT): (1,)}


class ZipLayer:
    """Compresses content into a zip file, and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Decompress the file into a nameless temporary one, and find the encoder that gives its bytes back."""
        content = self.look(outer, path).inner
        content.nonzero()  # makes all of it, so that damage is not taken for another encoder
        return Unwrapped(content, self.recognise(outer, content, path), proven=True)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the headers; the member is decompressed as far as it is read."""
        member = read_member(outer, path)
        if member.size > MAX_CONTENT:
            raise CorruptError(
                "zip content is impossibly large",
                path=path,
                offset=member.central_at + CentralDirectoryHeader.offset_of("uncompressed_size"),
                expected=f"at most {MAX_CONTENT}",
                actual=member.size,
            )
        record = _looked(member, outer.size, path)
        sections = [Section(0, member.size, functools.partial(member_content, outer, member, path))]
        return Unwrapped(OnDemand(sections if member.size else [], path.name), record)

    def recognise(self, outer: Source, content: Source, path: Path) -> ZipRecord:
        """Find the encoder that gives all bytes of ``outer`` for ``content``."""
        member = read_member(outer, path)
        if member.size != content.size:
            raise UnsupportedError("zip file of another content", path=path, expected=content.size, actual=member.size)
        with reading(path, at=lambda: member.central_at):
            headers = _record(member, outer.size)
        records = (compact(msgspec.structs.replace(headers, deflate=name)) for name in _candidates(member))
        return matching(outer, path, member.data_at, records, lambda record: ZipFile(content, record), "zip")

    def wrap(self, inner: Source, record: ZipRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the zip file as a source that is compressed while it is read from front to back."""
        return ZipFile(inner, record)

    def describe(self, record: ZipRecord) -> str:
        """Name the encoder and what the headers say."""
        how = "stored" if record.deflate is None else f"by {record.deflate}" if record.deflate else "deflated"
        return f"zip {how}, name {record.name}, modified {record.modified}"


def _candidates(member: ZipMember) -> Iterator[str | None]:
    """Yield names of encoders, the likeliest levels first: Info-ZIP compresses as GNU gzip does."""
    if member.central.compression_method == STORED:
        yield None
        return
    yield from candidates(_LEVELS.get(member.central.general_purpose_bit_flag & _EFFORT, ()))


def read_headers(outer: Source, path: Path) -> ZipRecord:
    """Return what the headers of a zip file tell, as :meth:`ZipLayer.look` does; nothing is decompressed."""
    return _looked(read_member(outer, path), outer.size, path)


def _looked(member: ZipMember, size: int, path: Path) -> ZipRecord:
    with reading(path, at=lambda: member.central_at):
        record = _record(member, size)
    return compact(msgspec.structs.replace(record, deflate=None if member.central.compression_method == STORED else ""))


def _record(member: ZipMember, size: int) -> ZipRecord:
    """Return what the headers tell, without an encoder."""
    central = member.central
    try:
        modified = _moment(central.last_mod_file_date, central.last_mod_file_time)
    except ValueError as error:
        raise UnsupportedError(
            f"zip member of an impossible time: {error}",
            offset=member.central_at + CentralDirectoryHeader.offset_of("last_mod_file_time"),
            expected="a date and time",
            actual=f"{central.last_mod_file_date:#06x} and {central.last_mod_file_time:#06x}",
        ) from error
    return ZipRecord(
        file_size=size,
        name=member.name.decode("latin-1"),
        crc32=central.crc_32,
        modified=modified,
        flags=central.general_purpose_bit_flag,
        version_needed=central.version_needed,
        version_made_by=central.version_made_by,
        internal_attributes=central.internal_file_attributes,
        external_attributes=central.external_file_attributes,
        extra=parse_extra(member.local_extra),
        central_extra=parse_extra(member.central_extra),
        end64=member.end64,
    )


def _moment(date: int, time: int) -> str:
    """Tell a date and time of MS-DOS: bits 9, 5 and 4 are where year, month and the two-second steps end."""
    day = datetime.datetime(FIRST_YEAR + (date >> 9), date >> 5 & 15, date & 31)
    return day.replace(hour=time >> 11, minute=time >> 5 & 63, second=(time & 31) * 2).isoformat(" ")


class ZipFile(ForwardFile):
    """A zip file that is compressed while it is read."""

    def __init__(self, content: Source, record: ZipRecord) -> None:
        if not 0 <= record.file_size <= MAX_CONTENT or len(record.name) > MAX_NAME:
            raise MismatchError("the zip record holds impossible numbers")
        self._content = content
        self._record = record
        self._encoder = stream_encoder(record.deflate) if record.deflate is not None else None
        try:
            self._data_size = record.file_size - zip_frame(record, content.size, 0).size
            self._frame = zip_frame(record, content.size, self._data_size)
        except (ValueError, struct.error) as error:
            raise MismatchError(f"the zip record holds impossible values: {error}") from error
        super().__init__(record.file_size)

    def stream(self) -> Generator[bytes, None, None]:
        """Yield the file in pieces; raises MismatchError for content of another CRC or compressed size."""
        content = CheckedContent(self._content)
        yield self._frame.head
        size = 0
        for piece in map(bytes, content) if self._encoder is None else self._encoder(iter(content)):
            size += len(piece)
            yield piece
        if (size, content.crc32) != (self._data_size, self._record.crc32):
            raise MismatchError("the content does not compress to the recorded size", expected=self._data_size)
        yield self._frame.tail
