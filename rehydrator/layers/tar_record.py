"""What has to be kept of a tar archive to write it again around its disk: its members' headers, and small members.

Header fields are kept by name where the header block follows from them as GNU tar writes it; a header of another
hand is kept as it is.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Style: TypeAlias = Literal["gnu", "ustar", "ustar 1.35"]  # the last: of GNU tar 1.35, without device numbers


# What a member of an OCI archive is to the image.
OciRole: TypeAlias = Literal["", "layout", "index", "config", "manifest", "layer"]


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """``length`` bytes of a sparse file from ``offset`` on, which the archive holds; all other bytes are zero."""

    offset: int
    length: int


class OciImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image of one layer in an OCI archive, by the values that its documents do not have from each other.

    ``created`` is in seconds since 1970; ``diff_id`` is the sha256 of the layer, ``layer`` that of its compressed blob.
    """

    architecture: str
    created: int
    diff_id: str
    layer: str


class TarMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """One member. ``text`` (lines) or ``data`` is the content of any but the disk; ``mode`` is in octal.

    ``sparse`` is the map of a disk of type ``S``: ``"nonzero"`` for the blocks of 4096 bytes that are not zero, and an
    empty piece at the end of a disk that ends in zeros, as GNU tar finds them. ``header`` are the header blocks where
    they do not follow from the other fields, without the zeros at their end. ``oci`` is what an OCI archive's image has
    the member for: its content follows from the image then, and of a blob's name the digest is left out.
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
    oci: OciRole = ""

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
    up to a multiple of 10,240 bytes. ``oci`` is the image of an OCI archive whose documents follow from it.
    """

    members: list[TarMember]
    disk: int = 0
    style: Style = "gnu"
    padding: int | Literal["blocked"] = "blocked"
    oci: OciImage | None = None
