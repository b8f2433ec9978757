"""Header blocks of tar members, from their fields and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rehydrator.errors import CorruptError, MismatchError
from rehydrator.layers.c_tar import (
    BASE_256,
    BLOCKSIZE,
    OLDGNU_MAGIC,
    SPARSES_IN_OLDGNU_HEADER,
    SPARSES_IN_SPARSE_HEADER,
    TMAGIC,
    OldGnuTail,
    PosixHeader,
    SparseEntry,
    SparseHeader,
    Type,
    UstarTail,
)
from rehydrator.layers.tar_record import Piece, Style, TarMember

_CHKSUM_BLANK = b" " * 8


def number(data: bytes, name: str, path: Path, offset: int) -> int:
    """Read a number field; raises CorruptError that names it."""
    if data[0] == BASE_256:
        return int.from_bytes(data[1:], "big")
    digits = data.strip(b" \0")
    if digits.translate(None, b"01234567"):
        raise CorruptError(
            f"tar {name} is not a number", path=path, offset=offset, expected="octal digits", actual=digits[:12].hex()
        )
    return int(digits or b"0", 8)


def octal(value: int, width: int) -> bytes:
    """Write a number field of ``width`` bytes as GNU tar does."""
    if value < 0 or value >= 1 << (8 * (width - 1)):
        raise MismatchError("a number does not fit its tar field", actual=value)
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return bytes([BASE_256]) + value.to_bytes(width - 1, "big")


def checksum(block: bytes) -> int:
    """Return the sum of a header block's bytes, those of ``chksum`` counted as blanks."""
    at = PosixHeader.offset_of("chksum")
    return sum(block[:at]) + sum(_CHKSUM_BLANK) + sum(block[at + len(_CHKSUM_BLANK) :])


def _text(value: str, width: int) -> bytes:
    data = value.encode()
    if len(data) > width:
        raise MismatchError("a text does not fit its tar field", actual=repr(value[:40]))
    return data


def header_blocks(member: TarMember, style: Style, size: int, real_size: int) -> bytes:
    """Return the header block of a member, and those of its sparse map.

    ``size`` is how many bytes the archive holds of it, ``real_size`` how many the file has.
    """
    if member.header:
        return member.header.ljust(-(-len(member.header) // BLOCKSIZE) * BLOCKSIZE, b"\0")
    posix = style != "gnu"
    device = octal(0, 8) if style == "ustar" and member.type not in (Type.PAX_HEADER, Type.PAX_GLOBAL) else b""
    tail = UstarTail(prefix=_text(member.prefix, 155), pad=b"") if posix else _gnu_tail(member, real_size)
    try:
        mode = int(member.mode, 8)
    except ValueError as error:
        raise MismatchError("a tar mode is not octal", actual=repr(member.mode[:20])) from error
    header = PosixHeader(
        name=_text(member.name, 100),
        mode=octal(mode, 8),
        uid=octal(member.uid, 8),
        gid=octal(member.gid, 8),
        size=octal(size, 12),
        mtime=octal(member.mtime, 12),
        chksum=_CHKSUM_BLANK,
        typeflag=_text(member.type, 1),
        linkname=_text(member.linkname, 100),
        magic=TMAGIC if posix else OLDGNU_MAGIC,
        uname=_text(member.uname, 32),
        gname=_text(member.gname, 32),
        devmajor=device,
        devminor=device,
        tail=tail.pack(),
    ).pack()
    block = header.ljust(BLOCKSIZE, b"\0")
    at = PosixHeader.offset_of("chksum")
    block = block[:at] + b"%06o\0 " % checksum(block) + block[at + len(_CHKSUM_BLANK) :]
    return block + b"".join(_extensions(member.pieces[SPARSES_IN_OLDGNU_HEADER:]))


def _gnu_tail(member: TarMember, real_size: int) -> OldGnuTail:
    return OldGnuTail(
        atime=b"",
        ctime=b"",
        offset=b"",
        longnames=b"",
        unused=b"",
        sp=_entries(member.pieces[:SPARSES_IN_OLDGNU_HEADER]),
        isextended=len(member.pieces) > SPARSES_IN_OLDGNU_HEADER,
        realsize=octal(real_size, 12) if member.type == Type.GNU_SPARSE else b"",
        pad=b"",
    )


def _entries(pieces: Sequence[Piece]) -> bytes:
    return b"".join(
        SparseEntry(offset=octal(piece.offset, 12), numbytes=octal(piece.length, 12)).pack() for piece in pieces
    )


def _extensions(pieces: Sequence[Piece]) -> Iterator[bytes]:
    step = SPARSES_IN_SPARSE_HEADER
    for at in range(0, len(pieces), step):
        block = SparseHeader(sp=_entries(pieces[at : at + step]), isextended=at + step < len(pieces), pad=b"")
        yield block.pack()
