"""The owner map of cpio archives: rootfs.img, and the images of an initramfs.

An initramfs is archives one behind the other, some of them compressed. Of an archive that is not, each member is a
file; a compressed one is a file as a whole, called by its number, such as ``/archive 2 (zstd)``.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.codecs.streams import end_of, stream_at
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError
from rehydrator.fs.cpio.archive import MAGICS, after_zeros, members
from rehydrator.fs.cpio.c_cpio import Header
from rehydrator.fs.place import Filesystem, Health, Kind, Place, cut


class Node(msgspec.Struct, frozen=True):
    """A member or a compressed archive: its mode as ``stat`` has it, and where its content lies."""

    path: str
    mode: int
    content: Extent


class _Segment(msgspec.Struct, frozen=True):
    """What begins at ``start`` and reaches to the next segment."""

    start: int
    kind: Kind
    name: str
    path: str = ""
    fields: tuple[FieldSpan, ...] = ()


class CpioFilesystem(Filesystem):
    """Archives of cpio's new format. Raises CorruptError where the first is damaged or there is none."""

    def __init__(self, source: Source) -> None:
        self.type = "cpio"
        self.source = source
        self.size = source.size
        self.nodes: dict[str, Node] = {}
        self._segments: list[_Segment] = []
        self._problems: list[Health] = []
        self._read()
        self._starts = [segment.start for segment in self._segments]

    def content(self, node: Node) -> Source:
        """Return what a member holds."""
        return Window(self.source, *node.content)

    def _read(self) -> None:
        at = number = 0
        while (at := self._gap(at)) < self.size:
            number += 1
            try:
                at = self._next(at, number)
            except CorruptError as error:
                if number == 1:
                    raise
                self._problems.append(Health(f"archive {number}", at, str(error)))
                self._segments.append(_Segment(at, Kind.UNKNOWN, "behind the archives"))
                return

    def _gap(self, at: int) -> int:
        following = after_zeros(self.source, at)
        if following > at:
            self._segments.append(_Segment(at, Kind.SLACK, "zeros behind an archive"))
        return following

    def _next(self, at: int, number: int) -> int:
        """Read the archive at byte ``at``; return where it ends."""
        if compression := stream_at(self.source, at):
            return self._stream(at, f"/archive {number} ({compression})")
        head = bytes(self.source.read(at, min(len(MAGICS[0]), self.size - at)))
        if head not in MAGICS:
            raise CorruptError("no archive", offset=at, expected="a cpio archive", actual=head)
        return self._archive(at)

    def _stream(self, at: int, path: str) -> int:
        end = end_of(self.source, at)
        self.nodes[path] = Node(path, stat.S_IFREG, Extent(at, end - at))
        self._segments.append(_Segment(at, Kind.FILE_DATA, f"data of {path}", path))
        return end

    def _archive(self, at: int) -> int:
        end = at
        found: list[_Segment] = []
        nodes: list[Node] = []
        for member in members(Window(self.source, at, self.size - at)):
            path = posixpath.join("/", posixpath.normpath(member.name))
            content = Extent(at + member.content.offset, member.content.length)
            spans = (*Header.FIELDS, FieldSpan("name", Header.SIZE, member.number("c_namesize")))
            name = "trailer" if member.trailer else f"header of {path}"
            found.append(_Segment(at + member.start, Kind.MEMBER_HEADER, name, "" if member.trailer else path, spans))
            if content.length:
                found.append(_Segment(content.offset, Kind.FILE_DATA, f"data of {path}", path))
            found.append(_Segment(content.end, Kind.SLACK, "padding"))
            if not member.trailer:
                nodes.append(Node(path, member.number("c_mode"), content))
            end = content.end
            if member.trailer:
                break
        self._segments += found
        self.nodes |= {node.path: node for node in nodes}
        return end

    # -- the map

    def places(self, ranges: Iterable[Extent]) -> Iterator[Place]:
        """Cut ordered ``ranges`` along headers and contents."""
        for number, extent in cut(ranges, self._starts, self.size):
            found = self._segments[number]
            offset = extent.offset - found.start if found.kind is Kind.FILE_DATA else 0
            yield Place(extent, found.start, found.kind, found.name, 0, found.path, offset, found.fields)

    def health(self) -> Iterator[Health]:
        """Tell what is no archive; sums over content are rare, and not looked at."""
        yield from self._problems
