"""What has to be kept of a tar archive to write it again around its disk: its members' headers, and small members.

Header fields are kept by name where the header block follows from them as GNU tar writes it; a header of another
hand is kept as it is.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Style: TypeAlias = Literal["gnu", "ustar", "ustar 1.35"]  # the last: of GNU tar 1.35, without device numbers


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """``length`` bytes of a sparse file from ``offset`` on, which the archive holds; all other bytes are zero."""

    offset: int
    length: int


class TarMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """One member. ``text`` (lines) or ``data`` is the content of any but the disk; ``mode`` is in octal.

    ``sparse`` is the map of a disk of type ``S``: ``"nonzero"`` for the blocks of 4096 bytes that are not zero, and an
    empty piece at the end of a disk that ends in zeros, as GNU tar finds them. ``header`` are the header blocks where
    they do not follow from the other fields, without the zeros at their end.
    """

    name: str
    mtime: int
    type: str = "0"
    mode: str = "0644"
    uid: int = 0
    gid: int = 0
    uname: str = "root"
    gname: str = "root"
    linkname: str = ""
    prefix: str = ""
    text: list[str] = []
    data: bytes = b""
    sparse: Literal["nonzero"] | list[Piece] = []
    header: bytes = b""

    @property
    def pieces(self) -> list[Piece]:
        """The map as far as the record holds it."""
        return [] if self.sparse == "nonzero" else self.sparse

    @property
    def content(self) -> bytes:
        """The content of a member that is not the disk."""
        return "\n".join(self.text).encode() if self.text else self.data


class TarRecord(msgspec.Struct, tag="tar", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a tar layer: its members in order; number ``disk`` is the one that is told apart.

    ``padding`` are the bytes of zeros after the last member, ``"blocked"`` as GNU tar writes them: two blocks or more,
    up to a multiple of 10,240 bytes.
    """

    members: list[TarMember]
    disk: int = 0
    style: Style = "gnu"
    padding: int | Literal["blocked"] = "blocked"
