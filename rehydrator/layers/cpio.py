"""The cpio layer: archives of the "new" format, such as rootfs.img and an initramfs.

Inside are the contents of the members, one behind the other, and what follows the archives: each is told by itself, a
file system in an archive with layers of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from rehydrator.disk.composed import Joined, Zeros
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import MismatchError
from rehydrator.fs.cpio.archive import MAGICS, after_zeros, members
from rehydrator.fs.cpio.c_cpio import ALIGNMENT, DIGITS, MAGIC_NEW, TRAILER, Header, aligned
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.cpio_record import CpioMember, CpioRecord
from rehydrator.layers.exactness import check_exact, reading

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
    found: list[CpioMember] = []
    lower = False
    end = 0
    for member in members(outer):
        fields = {ours: member.number(theirs) for theirs, ours in _NUMBERS.items()}
        mode, size = f"{member.number('c_mode'):o}", member.content.length
        found.append(compact(CpioMember(name=member.name, mode=mode, size=size, gap=member.gap, **fields)))
        lower |= member.header.pack() != member.header.pack().upper()
        end = member.content.end
    rest = outer.size - after_zeros(outer, min(aligned(end), outer.size))
    magic = bytes(outer.read(0, len(MAGIC_NEW))).decode()
    return compact(CpioRecord(outer.size, found, rest, magic, lower))


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
    if record.magic.encode() not in MAGICS or min(record.rest, record.file_size) < 0:
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
