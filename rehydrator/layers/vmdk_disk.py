"""The disk inside a streamOptimized VMDK, and its compressed grains one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rehydrator.codecs.deflate import MAX_WBITS
from rehydrator.codecs.deflate_pool import Work
from rehydrator.codecs.inflating import inflate
from rehydrator.disk.extents import Data, Extent, ExtentMap, merge
from rehydrator.disk.recent import Recent
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.c_vmdk import SECTOR, GrainMarker
from rehydrator.layers.exactness import REWRITE
from rehydrator.layers.packed import Inflated
from rehydrator.layers.vmdk_read import VmdkStructure


class VmdkDisk(Source):
    """The disk inside a streamOptimized VMDK."""

    def __init__(self, outer: Source, structure: VmdkStructure, path: Path) -> None:
        self._grain_bytes = structure.record.grain_size * SECTOR
        self._positions = {item.grain: position for position, item in enumerate(structure.grains)}
        self.size = structure.capacity * SECTOR
        self.grains = StoredGrains(outer, structure, path)
        self._nonzero: ExtentMap | None = None
        self._recent = Recent(lambda position: self.grains.prepare(position)().content)

    def extents(self) -> Iterator[Extent]:
        """Yield the ranges of stored grains."""
        yield from merge(self._range(grain) for grain in sorted(self._positions))

    def _range(self, grain: int) -> Extent:
        start = grain * self._grain_bytes
        return Extent(start, min(self._grain_bytes, self.size - start))

    def nonzero(self) -> ExtentMap:
        """Decompress all grains once."""
        if self._nonzero is None:
            self._nonzero = super().nonzero()
        return self._nonzero

    def read(self, offset: int, length: int) -> Data:
        """Decompress the grains that the range touches; the rest is zero."""
        parts: list[Data] = []
        while length > 0:
            grain, inside = divmod(offset, self._grain_bytes)
            step = min(length, self._grain_bytes - inside)
            position = self._positions.get(grain)
            if position is not None:
                parts.append(memoryview(self._recent[position])[inside : inside + step])
            else:
                parts.append(bytes(step))
            offset, length = offset + step, length - step
        return parts[0] if len(parts) == 1 else b"".join(parts)


class StoredGrains:
    """The compressed grains of a file, in file order."""

    def __init__(self, outer: Source, structure: VmdkStructure, path: Path) -> None:
        self._outer = outer
        self._path = path
        self._grains = structure.grains
        self._grain_bytes = structure.record.grain_size * SECTOR
        self._disk_size = structure.capacity * SECTOR

    def __len__(self) -> int:
        return len(self._grains)

    def number_of(self, position: int) -> int:
        """Return the grain's number."""
        return self._grains[position].grain

    def room_of(self, position: int) -> int:
        """Return the size of the compressed grain."""
        return self._grains[position].size

    def prepare(self, position: int) -> Work[Inflated]:
        """Read a grain and return the work of decompressing it; the stream has to hold exactly the grain."""
        stored = self._grains[position]
        sectors = bytes(
            self._outer.read(
                stored.start * SECTOR, min(stored.sectors * SECTOR, self._outer.size - stored.start * SECTOR)
            )
        )
        packed = sectors[GrainMarker.SIZE : GrainMarker.SIZE + stored.size]
        behind = sectors[GrainMarker.SIZE + stored.size :]
        if any(behind):
            raise UnsupportedError(
                "VMDK with something behind a grain",
                path=self._path,
                offset=stored.offset + stored.size,
                expected="zeros",
                actual=behind[:16].hex(),
                hint=REWRITE,
            )
        expected = min(self._grain_bytes, self._disk_size - stored.grain * self._grain_bytes)

        def work() -> Inflated:
            made = inflate(packed, expected, MAX_WBITS)
            problem = made.problem or (f"{made.used} bytes compressed" if made.used != stored.size else "")
            if problem:
                raise CorruptError(
                    f"VMDK grain {stored.grain} can't be decompressed",
                    path=self._path,
                    offset=stored.offset,
                    expected=f"{expected} bytes, {stored.size} compressed",
                    actual=problem,
                )
            return Inflated(packed, made.content)

        return work
