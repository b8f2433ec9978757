"""The embed areas of a live ISO, where they are and what is in them, and the parts of its miniso.dat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source
from rehydrator.errors import RehydratorError
from rehydrator.fs.iso9660.iso9660 import Iso9660, Node
from rehydrator.live.c_embed import (
    IGNITION_FILE,
    IGNITION_HEADER_AT,
    IGNITION_INFO,
    IGNITION_MAGIC,
    KARGS_HEADER_AT,
    KARGS_INFO,
    KARGS_MAGIC,
    MAX_INFO,
    MAX_KARGS,
    USUAL_END,
    USUAL_PAD,
    IgnitionHeader,
    IgnitionInfo,
    KargsHeader,
    KargsInfo,
)
from rehydrator.live.miniso import miniso_node, read_miniso

T = TypeVar("T")

KARGS_AREA = "embedded kernel arguments"
IGNITION_AREA = "embedded Ignition config"
AREA_HEADER = "embed area header"
MINISO = "minimal ISO in miniso.dat"
EMBEDDED = frozenset({KARGS_AREA, IGNITION_AREA})
IN_FILES = EMBEDDED | {MINISO}


class Area(msgspec.Struct, frozen=True):
    """A structure of the image at ``extent``, in bytes of the image; ``path`` is the file that it is part of."""

    extent: Extent
    structure: str
    name: str
    path: str = ""
    fields: tuple[FieldSpan, ...] = ()
    pad: str = USUAL_PAD
    end: str = USUAL_END


class EmbedAreas:
    """The embed areas of an image, in order; none where it has no room for anything, or tells of it wrongly."""

    def __init__(self, source: Source, iso: Iso9660) -> None:
        self._source = source
        self._iso = iso
        found = (*self._kargs(), *self._ignition(), *self._headers(), *self._miniso())
        self.areas = sorted(
            dict.fromkeys(item for item in found if item.extent.length > 0), key=lambda item: item.extent
        )

    def kernel_arguments(self, path: str) -> str | None:
        """Return the kernel arguments in a file, None where it has no room for them."""
        area = self._area(path, KARGS_AREA)
        if area is None:
            return None
        text = bytes(self._source.read(*area.extent)).decode("utf-8", "replace").rstrip(area.pad)
        return text.rstrip(area.end).strip()

    def ignition_config(self, path: str) -> bytes | None:
        """Return what is embedded in a file beside kernel arguments, empty for nothing, None where there is no room."""
        area = self._area(path, IGNITION_AREA)
        return None if area is None else bytes(self._source.read(*area.extent)).rstrip(b"\0")

    def _area(self, path: str, structure: str) -> Area | None:
        return next((item for item in self.areas if (item.path, item.structure) == (path, structure)), None)

    # -- documents

    def _document(self, identifier: str, kind: type[T]) -> T | None:
        node = self._iso.find(identifier)
        if node is None or node.size > MAX_INFO:
            return None
        try:
            return msgspec.json.decode(self._iso.content(node), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):  # msgspec leaves the latter as it is
            return None

    def _node(self, path: str) -> Node | None:
        wanted = "/" + path.strip("/")
        return self._iso.nodes.get(wanted) or self._iso.find(wanted.upper())

    def _kargs(self) -> Iterator[Area]:
        info = self._document(KARGS_INFO, KargsInfo)
        if info is None or not 0 < info.size <= MAX_KARGS:
            return
        for file in info.files:
            node = self._node(file.path)
            place = _inside(node, file.offset, info.size)
            if node is not None and place is not None:
                name = f"kernel arguments in {node.path}"
                yield Area(place, KARGS_AREA, name, node.path, (), file.pad or USUAL_PAD, file.end or USUAL_END)

    def _ignition(self) -> Iterator[Area]:
        info = self._document(IGNITION_INFO, IgnitionInfo) or IgnitionInfo(IGNITION_FILE)
        node = self._node(info.file)
        if node is None:
            return
        length = node.size - info.offset if info.length is None else info.length
        place = _inside(node, info.offset, length)
        if place is not None:
            yield Area(place, IGNITION_AREA, f"Ignition config in {node.path}", node.path)

    # -- the minimal ISO

    def _miniso(self) -> Iterator[Area]:
        node = miniso_node(self._iso)
        if node is None or len(node.extents) != 1:
            return
        try:
            found = read_miniso(self._iso.content(node))
        except RehydratorError:
            return
        names = ("header", f"table of {len(found.content.table)} files", "digest", "packed image")
        start = 0
        for name, end in zip(names, found.ends, strict=True):
            place = Extent(node.extents[0].offset + start, end - start)
            yield Area(place, MINISO, f"{name} in {node.path}", node.path)
            start = end

    # -- headers in the system area

    def _headers(self) -> Iterator[Area]:
        if self._source.size < IGNITION_HEADER_AT + IgnitionHeader.SIZE:
            return
        ignition = IgnitionHeader.parse(self._source.read(IGNITION_HEADER_AT, IgnitionHeader.SIZE))
        if ignition.Magic != IGNITION_MAGIC:
            return
        place = Extent(IGNITION_HEADER_AT, IgnitionHeader.SIZE)
        yield Area(place, AREA_HEADER, "header of the room for an Ignition config", "", IgnitionHeader.FIELDS)
        yield from self._told(Extent(ignition.Offset, ignition.Length), IGNITION_AREA, "Ignition config")
        kargs = KargsHeader.parse(self._source.read(KARGS_HEADER_AT, KargsHeader.SIZE))
        if kargs.Magic != KARGS_MAGIC or kargs.Length > MAX_KARGS:
            return
        place = Extent(KARGS_HEADER_AT, KargsHeader.SIZE)
        yield Area(place, AREA_HEADER, "header of the room for kernel arguments", "", KargsHeader.FIELDS)
        for offset in kargs.offsets:
            yield from self._told(Extent(offset, kargs.Length), KARGS_AREA, "kernel arguments")

    def _told(self, extent: Extent, structure: str, what: str) -> Iterator[Area]:
        """Yield the area that a header tells of, if it lies in a file."""
        for node in self._iso.nodes.values():
            held = node.extents[0]
            if not node.directory and held.offset <= extent.offset and extent.end <= held.end:
                yield Area(extent, structure, f"{what} in {node.path}", node.path)
                return


def _inside(node: Node | None, offset: int, length: int) -> Extent | None:
    """Return where a part of a file lies in the image; files in several extents have no areas."""
    if (
        node is None
        or node.directory
        or len(node.extents) != 1
        or offset < 0
        or length <= 0
        or offset + length > node.size
    ):
        return None
    return Extent(node.extents[0].offset + offset, length)
