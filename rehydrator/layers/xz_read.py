"""Reading how a .xz file is built: its blocks, by the index at its end and the headers in front of them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rehydrator.codecs import c_xz
from rehydrator.codecs.c_xz import (
    FOOTER_MAGIC,
    HEADER_MAGIC,
    BlockHeader,
    Check,
    IndexRecord,
    StreamFooter,
    StreamHeader,
)
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.exactness import Cursor, reading

_MAX_INDEX = 1 << 20  # some 100,000 blocks


class Block(msgspec.Struct, frozen=True):
    """A block: where its data begins in the file, the data's size, and the size of its content."""

    at: int
    size: int
    content_size: int


class XzLayout(msgspec.Struct, frozen=True):
    """A .xz file of one stream, whose blocks have headers of one form; ``header`` is that of the first, if any."""

    check: Check
    header: BlockHeader | None
    blocks: list[Block]

    @property
    def block_size(self) -> int:
        """Content of each block but the last, or 0 where there are not two."""
        return self.blocks[0].content_size if len(self.blocks) > 1 else 0

    @property
    def sizes(self) -> list[int]:
        """Sizes of the blocks' data, where the headers hold them."""
        sized = self.header is not None and self.header.compressed_size is not None
        return [block.size for block in self.blocks] if sized else []


def _sized(header: BlockHeader) -> tuple[bool, bool]:
    """Tell which sizes a header holds."""
    return header.compressed_size is not None, header.uncompressed_size is not None


def read_layout(outer: Source, path: Path) -> XzLayout:
    """Read headers and index.

    Raises CorruptError for a damaged file, UnsupportedError for one that ``xz`` did not write in one go with a preset.
    """
    reader = _LayoutReader(outer)
    with reading(path, at=lambda: reader.at):
        return reader.read()


class _LayoutReader(Cursor):
    """Reads one file."""

    def __init__(self, outer: Source) -> None:
        super().__init__(outer, "xz")

    def read(self) -> XzLayout:
        """Read all of it."""
        check = self._check()
        records = self._index(check)
        headers: list[BlockHeader] = []
        blocks: list[Block] = []
        at = StreamHeader.SIZE
        for record in records:
            headers.append(self._block_header(at))
            blocks.append(self._block(at, headers[-1], record, check))
            at += record.unpadded_size + c_xz.padding(record.unpadded_size)
        forms = {(item.header_size, item.dictionary_size, _sized(item)) for item in headers}
        sizes = [block.content_size for block in blocks]
        if len(forms) > 1 or len(set(sizes[:-1])) > 1 or sizes[-1:] > sizes[:1]:
            raise UnsupportedError(
                "xz file with blocks of several sizes or forms",
                expected="one form, and one size but for the last block",
                actual=f"{len(forms)} forms, {len(set(sizes))} sizes",
            )
        return XzLayout(check, headers[0] if headers else None, blocks)

    def _index(self, check: Check) -> list[IndexRecord]:
        footer_at = self._outer.size - StreamFooter.SIZE
        footer = StreamFooter.parse(self.get(footer_at, StreamFooter.SIZE))
        if footer.footer_magic != FOOTER_MAGIC:
            raise CorruptError(
                "xz footer is not there: truncated, or with something behind it",
                offset=footer_at + StreamFooter.offset_of("footer_magic"),
                expected=FOOTER_MAGIC.hex(),
                actual=footer.footer_magic.hex(),
            )
        size = c_xz.index_size(footer)
        right = c_xz.stream_footer(check, size)
        if footer.pack() != right:
            raise CorruptError(
                "xz footer does not fit its own CRC32 or the header", expected=right.hex(), actual=footer.pack().hex()
            )
        if size > _MAX_INDEX:
            raise UnsupportedError(
                "xz file with too many blocks",
                offset=footer_at + StreamFooter.offset_of("backward_size"),
                expected=f"an index of at most {_MAX_INDEX} bytes",
                actual=f"{size} bytes",
            )
        records = c_xz.parse_index(self.get(footer_at - size, size))
        end = sum(item.unpadded_size + c_xz.padding(item.unpadded_size) for item in records)
        start = footer_at - size - end - StreamHeader.SIZE
        if start > 0 and self.get(start, len(HEADER_MAGIC)) == HEADER_MAGIC:
            raise UnsupportedError("xz file of several streams", expected="one stream", actual="one more before")
        self.at = footer_at - size
        if start:
            raise CorruptError("xz index tells of other blocks than there are", actual=end, expected=end + start)
        return records

    def _check(self) -> Check:
        header = StreamHeader.parse(self.get(0, min(StreamHeader.SIZE, self._outer.size)))
        if header.header_magic != HEADER_MAGIC:
            raise CorruptError(
                "not an xz file: wrong magic", expected=HEADER_MAGIC.hex(), actual=header.header_magic.hex()
            )
        kind = header.stream_flags[1]
        if kind not in set(Check):
            known = ", ".join(f"{item:d}" for item in Check)
            raise UnsupportedError(
                "xz file with an unknown kind of check",
                offset=StreamHeader.offset_of("stream_flags") + 1,
                expected=f"one of {known}",
                actual=kind,
            )
        right = c_xz.stream_header(Check(kind))
        if header.pack() != right:
            raise CorruptError("xz header does not fit its own CRC32", expected=right.hex(), actual=header.pack().hex())
        return Check(kind)

    def _block_header(self, at: int) -> BlockHeader:
        size = c_xz.block_header_size(self.get(at, 1)[0])
        header = c_xz.parse_block_header(self.get(at, size))
        if header is None:
            raise UnsupportedError("xz file with filters besides LZMA2", expected="LZMA2", actual="others")
        return header

    def _block(self, at: int, header: BlockHeader, record: IndexRecord, check: Check) -> Block:
        size = record.unpadded_size - header.header_size - check.size
        told = (header.compressed_size, header.uncompressed_size)
        for expected, found in zip((size, record.uncompressed_size), told, strict=True):
            if found not in (None, expected):
                raise CorruptError("xz index and block header tell different sizes", expected=found, actual=expected)
        if size <= 0 or record.uncompressed_size <= 0 or at + record.unpadded_size > self._outer.size:
            raise CorruptError(
                "impossible size in the xz index",
                expected="a block with data within the file",
                actual=f"{record.unpadded_size} bytes of {record.uncompressed_size} bytes of content",
            )
        return Block(at + header.header_size, size, record.uncompressed_size)
