"""The gzip layer: files of one member, as GNU gzip and zlib write them."""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from pathlib import Path

from rehydrator.codecs.deflate import ZLIB
from rehydrator.codecs.deflate_stream import candidates, stream_encoder
from rehydrator.disk.source import Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import MismatchError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.c_gzip import CM_DEFLATE, MAGIC, XFL_FASTEST, XFL_SLOWEST, Flag, Header, Trailer
from rehydrator.layers.forward import CheckedContent, ForwardFile, matching
from rehydrator.layers.gzip_read import MAX_CONTENT, MAX_NAME, GzipHeader, member_content, read_header
from rehydrator.layers.gzip_record import GzipRecord

_LEVELS = {XFL_SLOWEST: (9, 8), XFL_FASTEST: (1,)}


class GzipLayer:
    """Compresses content into a gzip file, and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Decompress the file, find the encoder that gives all of its bytes back, and keep its name."""
        content = self.look(outer, path).inner
        return Unwrapped(content, self.recognise(outer, content, path), proven=True)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Decompress the file into a nameless temporary one: nothing else tells how large its content is."""
        head = read_header(outer, path)
        return Unwrapped(spooled(member_content(outer, head.length, path), path.name), _record(head, outer.size, ""))

    def recognise(self, outer: Source, content: Source, path: Path) -> GzipRecord:
        """Find the encoder that gives all bytes of ``outer`` for ``content``."""
        head = read_header(outer, path)
        # short content is the same by gzip as by zlib, which needs no program
        names = candidates(_LEVELS.get(head.header.XFL, ()), first=ZLIB)
        records = (_record(head, outer.size, name) for name in names)
        return matching(outer, path, head.length, records, lambda record: GzipFile(content, record), "gzip")

    def wrap(self, inner: Source, record: GzipRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the compressed file as a source that is compressed while it is read from front to back."""
        return GzipFile(inner, record)

    def describe(self, record: GzipRecord) -> str:
        """Name the encoder and what the header says."""
        name = f", name {record.name}" if record.name is not None else ""
        encoder = f" by {record.deflate}" if record.deflate else ""
        return f"gzip{encoder}{name}"


def _record(head: GzipHeader, size: int, deflate: str) -> GzipRecord:
    return compact(
        GzipRecord(
            file_size=size,
            deflate=deflate,
            name=None if head.name is None else head.name.decode("latin-1"),
            mtime=head.header.MTIME,
            xfl=head.header.XFL,
            os=head.header.OS,
        )
    )


class GzipFile(ForwardFile):
    """A gzip file that is compressed while it is read."""

    def __init__(self, content: Source, record: GzipRecord) -> None:
        if not 0 <= record.file_size <= MAX_CONTENT:
            raise MismatchError("the gzip record holds impossible numbers")
        self._content = content
        self._head = _head(record)
        self._encoder = stream_encoder(record.deflate)
        super().__init__(record.file_size)

    def stream(self) -> Generator[bytes, None, None]:
        """Yield the file in pieces."""
        content = CheckedContent(self._content)
        yield self._head
        yield from self._encoder(iter(content))
        yield Trailer(CRC32=content.crc32, ISIZE=self._content.size % (1 << 32)).pack()


def _head(record: GzipRecord) -> bytes:
    try:
        name = b"" if record.name is None else record.name.encode("latin-1") + b"\0"
        header = Header(
            ID=MAGIC[:2],
            CM=CM_DEFLATE,
            FLG=Flag.FNAME if name else Flag(0),
            MTIME=record.mtime,
            XFL=record.xfl,
            OS=record.os,
        ).pack()
    except (ValueError, struct.error) as error:
        raise MismatchError(f"the gzip record holds impossible values: {error}") from error
    if 0 in name[:-1] or len(name) > MAX_NAME:
        raise MismatchError("the gzip record holds an impossible name")
    return header + name
