"""Reading an ISO 9660 image: its volumes, their directories and files, and the boot catalog."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.composed import Joined
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.iso9660.c_iso9660 import (
    BOTH_NAMES,
    CATALOG_ENTRY,
    EL_TORITO,
    SECTION_HEADERS,
    SECTOR_SIZE,
    STANDARD_IDENTIFIER,
    SYSTEM_AREA,
    BootEntry,
    BootRecord,
    DescriptorType,
    DirectoryRecord,
    FileFlag,
    SectionHeader,
    ValidationEntry,
    VolumeDescription,
    VolumeDescriptor,
)
from rehydrator.fs.iso9660.system_use import SystemUse, read_system_use
from rehydrator.fs.place import Health, Kind

_MAX_DESCRIPTORS = 64
_MAX_DIRECTORIES = 64 << 20  # bytes of all directories together: some million files
_SIZE = DirectoryRecord.SIZE


class Node(msgspec.Struct, frozen=True):
    """A file or directory: its path, its path by ISO identifiers without versions, and where its content lies."""

    path: str
    identifier: str
    directory: bool
    extents: tuple[Extent, ...]
    symlink: bool = False

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(extent.length for extent in self.extents)


class Structure(msgspec.Struct, frozen=True):
    """A structure of the image; ``fields`` are relative to its start, ``path`` is the file that it serves."""

    extent: Extent
    kind: Kind
    name: str
    path: str = ""
    fields: tuple[FieldSpan, ...] = ()


class Volume(msgspec.Struct, frozen=True):
    """A volume descriptor at byte ``offset`` with the files of its tree by path."""

    offset: int
    description: VolumeDescription
    nodes: dict[str, Node]


def is_iso9660(source: Source) -> bool:
    """Tell whether a volume descriptor lies where an image begins."""
    if source.size < SYSTEM_AREA + VolumeDescriptor.SIZE:
        return False
    return (
        VolumeDescriptor.parse(source.read(SYSTEM_AREA, VolumeDescriptor.SIZE)).StandardIdentifier
        == STANDARD_IDENTIFIER
    )


class Iso9660:
    """An image in ``source``.

    Raises CorruptError for one without a primary volume, UnsupportedError for blocks of another size; later damage is
    in ``problems``. ``structures`` are all that are no content of files, in no order.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size = source.size
        self.problems: list[Health] = []
        self.structures: list[Structure] = []
        self._walked: set[int] = set()
        self._budget = _MAX_DIRECTORIES
        self.volumes = [
            Volume(offset, description, self._walk(description)) for offset, description in self._descriptions()
        ]
        primary = [item for item in self.volumes if item.description.VolumeDescriptorType == DescriptorType.PRIMARY]
        if not primary:
            raise CorruptError(
                "no primary volume descriptor", offset=SYSTEM_AREA, expected=STANDARD_IDENTIFIER.decode(), actual="none"
            )
        self.primary = primary[0]

    @property
    def nodes(self) -> dict[str, Node]:
        """Files and directories of the primary volume by path."""
        return self.primary.nodes

    @property
    def volume_size(self) -> int:
        """Bytes that the primary volume descriptor counts."""
        return self.primary.description.VolumeSpaceSize * SECTOR_SIZE

    def find(self, identifier: str) -> Node | None:
        """Return the file with this path by ISO identifiers, such as ``/COREOS/KARGS.JSO``, in any case of letters."""
        return next((node for node in self.nodes.values() if node.identifier.upper() == identifier), None)

    def source(self, node: Node) -> Source:
        """Return the content of a file as far as the image has it, to be read piece by piece."""
        return Joined(Window(self._source, *self._within(extent, node.path)) for extent in node.extents)

    def content(self, node: Node) -> bytes:
        """Return the content of a file."""
        return b"".join(self._read(extent.offset, extent.length) for extent in node.extents)

    def _read(self, offset: int, length: int) -> bytes:
        length = max(min(length, self.size - offset), 0)
        return bytes(self._source.read(offset, length)) if length else b""

    def _report(self, name: str, offset: int, problem: str) -> None:
        self.problems.append(Health(name, offset, problem))

    def _within(self, extent: Extent, name: str) -> Extent:
        """Return what there is of an extent."""
        if extent.end <= self.size:
            return extent
        self._report(name, extent.offset, f"reaches to {extent.end:#x}, beyond the end of the image")
        offset = min(extent.offset, self.size)
        return Extent(offset, min(extent.length, self.size - offset))

    # -- volumes

    def _descriptions(self) -> Iterator[tuple[int, VolumeDescription]]:
        for number in range(_MAX_DESCRIPTORS):
            at = SYSTEM_AREA + number * SECTOR_SIZE
            data = self._read(at, SECTOR_SIZE)
            if len(data) < SECTOR_SIZE or VolumeDescriptor.parse(data).StandardIdentifier != STANDARD_IDENTIFIER:
                return
            kind = VolumeDescriptor.parse(data).VolumeDescriptorType
            place = Extent(at, SECTOR_SIZE)
            match kind:
                case DescriptorType.PRIMARY | DescriptorType.SUPPLEMENTARY:
                    found = VolumeDescription.parse(data)
                    self._check_block_size(found, at)
                    name = (
                        "primary volume descriptor"
                        if kind == DescriptorType.PRIMARY
                        else "supplementary volume descriptor"
                    )
                    self._add(place, Kind.VOLUME_DESCRIPTOR, name, VolumeDescription.FIELDS)
                    self._path_tables(found, " (Joliet)" if found.joliet else "")
                    yield at, found
                case DescriptorType.BOOT_RECORD:
                    record = BootRecord.parse(data)
                    self._add(place, Kind.VOLUME_DESCRIPTOR, "boot record", BootRecord.FIELDS)
                    if record.BootSystemIdentifier.startswith(EL_TORITO):
                        self._boot_catalog(record.BootCatalogPointer * SECTOR_SIZE)
                case DescriptorType.TERMINATOR:
                    self._add(
                        place, Kind.VOLUME_DESCRIPTOR, "volume descriptor set terminator", VolumeDescriptor.FIELDS
                    )
                    return
                case _:
                    self._add(
                        place, Kind.VOLUME_DESCRIPTOR, f"volume descriptor of type {kind}", VolumeDescriptor.FIELDS
                    )

    def _check_block_size(self, description: VolumeDescription, at: int) -> None:
        if description.LogicalBlockSize != SECTOR_SIZE:
            raise UnsupportedError(
                "logical blocks of another size",
                offset=at + VolumeDescription.offset_of("LogicalBlockSize"),
                expected=SECTOR_SIZE,
                actual=description.LogicalBlockSize,
            )

    def _add(self, extent: Extent, kind: Kind, name: str, fields: tuple[FieldSpan, ...] = (), path: str = "") -> None:
        self.structures.append(Structure(self._within(extent, name), kind, name, path, fields))

    def _path_tables(self, description: VolumeDescription, which: str) -> None:
        places = {
            "path table L": description.LocationOfTypeLPathTable,
            "optional path table L": description.LocationOfOptionalTypeLPathTable,
            "path table M": int.from_bytes(description.LocationOfTypeMPathTable, "big"),
            "optional path table M": int.from_bytes(description.LocationOfOptionalTypeMPathTable, "big"),
        }
        for name, block in places.items():
            if block:
                self._add(Extent(block * SECTOR_SIZE, description.PathTableSize), Kind.PATH_TABLE, name + which)

    def _boot_catalog(self, at: int) -> None:
        data = self._read(at, SECTOR_SIZE)
        if len(data) < SECTOR_SIZE:
            self._report("boot catalog", at, "lies beyond the end of the image")
            return
        self._add(Extent(at, CATALOG_ENTRY), Kind.BOOT_CATALOG, "validation entry", ValidationEntry.FIELDS)
        for offset in range(CATALOG_ENTRY, SECTOR_SIZE, CATALOG_ENTRY):
            indicator = data[offset]
            if indicator in SECTION_HEADERS:
                name, fields = "section header", SectionHeader.FIELDS
            elif any(data[offset : offset + CATALOG_ENTRY]):
                name, fields = f"boot entry of block {BootEntry.parse(data, offset).LoadRBA}", BootEntry.FIELDS
            else:
                continue
            self._add(Extent(at + offset, CATALOG_ENTRY), Kind.BOOT_CATALOG, name, fields)

    # -- directories

    def _walk(self, description: VolumeDescription) -> dict[str, Node]:
        root = DirectoryRecord.parse(description.DirectoryRecordForRootDirectory)
        top = Node("/", "/", True, (self._within(_extent(root), "/"),))
        nodes = {"/": top}
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            for node in self._directory(directory, joliet=description.joliet):
                if node.path in nodes:
                    self._report(node.path, node.extents[0].offset, "there are two records of this name")
                    continue
                nodes[node.path] = node
                if node.directory:
                    waiting.append(node)
        return nodes

    def _directory(self, directory: Node, *, joliet: bool) -> Iterator[Node]:
        """Yield what the records of a directory name; each place is read once, so that a circle ends."""
        place = directory.extents[0]
        self._budget -= place.length
        if place.offset in self._walked or self._budget < 0:
            problem = "is part of itself or of another one" if self._budget >= 0 else "too many records"
            self._report(f"directory {directory.path}", place.offset, problem)
            return
        self._walked.add(place.offset)
        data = self._read(*place)
        at = 0
        parts: list[Extent] = []  # of a file with several records
        while at + _SIZE <= len(data):
            record = DirectoryRecord.parse(data, at)
            length, named = record.LengthOfDirectoryRecord, _SIZE + record.LengthOfFileIdentifier
            if not length:  # the rest of the sector is unused
                at = (at // SECTOR_SIZE + 1) * SECTOR_SIZE
                continue
            if length < named or at + length > len(data):
                self._report(f"directory {directory.path}", place.offset + at, "a record of an impossible length")
                return
            identifier = data[at + _SIZE : at + named]
            extent = Extent(place.offset + at, length)
            use = read_system_use(self._source, extent, min(named + named % 2, length))
            own = identifier in BOTH_NAMES
            path, plain = _paths(directory, identifier, use, joliet=joliet)
            self._records(extent, directory.path if own else path, use, record.LengthOfFileIdentifier)
            at += length
            if own:
                continue
            parts.append(self._within(_extent(record), path))
            if not record.FileFlags & FileFlag.MULTI_EXTENT:
                is_directory = bool(record.FileFlags & FileFlag.DIRECTORY)
                yield Node(path, plain, is_directory, tuple(parts), use.symlink)
                parts = []

    def _records(self, extent: Extent, path: str, use: SystemUse, identifier: int) -> None:
        fields = (*DirectoryRecord.FIELDS, FieldSpan("FileIdentifier", _SIZE, identifier), *use.fields)
        self._add(extent, Kind.DIRECTORY, f"directory record {path.rpartition('/')[2] or '/'}", fields, path)
        for area, spans in use.areas:
            self._add(area, Kind.DIRECTORY, f"continuation area of {path}", spans, path)


def _extent(record: DirectoryRecord) -> Extent:
    start = record.LocationOfExtent + record.ExtendedAttributeRecordLength
    return Extent(start * SECTOR_SIZE, record.DataLength)


def _paths(directory: Node, identifier: bytes, use: SystemUse, *, joliet: bool) -> tuple[str, str]:
    """Return the path by the best name that there is, and that by identifiers."""
    text = identifier.decode("utf-16-be" if joliet else "latin-1", "replace")
    plain = (
        text.partition(";")[0].rstrip(".").replace("/", "\N{FRACTION SLASH}").replace("\0", "\N{REPLACEMENT CHARACTER}")
    )
    name = use.name or plain
    return f"{directory.path.rstrip('/')}/{name}", f"{directory.identifier.rstrip('/')}/{plain}"
