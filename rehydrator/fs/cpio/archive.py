"""Reading cpio archives: one behind the other, with zeros between them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.disk.extents import CHUNK, Extent, is_zero
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.cpio.c_cpio import ALIGNMENT, MAGIC_CRC, MAGIC_NEW, TRAILER, Header, aligned

MAGICS = (MAGIC_NEW, MAGIC_CRC)
_MAX_MEMBERS = 100_000
_MAX_NAME = 4096  # PATH_MAX


class Member(msgspec.Struct, frozen=True):
    """A member whose header is at byte ``start``, ``gap`` zeros behind the archive before it, with its content."""

    header: Header
    name: str
    start: int
    content: Extent
    gap: int = 0

    @property
    def trailer(self) -> bool:
        """Whether this ends an archive."""
        return self.name == TRAILER

    def number(self, field: str) -> int:
        """Return the number in a field of the header."""
        return _number(getattr(self.header, field), self.start)


def members(outer: Source) -> Iterator[Member]:
    """Yield the members of all archives that ``outer`` begins with, trailers included.

    Raises CorruptError for damaged headers, UnsupportedError for other formats and for names that are no text.
    """
    magic = bytes(outer.read(0, len(MAGIC_NEW)))
    if magic not in MAGICS:
        raise UnsupportedError("another format of cpio", offset=0, expected=f"one of {MAGICS}", actual=magic)
    at = gap = 0
    for _ in range(_MAX_MEMBERS + 1):
        member = _member(outer, at, gap, magic)
        yield member
        at, gap = min(aligned(member.content.end), outer.size), 0
        if member.trailer:
            following = after_zeros(outer, at)
            begins = following + Header.SIZE <= outer.size and not following % ALIGNMENT
            if not begins or bytes(outer.read(following, len(magic))) != magic:
                return
            at, gap = following, following - at
    raise UnsupportedError("an archive of too many members", expected=f"up to {_MAX_MEMBERS}", actual="more")


def _member(outer: Source, at: int, gap: int, magic: bytes) -> Member:
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
    for span in Header.FIELDS[1:]:
        _number(getattr(header, span.name), at)
    namesize, size = _number(header.c_namesize, at), _number(header.c_filesize, at)
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
    return Member(header, text, at, Extent(content, size), gap)


def _number(digits: bytes, at: int) -> int:
    try:
        return int.from_bytes(bytes.fromhex(digits.decode("ascii")), "big")
    except ValueError as error:
        raise CorruptError(
            "no number in the header of a cpio member", offset=at, expected="8 hexadecimal digits", actual=digits
        ) from error


def after_zeros(outer: Source, at: int) -> int:
    """Return the place of the first byte from ``at`` on that is not zero, or the end."""
    while at < outer.size:
        piece = bytes(outer.read(at, min(CHUNK, outer.size - at)))
        if not is_zero(piece):
            return at + len(piece) - len(piece.lstrip(b"\0"))
        at += len(piece)
    return at
