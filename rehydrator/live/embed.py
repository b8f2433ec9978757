"""The embed areas of a live ISO, where they are and what is in them, and the parts of its miniso.dat."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.codecs.streams import content, stream_at
from rehydrator.disk.extents import Extent, outside
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import RehydratorError
from rehydrator.fs.cpio.archive import members
from rehydrator.fs.iso9660.iso9660 import Iso9660, Node
from rehydrator.live.c_cdboot import CDBOOT, COMMAND_LINE, COMMAND_LINE_SIZE, PARMAREA_AT, Parmarea
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

_MAX_PIECES = 64  # of up to one MiB: what is read of a config that says that it is compressed

KARGS_AREA = "embedded kernel arguments"
IGNITION_AREA = "embedded Ignition config"
AREA_HEADER = "embed area header"
MINISO = "minimal ISO in miniso.dat"
BOOT_IMAGE = "part of an s390x boot image"
BOOT_PARAMETERS = "parameters of an s390x boot image"
EMBEDDED = frozenset({KARGS_AREA, IGNITION_AREA})
IN_FILES = EMBEDDED | {MINISO, BOOT_IMAGE, BOOT_PARAMETERS}


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
        rooms = (*self._kargs(), *self._ignition(), *self._headers(), *self._miniso())
        found = (*rooms, *self._boot_image([item.extent for item in rooms]))
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

    def ignition_files(self, path: str) -> list[str] | None:
        """Return the names of the files that are embedded beside kernel arguments, None where they can't be told."""
        config = self.ignition_config(path)
        if config is None:
            return None
        try:
            packed = BytesSource(config)
            if stream_at(packed):
                packed = BytesSource(b"".join(itertools.islice(content(packed), _MAX_PIECES)))
            return [item.name for item in members(packed) if not item.trailer] if config else []
        except RehydratorError:
            return None

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

    # -- the file that s390x starts from

    def _boot_image(self, rooms: list[Extent]) -> Iterator[Area]:
        """Yield kernel, parameters and initramfs of cdboot.img, but for the rooms in them."""
        node = self._iso.find(CDBOOT)
        place = _inside(node, PARMAREA_AT, Parmarea.SIZE)
        if node is None or place is None:
            return
        told = Parmarea.parse(self._source.read(*place))
        line = Extent(COMMAND_LINE, COMMAND_LINE_SIZE)
        if told.initrd_start < line.end or told.initrd_start + told.initrd_size > node.size:
            return
        start = node.extents[0].offset
        yield Area(place, BOOT_PARAMETERS, f"parmarea of {node.path}", node.path, Parmarea.FIELDS)
        parts = (
            (Extent(0, PARMAREA_AT), BOOT_IMAGE, "kernel"),
            (line, BOOT_PARAMETERS, "kernel arguments"),
            (Extent(line.end, told.initrd_start - line.end), BOOT_IMAGE, "kernel"),
            (Extent(told.initrd_start, told.initrd_size), BOOT_IMAGE, "initramfs"),
        )
        for part, structure, name in parts:
            for piece in outside([Extent(start + part.offset, part.length)], sorted(rooms)):
                yield Area(piece, structure, f"{name} in {node.path}", node.path)

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
