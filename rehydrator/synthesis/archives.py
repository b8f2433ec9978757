"""Archives and compressions around another disk than the one that their record was taken from.

What the head of a file tells about its rest is made first: compressed content goes to a nameless file in TMPDIR.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from rehydrator.codecs.deflate_stream import stream_encoder
from rehydrator.disk.composed import Joined
from rehydrator.disk.source import BytesSource, Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.c_tar import Type
from rehydrator.layers.forward import CheckedContent
from rehydrator.layers.gzip import GzipFile
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.tar import TarImage
from rehydrator.layers.tar_record import TarMember, TarRecord
from rehydrator.layers.zip_frame import FIRST_YEAR, zip_frame
from rehydrator.layers.zip_record import ZipExtra, ZipRecord, ZipTimes
from rehydrator.synthesis import oci, ovf
from rehydrator.synthesis.made import Made, digest_of

_OVF = ".ovf"
_SEALS = (".mf", ".cert")  # digests and signatures of an OVA's other members
_PAX_RECORD = re.compile(r"\d+ ([^=]+)=(.*)")
_PAX_TIMES = ("mtime", "atime", "ctime")  # a moment in whole seconds stands in the header
_FIRST_MOMENT_OF_DOS = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)


def gzip(record: GzipRecord, content: Source, made: Made) -> Source:
    """Compress with the record's encoder; the header has a time and a name where the record's has."""
    fresh = replace(
        record,
        name=None if record.name is None else made.renamed(record.name),
        mtime=made.epoch if record.mtime else 0,
    )
    return spooled(GzipFile(content, fresh).stream(), made.stem)


def zip_(record: ZipRecord, content: Source, made: Made) -> Source:
    """Compress with the record's encoder; the headers tell the time of the change."""
    checked = CheckedContent(content)
    encoder = None if record.deflate is None else stream_encoder(record.deflate)
    data = spooled(checked if encoder is None else encoder(iter(checked)), made.stem)
    modified = max(made.moment, _FIRST_MOMENT_OF_DOS).replace(tzinfo=None, microsecond=0)
    fresh = replace(
        record,
        name=made.renamed(record.name),
        crc32=checked.crc32,
        modified=modified.replace(second=modified.second // 2 * 2).isoformat(" "),
        extra=_at(record.extra, made.epoch),
        central_extra=_at(record.central_extra, made.epoch),
    )
    try:
        frame = zip_frame(fresh, content.size, data.size)
    except (ValueError, struct.error) as error:
        raise MismatchError(f"a zip file can't tell this: {error}") from error
    return Joined([BytesSource(frame.head), data, BytesSource(frame.tail)])


def _at(extra: Sequence[ZipExtra], epoch: int) -> list[ZipExtra]:
    return [
        replace(item, seconds=[epoch] * len(item.seconds)) if isinstance(item, ZipTimes) else item for item in extra
    ]


def tar(record: TarRecord, content: Source, made: Made, inside: Source) -> Source:
    """Write the members of the record, those that describe the disk in words that fit this one.

    ``inside`` is what ``content`` holds uncompressed. Raises UnsupportedError for a member that would say something
    wrong.
    """
    found = list(_members(record, made))
    disk = next(number for number, (_, is_disk) in enumerate(found) if is_disk)
    fresh = replace(record, members=[member for member, _ in found], disk=disk, padding="blocked")
    if oci.is_image(fresh):
        fresh = oci.with_layer(fresh, oci.LayerBlob(digest_of(content), content.size, digest_of(inside)), made)
    members = [_described(member, fresh.members[fresh.disk].name, content.size, made) for member in fresh.members]
    return TarImage(content, replace(fresh, members=members))


def _described(member: TarMember, disk: str, size: int, made: Made) -> TarMember:
    """Return a member of an OVA in words that fit its disk, which has ``size`` bytes in the archive."""
    if member.name.endswith(_SEALS):
        raise UnsupportedError("an OVA with digests of its members", actual=member.name)
    if not member.name.endswith(_OVF):
        return member
    return replace(member, text=ovf.with_disk("\n".join(member.text), disk, size, made.disk.size).split("\n"))


def _members(record: TarRecord, made: Made) -> Iterator[tuple[TarMember, bool]]:
    """Yield each member with its new name and time, and whether it is the disk."""
    for number, member in enumerate(record.members):
        if member.header:
            raise UnsupportedError("a tar header of another hand than GNU tar's", actual=member.name)
        text = [made.renamed(line) for line in member.text]
        if member.type in (Type.PAX_HEADER, Type.PAX_GLOBAL):
            text = _pax_records(text)
            if not text:
                continue
        fresh = replace(
            member,
            name=made.renamed(member.name),
            mtime=made.epoch,
            text=text,
            sparse="nonzero" if member.type == Type.GNU_SPARSE else [],
        )
        yield fresh, number == record.disk


def _pax_records(lines: Sequence[str]) -> list[str]:
    """Return the records of a pax header with their lengths, those of times left out."""
    records = []
    for line in filter(None, lines):
        found = _PAX_RECORD.fullmatch(line)
        if found is None:
            raise UnsupportedError("a pax header that can't be read", actual=repr(line[:80]))
        if found[1] not in _PAX_TIMES:
            records.append(_pax_record(found[1], found[2]))
    return [*records, ""] if records else []


def _pax_record(key: str, value: str) -> str:
    """Return ``LENGTH KEY=VALUE`` where the length counts itself and the newline behind."""
    rest = f" {key}={value}"
    length = len(rest.encode()) + 1
    while len(f"{length}{rest}".encode()) + 1 != length:
        length = len(f"{length}{rest}".encode()) + 1
    return f"{length}{rest}"
