"""The content of a .xz file, of which only what is read is decompressed: by blocks, and in each from its beginning."""

from __future__ import annotations

import functools
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

from rehydrator.codecs import c_xz
from rehydrator.codecs.c_xz import IndexRecord
from rehydrator.disk.extents import BLOCK, CHUNK, Data
from rehydrator.disk.on_demand import OnDemand, Section
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.layers.xz_read import Block, XzLayout


def xz_content(outer: Source, layout: XzLayout, path: Path) -> OnDemand:
    """Return the content; reading it raises CorruptError for a damaged block."""
    alone = layout.block_size % BLOCK == 0
    runs = [[block] for block in layout.blocks] if alone else [layout.blocks]
    sections = []
    at = 0
    for blocks in runs:
        size = sum(block.content_size for block in blocks)
        sections.append(Section(at, size, functools.partial(_decompressed, outer, layout, blocks, path)))
        at += size
    return OnDemand(sections, path.name)


def _decompressed(outer: Source, layout: XzLayout, blocks: Sequence[Block], path: Path) -> Iterator[Data]:
    """Yield the content of blocks that follow each other; liblzma compares their checks."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    promised, made = sum(block.content_size for block in blocks), 0
    for at, feed in _stream(outer, layout, blocks):
        rest = feed
        try:
            while len(rest) or not (decoder.needs_input or decoder.eof):
                piece = decoder.decompress(rest, CHUNK)
                made += len(piece)
                if made > promised:  # liblzma compares sizes at the end only
                    raise _other_size("more", blocks[0].at, promised, made, path)
                yield piece
                rest = b""
        except lzma.LZMAError as error:
            raise CorruptError(
                "xz stream is damaged", path=path, offset=at, expected="LZMA2 data and its check", actual=str(error)
            ) from error
    if made != promised:
        raise _other_size("less", blocks[0].at, promised, made, path)


def _other_size(what: str, at: int, promised: int, made: int, path: Path) -> CorruptError:
    return CorruptError(
        f"xz blocks hold {what} than the index says",
        path=path,
        offset=at,
        expected=f"{promised} bytes of content",
        actual=f"{made} or more" if made > promised else made,
    )


def _stream(outer: Source, layout: XzLayout, blocks: Sequence[Block]) -> Iterator[tuple[int, Data]]:
    """Yield a whole .xz file that holds these blocks only, in pieces with their place in ``outer``."""
    header_size = layout.header.header_size if layout.header else 0
    start = at = blocks[0].at - header_size
    yield start, c_xz.stream_header(layout.check)
    records = []
    for block in blocks:
        unpadded = header_size + block.size + layout.check.size
        records.append(IndexRecord(unpadded, block.content_size))
        at += unpadded + c_xz.padding(unpadded)
    for place in range(start, at, CHUNK):
        yield place, outer.read(place, min(CHUNK, at - place))
    index = c_xz.pack_index(records)
    yield at, index + c_xz.stream_footer(layout.check, len(index))
