"""miniso.dat: how the live ISO gives back the minimal one, which is the same without the root file system.

Source: coreos-installer, ``src/miniso.rs``. The structures are encoded with bincode, its integers of variable length.
"""

from __future__ import annotations

import msgspec

MINISO_FILE = "/COREOS/MINISO.DAT"
MAGIC = b"MINISO\0\0"
VERSION = 1
MAX_FILE = 1 << 20  # bytes; coreos-installer reads no more either
MAX_VERSION_TEXT = 256
DIGEST_SIZE = 32


class TableEntry(msgspec.Struct, frozen=True):
    """A file of ``length`` bytes, and the sectors of the minimal and of the full image in which it begins."""

    minimal: int
    full: int
    length: int


class Miniso(msgspec.Struct, frozen=True):
    """The content of the file.

    ``app_version`` is that of the program that wrote it, ``table`` is in the order of the minimal image, ``digest`` its
    sha256. ``xzpacked`` is all of it that no entry of the table gives.
    """

    app_version: str
    table: list[TableEntry]
    digest: bytes
    xzpacked: bytes
