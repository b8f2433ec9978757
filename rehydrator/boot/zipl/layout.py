"""Where in a bootmap file each structure lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.boot.zipl.c_zipl import (
    PROGRAM_TABLE_ENTRIES,
    PROGRAM_TABLE_SIZE,
    BlockPointer,
    BootmapHeader,
    BootRecord,
    ComponentEntry,
    ComponentHeader,
    ProgramTable,
    Stage3Parameters,
)
from rehydrator.boot.zipl.parts import Component, Execute, Held, Role
from rehydrator.boot.zipl.read import BootmapFile, BootmapReader, Loaded, has_boot_record
from rehydrator.disk.extents import Extent, merge

BOOT_RECORD = "zipl boot record"
BOOTMAP_HEADER = "bootmap header"
ZERO_BLOCK = "bootmap block of zeros"
PROGRAM_TABLE = "program table"
COMPONENT_TABLE = "component table"
SEGMENT_TABLE = "segment table"
_TABLES = (BOOT_RECORD, BOOTMAP_HEADER, ZERO_BLOCK, PROGRAM_TABLE, COMPONENT_TABLE, SEGMENT_TABLE)
STRUCTURES: tuple[str, ...] = (*_TABLES, *(role.value for role in Role))

_POINTER = FieldSpan("program_table_pointer", BootRecord.offset_of("program_table_pointer"), BlockPointer.SIZE)


class BootmapPlace(msgspec.Struct, frozen=True):
    """A structure at ``extent``, in bytes from the start of the bootmap file; ``fields`` are relative to it."""

    extent: Extent
    structure: str
    name: str
    fields: tuple[FieldSpan, ...] = ()


class Piece(msgspec.Struct, frozen=True):
    """Bytes of the bootmap file, and the structure that they are of, if any."""

    extent: Extent
    place: BootmapPlace | None


def cut(found: Sequence[BootmapPlace], extent: Extent) -> Iterator[Piece]:
    """Cut a range of the file along ordered structures; the pieces cover exactly the range."""
    at = extent.offset
    for place in found:
        start, stop = max(place.extent.offset, at), min(place.extent.end, extent.end)
        if start >= stop:
            continue
        if start > at:
            yield Piece(Extent(at, start - at), None)
        yield Piece(Extent(start, stop - start), place)
        at = stop
    if at < extent.end:
        yield Piece(Extent(at, extent.end - at), None)


def _nested(structure: Sequence[FieldSpan], at: int, prefix: str) -> Iterator[FieldSpan]:
    return (FieldSpan(f"{prefix}{span.name}", at + span.offset, span.size, span.code) for span in structure)


def boot_record_fields() -> tuple[FieldSpan, ...]:
    """Return the fields of the boot record, with those of its pointer."""
    inside = tuple(_nested(BlockPointer.FIELDS, _POINTER.offset, f"{_POINTER.name}."))
    return tuple(part for span in BootRecord.FIELDS for part in (inside if span.name == _POINTER.name else (span,)))


def boot_record(sector: bytes) -> BootmapPlace | None:
    """Return the place of the boot record in sector 0, None where there is none."""
    if not has_boot_record(sector):
        return None
    return BootmapPlace(Extent(0, BootRecord.SIZE), BOOT_RECORD, BOOT_RECORD, boot_record_fields())


def places(sector: bytes, file: BootmapFile) -> list[BootmapPlace]:
    """Return the structures of a bootmap that ``sector`` leads to, in file order. Raises CorruptError."""
    reader = BootmapReader(sector, file)
    return sorted(_places(reader, file), key=lambda place: place.extent)


def _places(reader: BootmapReader, file: BootmapFile) -> Iterator[BootmapPlace]:
    size = reader.grid.sector
    yield BootmapPlace(Extent(0, PROGRAM_TABLE_SIZE), BOOTMAP_HEADER, BOOTMAP_HEADER, BootmapHeader.FIELDS)
    yield BootmapPlace(Extent(reader.zero_block, size), ZERO_BLOCK, ZERO_BLOCK)
    loaded = reader.loaded()
    components = reader.named(loaded)
    for number, (item, component) in enumerate(zip(loaded, components, strict=True)):
        yield from _component_places(reader, item, component, number)
    offset = reader.offset_of(reader.component_table().blockno)
    if offset is not None:
        fields = tuple(_component_fields(loaded, components))
        yield BootmapPlace(Extent(offset, size), COMPONENT_TABLE, COMPONENT_TABLE, fields)
    offset = reader.offset_of(reader.program_table.blockno)
    if offset is not None:
        length = min(PROGRAM_TABLE_SIZE, len(file.content) - offset)
        yield BootmapPlace(Extent(offset, length), PROGRAM_TABLE, PROGRAM_TABLE, tuple(_program_fields()))


def _component_places(reader: BootmapReader, item: Loaded, component: Component, number: int) -> Iterator[BootmapPlace]:
    if isinstance(component, Execute):
        return
    size = reader.grid.sector
    of = _named(component, number)
    pointers = tuple(
        FieldSpan(f"segment pointer {index}", index * BlockPointer.SIZE, BlockPointer.SIZE)
        for index in range(size // BlockPointer.SIZE - 1)
    )
    fields = (*pointers, FieldSpan("next segment table", size - BlockPointer.SIZE, BlockPointer.SIZE))
    for index, table in enumerate(item.tables):
        offset = reader.offset_of(table)
        if offset is not None:
            which = f"{SEGMENT_TABLE} of the {of}" if len(item.tables) == 1 else f"{SEGMENT_TABLE} {index} of the {of}"
            yield BootmapPlace(Extent(offset, size), SEGMENT_TABLE, which, fields)
    if isinstance(component, Held):
        inside = Stage3Parameters.FIELDS if component.role is Role.PARAMETERS else ()
        for extent in merge(_held(reader, item)):
            yield BootmapPlace(extent, component.role.value, of, inside)


def _held(reader: BootmapReader, item: Loaded) -> Iterable[Extent]:
    size = reader.grid.sector
    offsets = (reader.offset_of(span.start + n) for span in item.spans for n in range(span.count))
    return sorted(Extent(offset, size) for offset in offsets if offset is not None)


def _named(component: Component, number: int) -> str:
    role = Role.OTHER if isinstance(component, Execute) else component.role
    return f"component {number}" if role is Role.OTHER else role.value


def _component_fields(loaded: Sequence[Loaded], components: Sequence[Component]) -> Iterator[FieldSpan]:
    yield from ComponentHeader.FIELDS
    for number, (item, component) in enumerate(zip(loaded, components, strict=True)):
        name = "execute" if isinstance(component, Execute) else _named(component, number)
        yield from _nested(ComponentEntry.FIELDS, item.at, f"{name}: ")


def _program_fields() -> Iterator[FieldSpan]:
    yield from ProgramTable.FIELDS
    for number in range(PROGRAM_TABLE_ENTRIES):
        yield FieldSpan(f"program {number}", ProgramTable.SIZE + number * BlockPointer.SIZE, BlockPointer.SIZE)
