"""Reading a streamOptimized VMDK that was written as a stream: its grain directory and a footer are at its end.

VMware's products write such files. Each grain table stands behind its grains, with a marker before it; the footer is
the header once more, with the place of the directory. They are read, not written again: the order of grains and tables
is the writer's own.
"""

from __future__ import annotations

import array
from pathlib import Path

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError
from rehydrator.layers.c_vmdk import (
    ENTRY_SIZE,
    GD_AT_END,
    GTE_ZEROED,
    NUM_GTES_PER_GT,
    SECTOR,
    Flag,
    MarkerType,
    MetadataMarker,
    SparseExtentHeader,
)
from rehydrator.layers.exactness import REWRITE, reading
from rehydrator.layers.vmdk_read import Reader, VmdkStructure

_FOOTER = -2  # sectors from the end; its marker is before it, the end of the stream behind it


def is_trailing(outer: Source) -> bool:
    """Tell whether the header says that the directory is at the end."""
    return outer.size >= SparseExtentHeader.SIZE and _header(outer).gdOffset == GD_AT_END


def read_trailing(outer: Source, path: Path) -> VmdkStructure:
    """Read and check such a file, from whose record no file can be written.

    Raises UnsupportedError for other features that are not read and CorruptError for a damaged file.
    """
    with reading(path, REWRITE):
        return _TrailingReader(outer, path).read()


def _header(outer: Source) -> SparseExtentHeader:
    return SparseExtentHeader.parse(outer.read(0, SparseExtentHeader.SIZE))


class _TrailingReader(Reader):
    """Takes the directory's place from the footer; grains need not touch each other."""

    def read(self) -> VmdkStructure:
        header = _header(self._outer)
        self._check_kind(header.replaced(gdOffset=0, flags=header.flags | Flag.REDUNDANT_GRAIN_TABLE))
        footer = self._footer(header)
        self._check_header(footer)
        grains = -(-footer.capacity // footer.grainSize)
        tables = -(-grains // NUM_GTES_PER_GT)
        directory = self._words("grain directory", footer.gdOffset, tables)

        def place_of(grain: int) -> int:
            return directory[grain // NUM_GTES_PER_GT] * SECTOR + grain % NUM_GTES_PER_GT * ENTRY_SIZE

        stored = self._grains(self._tables(directory), footer, place_of)
        return VmdkStructure(self._record(footer), footer.capacity, stored)

    def _footer(self, header: SparseExtentHeader) -> SparseExtentHeader:
        """Read the footer and compare it with the header, which differs in the directory's place only."""
        at = self._outer.size + _FOOTER * SECTOR
        if at < 2 * SECTOR or self._outer.size % SECTOR:
            raise self._cut_off()
        marker = MetadataMarker.parse(self._outer.read(at - SECTOR, MetadataMarker.SIZE))
        end = MetadataMarker.parse(self._outer.read(at + SECTOR, MetadataMarker.SIZE))
        if (marker.size, marker.type) != (0, MarkerType.FOOTER) or end.pack() != bytes(SECTOR):
            raise self._cut_off()
        footer = SparseExtentHeader.parse(self._outer.read(at, SparseExtentHeader.SIZE))
        for span in SparseExtentHeader.FIELDS:
            ours, theirs = getattr(header, span.name), getattr(footer, span.name)
            if span.name != "gdOffset" and ours != theirs:
                raise CorruptError(
                    f"VMDK {span.name} of the footer is another than the header's",
                    path=self._path,
                    offset=at + SparseExtentHeader.offset_of(span.name),
                    expected=ours.hex() if isinstance(ours, bytes) else ours,
                    actual=theirs.hex() if isinstance(theirs, bytes) else theirs,
                )
        return footer

    def _cut_off(self) -> CorruptError:
        return CorruptError(
            "VMDK does not end in a footer",
            path=self._path,
            offset=max(self._outer.size + (_FOOTER - 1) * SECTOR, 0),
            expected="a footer with its marker and the end of the stream",
            actual=f"the end of the file at {self._outer.size:#x}",
        )

    def _tables(self, directory: array.array[int]) -> array.array[int]:
        """Return the entries of all grain tables; a table that is not there has none."""
        entries = array.array("I")
        for sector in directory:
            entries.extend(self._words("grain table", sector, NUM_GTES_PER_GT) if sector else [0] * NUM_GTES_PER_GT)
        return entries

    def _check_place(self, sector: int, at: int, place: int) -> None:
        if sector <= at or sector == GTE_ZEROED:
            super()._check_place(sector, at, place)
