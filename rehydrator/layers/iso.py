"""The ISO layer: an ISO 9660 image around the content of its files.

The inside are the sectors of all files one behind the other, so that content is found there at multiples of a sector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rehydrator.disk.composed import Joined
from rehydrator.disk.extents import Extent, ExtentMap
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import StoreDamagedError, UnsupportedError
from rehydrator.fs.iso9660.c_iso9660 import SECTOR_SIZE
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.layers.base import Unwrapped
from rehydrator.layers.exactness import reading
from rehydrator.layers.iso_record import IsoFile, IsoRecord

_MAX_STRUCTURE = 32 << 20  # bytes that are no file's; real ones have less than one MiB


class IsoLayer:
    """Takes the files out of an ISO 9660 image and puts them back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Split the image into files and everything else; nothing is computed, so that it is right by construction."""
        with reading(path):
            filesystem = IsoFilesystem(outer)
            record = IsoRecord(outer.size, _volume(filesystem), list(_apart(filesystem)))
            files, rest = _split(record)
            structure = sum(extent.length for extent in rest)
            if structure > _MAX_STRUCTURE:
                raise UnsupportedError(
                    "too much of this image belongs to no file",
                    expected=f"at most {_MAX_STRUCTURE} bytes",
                    actual=f"{structure} bytes",
                )
            tables = (b"".join(bytes(outer.read(*extent)) for extent in rest),)
            return Unwrapped(_Files(outer, files), record, tables)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Do the same: nothing about it takes long."""
        return self.unwrap(outer, path)

    def wrap(self, inner: Source, record: IsoRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the image with the sectors of ``inner``."""
        files, rest = _split(record)
        structure = BytesSource(tables[0] if tables else b"")
        for kind, source, extents in (("files", inner, files), ("other sectors", structure, rest)):
            needed = sum(extent.length for extent in extents)
            if source.size != needed:
                raise StoreDamagedError(
                    f"the {kind} of an ISO image have another size", expected=needed, actual=source.size
                )
        return _Image(_woven(files, inner, rest, structure))

    def describe(self, record: IsoRecord) -> str:
        """Name the volume and count its files."""
        return f"iso {record.volume}, {len(record.files)} files"


def places_inside(record: IsoRecord) -> Iterator[tuple[IsoFile, Extent]]:
    """Yield each file of an image with the place of its sectors in what lies inside the layer."""
    at = 0
    for file, sectors in zip(record.files, _split(record)[0], strict=True):
        yield file, Extent(at, sectors.length)
        at += sectors.length


def _volume(filesystem: IsoFilesystem) -> str:
    return filesystem.reader.primary.description.VolumeIdentifier.decode("latin-1").rstrip()


def _apart(filesystem: IsoFilesystem) -> Iterator[IsoFile]:
    """Yield the extents of all files in order, but for those that share sectors with an earlier one."""
    found = sorted((extent, node.path) for node in filesystem.files() for extent in node.extents if extent.length)
    at = 0
    for extent, path in found:
        if extent.offset >= at:
            yield IsoFile(path, extent.offset // SECTOR_SIZE, extent.length)
            at = -(-extent.end // SECTOR_SIZE) * SECTOR_SIZE


def _split(record: IsoRecord) -> tuple[list[Extent], list[Extent]]:
    """Return the sectors of files, and everything else. Raises StoreDamagedError for files that no image can have."""
    files: list[Extent] = []
    rest: list[Extent] = []
    at = 0
    for file in record.files:
        start = file.sector * SECTOR_SIZE
        stop = min(start + -(-file.length // SECTOR_SIZE) * SECTOR_SIZE, record.size)
        if file.length <= 0 or start < at or start + file.length > record.size:
            raise StoreDamagedError(f"impossible place of {file.path}", offset=start, actual=f"{file.length} bytes")
        if start > at:
            rest.append(Extent(at, start - at))
        files.append(Extent(start, stop - start))
        at = stop
    if record.size > at:
        rest.append(Extent(at, record.size - at))
    return files, rest


def _woven(files: Iterable[Extent], inner: Source, rest: Iterable[Extent], structure: Source) -> Iterator[Source]:
    """Yield windows on both sources in the order of the image."""
    ordered = sorted(
        [*((extent, inner) for extent in files), *((extent, structure) for extent in rest)], key=lambda item: item[0]
    )
    taken = {id(inner): 0, id(structure): 0}
    for extent, source in ordered:
        yield Window(source, taken[id(source)], extent.length)
        taken[id(source)] += extent.length


class _Files(Joined):
    """The sectors of all files, which are looked through once."""

    def __init__(self, outer: Source, places: Iterable[Extent]) -> None:
        super().__init__(Window(outer, *place) for place in places)
        self._known: ExtentMap | None = None

    def extents(self) -> Iterator[Extent]:
        """Yield everything: an image is dense."""
        if self.size:
            yield Extent(0, self.size)

    def nonzero(self) -> ExtentMap:
        """Scan the files once."""
        if self._known is None:
            self._known = super().nonzero()
        return self._known


class _Image(Joined):
    """The image that was put together; its parts need not be asked where they are zero."""

    def extents(self) -> Iterator[Extent]:
        """Yield everything: an image is dense."""
        if self.size:
            yield Extent(0, self.size)
