"""The content of a squashfs file system's files."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path

from rehydrator.disk.extents import Data, Extent, merge
from rehydrator.disk.recent import Recent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.fs.squashfs.inflate import inflate
from rehydrator.fs.squashfs.plan import Piece, pieces_in_order
from rehydrator.fs.squashfs.tables import Opened


class FilesContent(Source):
    """The content of all files, decompressed while it is read; ``path`` names the file system in errors."""

    def __init__(self, opened: Opened, path: Path) -> None:
        self.size = opened.plan.size
        self._opened = opened
        self._path = path
        self._blocks = opened.plan.blocks
        self._pieces = pieces_in_order(opened.plan)
        self._recent = Recent(self.block)

    def block(self, number: int) -> bytes:
        """Return the content of a block; raises CorruptError for a damaged one."""
        block = self._blocks[number]
        stored = bytes(self._opened.outer.read(block.start, block.size))
        try:
            content = inflate(self._opened.compression, stored, block.length) if block.packed else stored
        except CorruptError as error:
            raise error.located(self._path, block.start) from error
        if len(content) != block.length:
            raise CorruptError(
                "a block of another size",
                path=self._path,
                offset=block.start,
                expected=f"{block.length} bytes",
                actual=f"{len(content)} bytes",
            )
        return content

    def extents(self) -> Iterator[Extent]:
        """Yield the pieces; the rest are holes, and what fills up to the next file."""
        yield from merge(Extent(piece.place, piece.length) for piece, _ in self._pieces)

    def read(self, offset: int, length: int) -> Data:
        """Gather the pieces of the range."""
        made = bytearray(length)
        end = offset + length
        for piece, number in self._within(offset, end):
            start, stop = max(piece.place, offset), min(piece.place + piece.length, end)
            inside = piece.offset + start - piece.place
            made[start - offset : stop - offset] = self._recent[number][inside : inside + stop - start]
        return bytes(made)

    def _within(self, start: int, end: int) -> Iterator[tuple[Piece, int]]:
        index = max(bisect.bisect_right(self._pieces, start, key=lambda item: item[0].place) - 1, 0)
        while index < len(self._pieces) and self._pieces[index][0].place < end:
            if self._pieces[index][0].place + self._pieces[index][0].length > start:
                yield self._pieces[index]
            index += 1
