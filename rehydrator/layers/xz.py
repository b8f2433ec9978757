"""The xz layer: files of one stream, as the program xz writes them with a preset, with one thread or several."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from rehydrator.codecs import c_xz, lzma2
from rehydrator.codecs.c_xz import BlockHeader, Check, IndexRecord, StreamHeader
from rehydrator.disk.source import Source
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.exactness import KEEP, first_difference
from rehydrator.layers.forward import ForwardFile
from rehydrator.layers.xz_blocks import EncodedBlocks, Shape
from rehydrator.layers.xz_content import xz_content
from rehydrator.layers.xz_proof import Proofs
from rehydrator.layers.xz_read import Block, XzLayout, read_layout
from rehydrator.layers.xz_record import PLAIN_HEADER, CheckName, XzRecord

_CHECK_NAMES: dict[Check, CheckName] = {
    Check.NONE: "none",
    Check.CRC32: "crc32",
    Check.CRC64: "crc64",
    Check.SHA256: "sha256",
}
_MAX_FILE = 1 << 44
_MAX_BLOCKS = 1 << 17
_MAX_HEADER = 64  # of a block with one filter: far more than xz writes


class XzLayer:
    """Compresses content into a .xz file, and back. Remembers which blocks it proved."""

    def __init__(self) -> None:
        self._proofs = Proofs()

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Decompress the file into a nameless temporary one, and find the encoder that gives its bytes back."""
        content = self.look(outer, path).inner
        content.nonzero()  # makes all of it, so that damage is not taken for another encoder
        return Unwrapped(content, self.recognise(outer, content, path), proven=True)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read how the file is cut into blocks; each is decompressed as far as it is read."""
        layout = read_layout(outer, path)
        return Unwrapped(xz_content(outer, layout, path), _record(layout, outer.size, ""))

    def recognise(self, outer: Source, content: Source, path: Path) -> XzRecord:
        """Find the encoder that gives all bytes of ``outer`` for ``content``.

        Blocks whose content was encoded before, for any file, are not encoded again.
        """
        layout = read_layout(outer, path)
        if sum(block.content_size for block in layout.blocks) != content.size:
            actual = sum(block.content_size for block in layout.blocks)
            raise UnsupportedError("xz file of another content", path=path, expected=content.size, actual=actual)
        names = lzma2.candidates(layout.header.dictionary_size) if layout.header else [XzRecord(0).encoder]
        closest, reached = "none", 0
        for name in names:
            record = _record(layout, outer.size, name)
            shape = _shape(content, record)
            differs_at = _frame_difference(outer, layout, XzFile(shape, record, EncodedBlocks(content, shape)))
            if differs_at is None:
                differs_at = self._proofs.difference(content, outer, shape, layout.blocks)
            if differs_at is None:
                return record
            if differs_at > reached:
                closest, reached = f"{name} up to byte {differs_at} of {outer.size}", differs_at
        raise UnsupportedError(
            "xz file of an unknown encoder",
            path=path,
            offset=reached,
            expected=f"one of {', '.join(names)}",
            actual=closest,
            hint=KEEP,
        )

    def wrap(self, inner: Source, record: XzRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the compressed file as a source that is compressed while it is read from front to back."""
        shape = _shape(inner, record)
        return XzFile(shape, record, EncodedBlocks(inner, shape))

    def describe(self, record: XzRecord) -> str:
        """Name the encoder and how the file is cut."""
        blocks = f", blocks of {record.block_size} bytes" if record.block_size else ""
        threads = ", as by several threads" if record.sizes else ""
        encoder = f" by {record.encoder}" if record.encoder else ""
        return f"xz{encoder}, {record.check}{blocks}{threads}"


def _record(layout: XzLayout, size: int, name: str) -> XzRecord:
    header = layout.header
    return compact(
        XzRecord(
            file_size=size,
            encoder=name,
            check=_CHECK_NAMES[layout.check],
            block_size=layout.block_size,
            header_size=header.header_size if header else PLAIN_HEADER,
            sizes=layout.sizes,
        )
    )


def _shape(content: Source, record: XzRecord) -> Shape:
    """Check a record's numbers, which may be forged, and return how the content is cut."""
    block_size = record.block_size or max(content.size, 1)
    possible = (
        0 <= record.file_size <= _MAX_FILE
        and block_size > 0
        and content.size // block_size < _MAX_BLOCKS
        and PLAIN_HEADER <= record.header_size <= _MAX_HEADER
    )
    if not possible:
        raise MismatchError("the xz record holds impossible numbers")
    shape = Shape(lzma2.encoder(record.encoder), Check[record.check.upper()], block_size, content.size)
    if record.sizes and (len(record.sizes) != shape.count or min(record.sizes) < 0):
        raise MismatchError("the xz record tells sizes of other blocks", expected=shape.count)
    return shape


def _frame_difference(outer: Source, layout: XzLayout, again: XzFile) -> int | None:
    """Return the first place in which headers, paddings or index depart from what ``again`` will hold; else None."""
    for at, expected in again.frame(layout.blocks):
        found = bytes(outer.read(at, min(len(expected), outer.size - at)))
        place = first_difference(expected, found)
        if place is not None:
            return at + place
    return None


class XzFile(ForwardFile):
    """A .xz file that is compressed while it is read."""

    def __init__(self, shape: Shape, record: XzRecord, blocks: EncodedBlocks) -> None:
        self._shape = shape
        self._record = record
        self._blocks = blocks
        super().__init__(record.file_size)

    def stream(self) -> Generator[bytes, None, None]:
        """Yield the file in pieces; raises MismatchError where a block does not get its recorded size."""
        yield c_xz.stream_header(self._shape.check)
        sizes = []
        for number in range(self._shape.count):
            size = yield from self._block(number)
            sizes.append(size)
        yield self._tail(sizes)

    def frame(self, blocks: Sequence[Block]) -> Iterator[tuple[int, bytes]]:
        """Yield all but the blocks' data and checks, with their places, for data that lies as ``blocks`` tells."""
        yield 0, c_xz.stream_header(self._shape.check)
        end = StreamHeader.SIZE
        for number, block in enumerate(blocks):
            yield end, self._header(number)
            yield block.at + block.size, bytes(c_xz.padding(block.size))
            end = block.at + block.size + c_xz.padding(block.size) + self._shape.check.size
        yield end, self._tail([block.size for block in blocks])

    def _header(self, number: int) -> bytes:
        told = self._record.sizes[number] if self._record.sizes else None
        header = BlockHeader(
            header_size=self._record.header_size,
            dictionary_size=self._shape.encoder.dictionary_size,
            compressed_size=told,
            uncompressed_size=None if told is None else self._shape.length(number),
        )
        try:
            return c_xz.pack_block_header(header)
        except ValueError as error:
            raise MismatchError(f"the xz record holds impossible values: {error}") from error

    def _block(self, number: int) -> Generator[bytes, None, int]:
        """Yield a block; return the size of its data."""
        yield self._header(number)
        size = 0
        data = self._blocks.data(number)
        for piece in data:
            size += len(piece)
            yield piece
        told = self._record.sizes[number] if self._record.sizes else size
        if told != size:
            raise MismatchError("a block does not compress to its recorded size", expected=told, actual=size)
        yield bytes(c_xz.padding(size)) + data.check
        return size

    def _tail(self, sizes: Sequence[int]) -> bytes:
        """Return index and footer for data of these sizes."""
        frame = self._record.header_size + self._shape.check.size
        index = c_xz.pack_index(
            [IndexRecord(frame + size, self._shape.length(number)) for number, size in enumerate(sizes)]
        )
        return index + c_xz.stream_footer(self._shape.check, len(index))
