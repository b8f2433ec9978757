"""Reading miniso.dat, and making the minimal ISO with it."""

from __future__ import annotations

import lzma
from collections.abc import Iterator

import msgspec

from rehydrator.codecs.bincode import Integers, Reader
from rehydrator.disk.composed import Joined
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.iso9660.c_iso9660 import SECTOR_SIZE
from rehydrator.fs.iso9660.iso9660 import Iso9660, Node
from rehydrator.live.c_miniso import (
    DIGEST_SIZE,
    MAGIC,
    MAX_FILE,
    MAX_VERSION_TEXT,
    MINISO_FILE,
    VERSION,
    Miniso,
    TableEntry,
)

_MAX_LITERAL = 32 << 20  # bytes of the minimal image that are no file's
_MEMORY = 128 << 20  # for decompressing: twice what xz -9 needs
_MIN_ENTRY = 3  # bytes of an encoded table entry


class MinisoFile(msgspec.Struct, frozen=True):
    """miniso.dat as it was read; ``ends`` are the offsets in the file behind its header, table, digest and image."""

    content: Miniso
    ends: tuple[int, int, int, int]


def miniso_node(iso: Iso9660) -> Node | None:
    """Return the file in an image; None where it has none, or an empty one as before it is packed."""
    node = iso.find(MINISO_FILE)
    if node is None or node.directory or not len(MAGIC) <= node.size <= MAX_FILE:
        return None
    return node if iso.content(node).startswith(MAGIC) else None


def read_miniso(data: bytes) -> MinisoFile:
    """Read the file. Raises CorruptError for a damaged one and UnsupportedError for another version."""
    reader = Reader(BytesSource(data), Integers.VARIABLE)
    magic = reader.raw(len(MAGIC))
    if magic != MAGIC:
        raise CorruptError("not a miniso file", offset=0, expected=MAGIC.hex(), actual=magic.hex())
    at = reader.at
    version = reader.u32()
    if version != VERSION:
        raise UnsupportedError("another version of miniso.dat", offset=at, expected=VERSION, actual=version)
    app_version = reader.string(MAX_VERSION_TEXT, "the program's version")
    header = reader.at
    count = reader.count(len(data) // _MIN_ENTRY, "count of files")
    table = [TableEntry(reader.u32(), reader.u32(), reader.u32()) for _ in range(count)]
    table_end = reader.at
    digest = reader.raw(DIGEST_SIZE)
    digest_end = reader.at
    packed = reader.raw(reader.count(len(data), "length of the packed image"))
    return MinisoFile(Miniso(app_version, table, digest, packed), (header, table_end, digest_end, reader.at))


def minimal_image(full: Source, miniso: Miniso) -> Source:
    """Return the minimal image, unchanged. Raises CorruptError for a table that does not fit the images."""
    literal = BytesSource(_unpacked(miniso.xzpacked))
    return Joined(_parts(full, miniso, literal))


def _parts(full: Source, miniso: Miniso, literal: Source) -> Iterator[Source]:
    at = taken = 0
    for entry in miniso.table:
        start, origin = entry.minimal * SECTOR_SIZE, entry.full * SECTOR_SIZE
        gap = start - at
        if gap < 0 or taken + gap > literal.size or origin + entry.length > full.size:
            raise CorruptError(
                "impossible file in the table of miniso.dat",
                expected="files in order, within both images",
                actual=f"{entry.length} bytes at sector {entry.minimal}, {entry.full} of the full image",
            )
        yield Window(literal, taken, gap)
        yield Window(full, origin, entry.length)
        taken += gap
        at = start + entry.length
    yield Window(literal, taken, literal.size - taken)


def _unpacked(packed: bytes) -> bytes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        content = decoder.decompress(packed, _MAX_LITERAL + 1)
    except lzma.LZMAError as error:
        raise CorruptError(f"the image in miniso.dat can't be decompressed: {error}", expected="a xz stream") from error
    if len(content) > _MAX_LITERAL or not decoder.eof:
        raise CorruptError(
            "the image in miniso.dat does not end",
            expected=f"at most {_MAX_LITERAL} bytes",
            actual=f"{len(content)} bytes",
        )
    return content
