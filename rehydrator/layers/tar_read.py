"""Reading a tar archive member by member, with every header checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.layers.c_tar import (
    ABOUT_FILES,
    BLOCKSIZE,
    FILES,
    OLDGNU_MAGIC,
    TMAGIC,
    OldGnuTail,
    PosixHeader,
    SparseEntry,
    SparseHeader,
    Type,
    UstarTail,
)
from rehydrator.layers.exactness import reading
from rehydrator.layers.tar_header import checksum, header_blocks, number
from rehydrator.layers.tar_record import Piece, Style, TarMember

MAX_MEMBERS = 1000
MAX_LITERAL = 1 << 20
MAX_DISK = 1 << 44
MAX_MAP_BLOCKS = 10_000
_ENTRY_END = bytes(SparseEntry.SIZE)


class Found(msgspec.Struct, frozen=True):
    """A member, where its data lies in the archive, and how long the file is that they make; in bytes."""

    member: TarMember
    style: Style
    data: Extent
    real_size: int

    @property
    def is_file(self) -> bool:
        """Whether the member is a regular file."""
        return self.member.type in FILES

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return -(-self.data.end // BLOCKSIZE) * BLOCKSIZE


def read_members(outer: Source, path: Path) -> list[Found]:
    """Read all members up to the first block of zeros or the end of the file."""
    with reading(path):
        return list(_Reader(outer, path).members())


class _Reader:
    def __init__(self, outer: Source, path: Path) -> None:
        self._outer = outer
        self._path = path
        self._pax_size: int | None = None

    def members(self) -> Iterator[Found]:
        at = count = 0
        while at < self._outer.size:
            block = self._block(at)
            if not any(block):
                return
            count += 1
            if count > MAX_MEMBERS:
                raise _unread("a tar with many members", at, f"at most {MAX_MEMBERS}", "more")
            found = self._member(block, at)
            yield found
            at = found.end

    def _block(self, at: int) -> bytes:
        if at + BLOCKSIZE > self._outer.size:
            raise CorruptError(
                "tar ends within a header",
                path=self._path,
                offset=at,
                expected=f"{BLOCKSIZE} bytes",
                actual=f"{self._outer.size - at} bytes",
            )
        return bytes(self._outer.read(at, BLOCKSIZE))

    def _number(self, header: PosixHeader, name: str, at: int) -> int:
        return number(getattr(header, name), name, self._path, at + PosixHeader.offset_of(name))

    def _member(self, block: bytes, at: int) -> Found:
        header = PosixHeader.parse(block)
        if header.magic not in (TMAGIC, OLDGNU_MAGIC):
            raise CorruptError(
                "tar header without its magic",
                path=self._path,
                offset=at + PosixHeader.offset_of("magic"),
                expected="ustar",
                actual=header.magic.hex(),
            )
        sum_found, sum_right = self._number(header, "chksum", at), checksum(block)
        if sum_found != sum_right:
            raise CorruptError(
                "tar header with a wrong checksum",
                path=self._path,
                offset=at + PosixHeader.offset_of("chksum"),
                expected=f"{sum_right:o}",
                actual=f"{sum_found:o}",
            )
        style = _style(header)
        kind = header.typeflag.decode("latin-1")
        blocks, sparse, real_size = block, list[Piece](), 0
        size = self._size(header, kind, at)
        if kind == Type.GNU_SPARSE:
            blocks, sparse, real_size = self._sparse(header, block, at, size)
        start = at + len(blocks)
        if start + size > self._outer.size:
            raise CorruptError(
                "tar member reaches past the end of the file",
                path=self._path,
                offset=at + PosixHeader.offset_of("size"),
                expected=f"at most {self._outer.size - start} bytes",
                actual=size,
            )
        data = Extent(start, size)
        if kind == Type.PAX_HEADER:
            self._pax_size = self._read_pax(data)
        real_size = real_size if kind == Type.GNU_SPARSE else size
        member = self._fields(header, kind, style, sparse, at)
        if _rebuilt(member, style, size, real_size) != blocks:
            member = TarMember(member.name, member.mtime, type=member.type, sparse=sparse, header=blocks.rstrip(b"\0"))
        return Found(member, style, data, real_size)

    def _size(self, header: PosixHeader, kind: str, at: int) -> int:
        """Return how many bytes of data follow; a pax header may say it for the member after it."""
        size = self._number(header, "size", at)
        if kind in FILES and self._pax_size is not None:
            size, self._pax_size = self._pax_size, None
        if size and kind not in FILES + ABOUT_FILES:
            place = at + PosixHeader.offset_of("size")
            raise _unread(f"tar member of type {kind!r} with content", place, "0 bytes", f"{size} bytes")
        return size

    def _fields(self, header: PosixHeader, kind: str, style: Style, sparse: list[Piece], at: int) -> TarMember:
        prefix = b"" if style == "gnu" else UstarTail.parse(header.tail).prefix
        return TarMember(
            name=_text(header.name),
            mtime=self._number(header, "mtime", at),
            type=kind,
            mode=f"{self._number(header, 'mode', at):04o}",
            uid=self._number(header, "uid", at),
            gid=self._number(header, "gid", at),
            uname=_text(header.uname),
            gname=_text(header.gname),
            linkname=_text(header.linkname),
            prefix=_text(prefix),
            sparse=sparse,
        )

    def _read_pax(self, data: Extent) -> int | None:
        """Return the size that a pax header gives the next member."""
        if data.length > MAX_LITERAL:
            raise _unread("tar with a huge pax header", data.offset, f"at most {MAX_LITERAL} bytes", data.length)
        rest = bytes(self._outer.read(*data))
        size: int | None = None
        while rest:
            digits, _, _ = rest.partition(b" ")
            length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
            key, equals, value = rest[len(digits) + 1 : length - 1].partition(b"=")
            if not equals or length > len(rest) or rest[length - 1 : length] != b"\n":
                raise CorruptError(
                    "tar pax header is damaged",
                    path=self._path,
                    offset=data.end - len(rest),
                    expected="a length, a key and a value",
                    actual=rest[:16].hex(),
                )
            if key.startswith(b"GNU.sparse."):
                place = data.end - len(rest)
                raise _unread("tar with a sparse map in a pax header", place, "a map in GNU tar's own headers", key)
            if key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise CorruptError(
                        "tar pax size is not a number",
                        path=self._path,
                        offset=data.end - len(rest),
                        expected="decimal digits",
                        actual=value[:16].hex(),
                    )
                size = int(value)
            rest = rest[length:]
        return size

    def _sparse(self, header: PosixHeader, block: bytes, at: int, size: int) -> tuple[bytes, list[Piece], int]:
        """Return all header blocks of a sparse member, its map and the size of the file."""
        tail = OldGnuTail.parse(header.tail)
        map_at = at + PosixHeader.offset_of("tail") + OldGnuTail.offset_of("sp")
        pieces = list(self._pieces(tail.sp, map_at))
        blocks = [block]
        more = tail.isextended
        while more:
            extension_at = at + len(blocks) * BLOCKSIZE
            if len(blocks) > MAX_MAP_BLOCKS:
                raise _unread("tar with a huge sparse map", extension_at, f"at most {MAX_MAP_BLOCKS} blocks", "more")
            blocks.append(self._block(extension_at))
            extension = SparseHeader.parse(blocks[-1])
            pieces += self._pieces(extension.sp, extension_at)
            more = extension.isextended
        real_at = at + PosixHeader.offset_of("tail") + OldGnuTail.offset_of("realsize")
        real_size = number(tail.realsize, "realsize", self._path, real_at)
        self._check_map(pieces, size, real_size, map_at)
        return b"".join(blocks), pieces, real_size

    def _pieces(self, entries: bytes, at: int) -> Iterator[Piece]:
        for inside in range(0, len(entries), SparseEntry.SIZE):
            if entries[inside : inside + SparseEntry.SIZE] == _ENTRY_END:
                return
            entry = SparseEntry.parse(entries, inside)
            yield Piece(
                number(entry.offset, "sparse offset", self._path, at + inside),
                number(entry.numbytes, "sparse numbytes", self._path, at + inside + SparseEntry.offset_of("numbytes")),
            )

    def _check_map(self, pieces: list[Piece], size: int, real_size: int, at: int) -> None:
        end = 0
        problem = f"realsize {real_size}" if real_size > MAX_DISK else ""
        for piece in pieces:
            if piece.offset < end or piece.offset + piece.length > real_size:
                problem = problem or f"{piece.length} bytes at {piece.offset}"
            end = max(end, piece.offset + piece.length)
        held = sum(piece.length for piece in pieces)
        if held != size:
            problem = problem or f"{held} bytes in the map"
        if problem:
            raise CorruptError(
                "tar sparse map is impossible",
                path=self._path,
                offset=at,
                expected=f"ordered pieces of {size} bytes within {real_size}",
                actual=problem,
            )


def _unread(what: str, at: int, expected: object, actual: object) -> UnsupportedError:
    """Return the error about something at byte ``at`` that is not read."""
    return UnsupportedError(what, offset=at, expected=expected, actual=actual)


def _style(header: PosixHeader) -> Style:
    if header.magic == OLDGNU_MAGIC:
        return "gnu"
    return "ustar" if any(header.devmajor) else "ustar 1.35"


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _rebuilt(member: TarMember, style: Style, size: int, real_size: int) -> bytes:
    """Return the header blocks that follow from the fields; none where a field does not fit."""
    try:
        return header_blocks(member, style, size, real_size)
    except MismatchError:
        return b""
