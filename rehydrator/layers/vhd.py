"""The VHD layer: fixed disks, which are a raw disk with a footer behind it, and dynamic ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.disk.extents import Data, Extent, ExtentMap
from rehydrator.disk.source import Source, Window
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.block_runs import nonzero_runs
from rehydrator.layers.c_vhd import DiskType, Footer
from rehydrator.layers.exactness import REWRITE, check_exact, reading
from rehydrator.layers.vhd_dynamic import DynamicImage, read_dynamic
from rehydrator.layers.vhd_footer import footer_bytes, footer_record, read_footer, wrong_field
from rehydrator.layers.vhd_record import DynamicVhd, VhdRecord


class VhdLayer:
    """Wraps a disk into a VHD and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the structure and check that :meth:`wrap` gives it back; the disk is right by construction."""
        found = self.look(outer, path)
        inner, record = found.inner, found.record
        if record.dynamic is not None:
            record = msgspec.structs.replace(record, dynamic=_with_usual_blocks(record.dynamic, inner))
        with reading(path):
            again = _image(inner, record)
        check_exact("VHD", outer, again, again.computed(), path)
        return Unwrapped(inner, record)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the structure."""
        with reading(path, REWRITE):
            return self._look(outer, path)

    def _look(self, outer: Source, path: Path) -> Unwrapped:
        footer = read_footer(outer, path)
        at = outer.size - Footer.SIZE
        record = footer_record(footer, at)
        if footer.disk_type == DiskType.DYNAMIC:
            dynamic, inner = read_dynamic(outer, footer, path)
            return Unwrapped(inner, compact(msgspec.structs.replace(record, dynamic=dynamic)))
        if footer.current_size != at:
            expected = f"{at}, the bytes before the footer"
            raise wrong_field(Footer, "current_size", at, path, expected, footer.current_size)
        return Unwrapped(_Disk(outer, at), compact(record))

    def wrap(self, inner: Source, record: VhdRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the VHD around ``inner``."""
        return _image(inner, record)

    def describe(self, record: VhdRecord) -> str:
        """Name kind and creator."""
        kind = "fixed" if record.dynamic is None else "dynamic"
        return f"{kind} vhd by {record.creator_application.strip()} {'.'.join(map(str, record.creator_version))}"


def _with_usual_blocks(dynamic: DynamicVhd, disk: Source) -> DynamicVhd:
    """Leave out which blocks are allocated where that follows from the disk."""
    if dynamic.blocks == list(nonzero_runs(disk.nonzero(), dynamic.block_size)):
        dynamic = msgspec.structs.replace(dynamic, blocks="nonzero")
    return compact(dynamic)


def _image(disk: Source, record: VhdRecord) -> FixedImage | DynamicImage:
    return FixedImage(disk, record) if record.dynamic is None else DynamicImage(disk, record, record.dynamic)


class _Disk(Window):
    """The disk before the footer, which is looked through once."""

    def __init__(self, outer: Source, size: int) -> None:
        super().__init__(outer, 0, size)
        self._known: ExtentMap | None = None

    def nonzero(self) -> ExtentMap:
        """Scan the disk once."""
        if self._known is None:
            self._known = super().nonzero()
        return self._known


class FixedImage(Source):
    """A disk with its footer."""

    def __init__(self, disk: Source, record: VhdRecord) -> None:
        self._disk = disk
        self.size = disk.size + Footer.SIZE
        self.footer = footer_bytes(record, disk.size)

    def extents(self) -> Iterator[Extent]:
        """Yield the disk's extents and the footer."""
        yield from self._disk.extents()
        yield Extent(self._disk.size, Footer.SIZE)

    def read(self, offset: int, length: int) -> Data:
        """Read the disk, then the footer."""
        held = max(min(length, self._disk.size - offset), 0)
        if held == length:
            return self._disk.read(offset, length)
        start = max(offset - self._disk.size, 0)
        tail = self.footer[start : start + length - held]
        return bytes(self._disk.read(offset, held)) + tail if held else tail

    def computed(self) -> Iterator[Extent]:
        """Yield the footer's range."""
        yield Extent(self._disk.size, Footer.SIZE)
