"""Structures that tell where a live ISO has room for kernel arguments and for an Ignition config.

Source: coreos-installer, ``src/live/embed.rs`` and ``src/live/customize.rs``; the two headers at the end of the ISO's
system area are those of images until 2021, the documents in ``/coreos`` those since.
"""

from __future__ import annotations

import msgspec

from rehydrator.binary import Structure, field
from rehydrator.fs.iso9660.c_iso9660 import SYSTEM_AREA

KARGS_INFO = "/COREOS/KARGS.JSO"
IGNITION_INFO = "/COREOS/IGNINFO.JSO"
IGNITION_FILE = "/IMAGES/IGNITION.IMG"  # where no document tells another one
MAX_INFO = 64 << 10  # bytes of a document
MAX_KARGS = 2048
USUAL_PAD, USUAL_END = "#", "\n"


class KargsHeader(Structure, byteorder="<"):
    """Room for kernel arguments: its length, and its offsets in the image, 0 for none."""

    Magic: bytes = field("8s")
    Length: int = field("Q")
    DefaultOffset: int = field("Q")
    Offset0: int = field("Q")
    Offset1: int = field("Q")
    Offset2: int = field("Q")
    Offset3: int = field("Q")
    Offset4: int = field("Q")
    Offset5: int = field("Q")

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets that are used."""
        found = (self.Offset0, self.Offset1, self.Offset2, self.Offset3, self.Offset4, self.Offset5)
        return tuple(offset for offset in found if offset)


class IgnitionHeader(Structure, byteorder="<"):
    """Room for an Ignition config: offset in the image, and length."""

    Magic: bytes = field("8s")
    Offset: int = field("Q")
    Length: int = field("Q")


KARGS_MAGIC = b"coreKarg"
IGNITION_MAGIC = b"coreiso+"
IGNITION_HEADER_AT = SYSTEM_AREA - IgnitionHeader.SIZE
KARGS_HEADER_AT = IGNITION_HEADER_AT - KargsHeader.SIZE


class KargsFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file with room for kernel arguments from byte ``offset`` on: they end with ``end``, ``pad`` fills the rest."""

    path: str
    offset: int
    pad: str | None = None
    end: str | None = None


class KargsInfo(msgspec.Struct, frozen=True):
    """``kargs.json``: the arguments as shipped, the files that hold them, and the bytes of the room in each."""

    default: str
    files: list[KargsFile]
    size: int


class IgnitionInfo(msgspec.Struct, frozen=True):
    """``igninfo.json``: the file that holds the config; ``length`` is all of the rest where None."""

    file: str
    offset: int = 0
    length: int | None = None
