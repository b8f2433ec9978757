"""The cpio layer: archives of the "new" format, such as rootfs.img and an initramfs.

Inside are the contents of the members, one behind the other, and what follows the archives: each is told by itself, a
file system in an archive with layers of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from rehydrator.disk.composed import Joined, Zeros
from rehydrator.disk.extents import CHUNK, Extent, is_zero
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.c_cpio import ALIGNMENT, DIGITS, MAGIC_CRC, MAGIC_NEW, TRAILER, Header, aligned
from rehydrator.layers.cpio_record import CpioMember, CpioRecord
from rehydrator.layers.exactness import check_exact, reading

_MAGICS = (MAGIC_NEW, MAGIC_CRC)
_MAX_MEMBERS = 100_000
_MAX_NAME = 4096  # PATH_MAX
# Record fields by those of the header, but for the sizes, which follow, and the mode, which is in octal
_NUMBERS = {
    "c_ino": "ino",
    "c_nlink": "nlink",
    "c_uid": "uid",
    "c_gid": "gid",
    "c_mtime": "mtime",
    "c_maj": "major",
    "c_min": "minor",
    "c_rmaj": "rmajor",
    "c_rmin": "rminor",
    "c_chksum": "check",
}


class CpioLayer:
    """Puts content into cpio archives, and takes it out."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the headers, and compare all that lies around the content with what they follow from."""
        unwrapped = self.look(outer, path)
        again = self.wrap(unwrapped.inner, unwrapped.record)
        check_exact("cpio archive", outer, again, _around(unwrapped.record), path)
        return unwrapped

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the headers."""
        with reading(path):
            record = _read(outer)
            parts = _contents(record)
        inner = Joined(Window(outer, *part) for part in parts)
        return Unwrapped(inner, record, cuts=tuple(part.length for part in parts))

    def wrap(self, inner: Source, record: CpioRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the archives around ``inner``; raises MismatchError where they do not fit."""
        parts = _contents(record)
        size = sum(part.length for part in parts)
        if size != inner.size:
            raise MismatchError("the content of a cpio archive has another size", expected=size, actual=inner.size)
        pieces: list[Source] = []
        at = taken = 0
        for head, part in zip(_heads(record), parts, strict=True):
            pieces += [
                Zeros(part.offset - at - len(head)),
                BytesSource(head),
                Window(inner, taken, part.length),
            ]
            at, taken = part.end, taken + part.length
        if at > record.file_size:
            raise MismatchError("the cpio record holds impossible sizes", expected=at, actual=record.file_size)
        return Joined([*pieces, Zeros(record.file_size - at)])

    def describe(self, record: CpioRecord) -> str:
        """Count the members."""
        names = [member.name for member in record.members if member.name != TRAILER]
        archives = len(record.members) - len(names)
        said = f"cpio, {len(names):,} members" + (f" in {archives} archives" if archives > 1 else "")
        return said + (f", then {record.rest:,} other bytes" if record.rest else "")


def _read(outer: Source) -> CpioRecord:
    members: list[CpioMember] = []
    at = gap = 0
    lower = False
    magic = bytes(outer.read(0, len(MAGIC_NEW)))
    if magic not in _MAGICS:
        raise UnsupportedError("another format of cpio", offset=0, expected=f"one of {_MAGICS}", actual=magic)
    while len(members) <= _MAX_MEMBERS:
        member, content, is_lower = _member(outer, at, gap, magic)
        lower |= is_lower
        members.append(member)
        end = content + member.size
        at = min(aligned(end), outer.size)
        if member.name == TRAILER:
            following = _after_zeros(outer, at)
            begins = following + Header.SIZE <= outer.size and not following % ALIGNMENT
            if not begins or bytes(outer.read(following, len(magic))) != magic:
                rest = outer.size - following
                return compact(CpioRecord(outer.size, members, rest, magic.decode(), lower))
            gap, at = following - at, following
        else:
            gap = 0
    raise UnsupportedError("an archive of too many members", expected=f"up to {_MAX_MEMBERS}", actual="more")


def _member(outer: Source, at: int, gap: int, magic: bytes) -> tuple[CpioMember, int, bool]:
    """Read a header; return the member, where its content begins, and whether there are small letters in it."""
    if at + Header.SIZE > outer.size:
        raise CorruptError(
            "a cpio archive ends without its trailer",
            offset=at,
            expected="another member",
            actual="the end of the file",
        )
    header = Header.parse(outer.read(at, Header.SIZE))
    if header.c_magic != magic:
        raise CorruptError("no header of a cpio member", offset=at, expected=magic, actual=header.c_magic)
    numbers = {span.name: _number(getattr(header, span.name), at) for span in Header.FIELDS[1:]}
    namesize, size = numbers["c_namesize"], numbers["c_filesize"]
    content = aligned(at + Header.SIZE + namesize)
    if not 1 <= namesize <= _MAX_NAME or content + size > outer.size:
        raise CorruptError(
            "impossible sizes of a cpio member",
            offset=at,
            expected=f"up to {outer.size} bytes",
            actual=f"{namesize} of the name, {size} of the content",
        )
    name = bytes(outer.read(at + Header.SIZE, namesize))
    try:
        text = name[:-1].decode()
    except UnicodeDecodeError as error:
        raise UnsupportedError(
            "a name in a cpio archive is no text", offset=at, expected="UTF-8", actual=name[:40]
        ) from error
    fields = {ours: numbers[theirs] for theirs, ours in _NUMBERS.items()}
    member = compact(CpioMember(name=text, mode=f"{numbers['c_mode']:o}", size=size, gap=gap, **fields))
    return member, content, header.pack() != header.pack().upper()


def _number(digits: bytes, at: int) -> int:
    try:
        return int.from_bytes(bytes.fromhex(digits.decode("ascii")), "big")
    except ValueError as error:
        raise CorruptError(
            "no number in the header of a cpio member", offset=at, expected="8 hexadecimal digits", actual=digits
        ) from error


def _after_zeros(outer: Source, at: int) -> int:
    """Return the place of the first byte from ``at`` on that is not zero, or the end."""
    while at < outer.size:
        piece = bytes(outer.read(at, min(CHUNK, outer.size - at)))
        if not is_zero(piece):
            return at + len(piece) - len(piece.lstrip(b"\0"))
        at += len(piece)
    return at


def _heads(record: CpioRecord) -> Iterator[bytes]:
    """Yield the bytes in front of each content: headers with names. In front of the rest there are none."""
    for member in record.members:
        name = member.name.encode() + b"\0"
        values = {theirs: getattr(member, ours) for theirs, ours in _NUMBERS.items()}
        try:
            values |= {"c_mode": int(member.mode, 8), "c_filesize": member.size, "c_namesize": len(name)}
            digits = {key: _digits(value, lower=record.lower) for key, value in values.items()}
            head = Header(c_magic=record.magic.encode(), **digits).pack() + name
        except (ValueError, struct.error) as error:
            raise MismatchError(f"the cpio record holds impossible values: {error}", actual=name[:40]) from error
        yield head + bytes(-len(head) % ALIGNMENT)
    yield b""


def _digits(value: int, *, lower: bool) -> bytes:
    digits = f"{value:08x}" if lower else f"{value:08X}"
    if len(digits) != DIGITS or value < 0:
        raise ValueError(f"{value} has not {DIGITS} digits")
    return digits.encode()


def _contents(record: CpioRecord) -> list[Extent]:
    """Return where in the file the content of each member lies, and that of the rest."""
    if record.magic.encode() not in _MAGICS or min(record.rest, record.file_size) < 0:
        raise MismatchError("the cpio record holds impossible values", actual=record.magic[:40])
    found: list[Extent] = []
    at = 0
    for member in record.members:
        if member.gap < 0 or member.size < 0:
            raise MismatchError("the cpio record holds impossible sizes", actual=member.name[:40])
        at = aligned(aligned(at) + member.gap + Header.SIZE + len(member.name.encode()) + 1)
        found.append(Extent(at, member.size))
        at += member.size
    if record.file_size - record.rest < at:
        raise MismatchError("the cpio record holds impossible sizes", expected=at, actual=record.file_size)
    return [*found, Extent(record.file_size - record.rest, record.rest)]


def _around(record: CpioRecord) -> Iterator[Extent]:
    """Yield the ranges of the file that hold no content."""
    at = 0
    for part in _contents(record):
        if part.offset > at:
            yield Extent(at, part.offset - at)
        at = part.end
    if record.file_size > at:
        yield Extent(at, record.file_size - at)
