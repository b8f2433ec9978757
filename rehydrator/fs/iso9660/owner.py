"""The owner map of an ISO 9660 image: the name of every byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.fs.iso9660.c_iso9660 import SECTOR_SIZE, SYSTEM_AREA
from rehydrator.fs.iso9660.iso9660 import Iso9660, Node
from rehydrator.fs.place import Filesystem, Health, Kind, Place, cut


class _Segment(msgspec.Struct, frozen=True, order=True):
    """Bytes of one owner; ``origin`` is where its structure begins, ``offset`` the first byte's place in the file."""

    start: int
    end: int
    kind: Kind
    name: str
    path: str = ""
    origin: int = 0
    offset: int = 0
    fields: tuple[FieldSpan, ...] = ()


class IsoFilesystem(Filesystem):
    """ISO 9660. Raises CorruptError on opening what is none; after that damage is only reported."""

    type = "iso9660"

    def __init__(self, source: Source) -> None:
        self.reader = Iso9660(source)
        self.size = source.size

    def files(self) -> Iterator[Node]:
        """Yield the files of all volumes, each content once: those of the primary volume first."""
        seen: set[tuple[Extent, ...]] = set()
        for volume in sorted(self.reader.volumes, key=lambda item: item is not self.reader.primary):
            for node in volume.nodes.values():
                if not node.directory and node.size and node.extents not in seen:
                    seen.add(node.extents)
                    yield node

    # -- the map

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along structures."""
        segments, starts = self._map
        for number, extent in cut(ranges, starts, self.size):
            found = segments[number]
            offset = found.offset + extent.offset - found.start if found.path else 0
            yield Place(extent, found.origin, found.kind, found.name, 0, found.path, offset, found.fields)

    @cached_property
    def _map(self) -> tuple[list[_Segment], list[int]]:
        segments = list(self._without_gaps(sorted(self._owned())))
        return segments, [segment.start for segment in segments]

    def _owned(self) -> Iterator[_Segment]:
        yield _segment(Extent(0, min(SYSTEM_AREA, self.size)), Kind.SYSTEM_AREA, "system area")
        for item in self.reader.structures:
            yield _segment(item.extent, item.kind, item.name, item.path, item.fields)
        structures = {item.extent.offset for item in self.reader.structures}
        for node in self.files():
            offset = 0
            for extent in node.extents:
                if extent.offset in structures:  # the boot catalog has a name in most images
                    continue
                yield _Segment(
                    extent.offset, extent.end, Kind.FILE_DATA, f"data of {node.path}", node.path, extent.offset, offset
                )
                offset += extent.length
                if slack := -extent.end % SECTOR_SIZE:
                    place = Extent(extent.end, min(slack, self.size - extent.end))
                    yield _segment(place, Kind.SLACK, f"slack behind the end of {node.path}", node.path)

    def _without_gaps(self, segments: Iterable[_Segment]) -> Iterator[_Segment]:
        """Cut what overlaps, which only damaged images do, and name what nobody owns."""
        at = 0
        for segment in segments:
            if segment.end <= max(at, segment.start):
                continue
            if segment.start > at:
                yield from self._unowned(at, segment.start)
                at = segment.start
            cut = at - segment.start
            yield msgspec.structs.replace(segment, start=at, offset=segment.offset + cut)
            at = segment.end
        yield from self._unowned(at, self.size)

    def _unowned(self, start: int, end: int) -> Iterator[_Segment]:
        border = min(max(self.reader.volume_size, start), end)
        if start < border:
            yield _segment(Extent(start, border - start), Kind.FREE, "unused sectors")
        if border < end:
            yield _segment(Extent(border, end - border), Kind.SLACK, "behind the volume")

    # -- health

    def health(self) -> Iterator[Health]:
        """Check what can be checked: the format has no checksums but that of the boot catalog."""
        yield from self.reader.problems
        if self.reader.volume_size > self.size:
            missing = self.reader.volume_size - self.size
            yield Health("image", self.size, f"truncated: {missing} bytes are missing")


def _segment(extent: Extent, kind: Kind, name: str, path: str = "", fields: tuple[FieldSpan, ...] = ()) -> _Segment:
    return _Segment(extent.offset, extent.end, kind, name, path, extent.offset, 0, fields)
