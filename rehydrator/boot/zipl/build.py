"""Writing a bootmap and its boot record, in the order in which zipl does.

Source: s390-tools ``zipl/src/bootmap.c`` and ``disk.c`` (``disk_write_block_aligned``, ``disk_write_block_buffer``,
``add_segment_table``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from rehydrator.boot.zipl.c_zipl import (
    BOOT_RECORD_VERSION,
    MAGIC,
    PROGRAM_TABLE_SIZE,
    BlockPointer,
    BootmapHeader,
    BootRecord,
    ComponentEntry,
    ComponentHeader,
    ComponentType,
    ProgramTable,
)
from rehydrator.boot.zipl.parts import Component, Execute, Held, Parts, Role
from rehydrator.boot.zipl.pointers import Grid, Span, merged
from rehydrator.errors import CorruptError

_NONE = bytes(BlockPointer.SIZE)


class Built(msgspec.Struct, frozen=True):
    """The content of the bootmap file, and the first bytes of sector 0."""

    bootmap: bytes
    boot_record: bytes


def build(parts: Parts, blocks: Sequence[int]) -> Built:
    """Return what zipl writes for ``parts`` when its bootmap file has the file system blocks ``blocks``.

    Raises CorruptError when these are too few.
    """
    writer = _Writer(parts.grid, blocks)
    writer.put(parts.header)
    zeros = _pointer(writer.sector_at(writer.put(bytes(parts.grid.sector))), parts.grid.sector)
    table = bytearray(ComponentHeader(magic=MAGIC, type=parts.table_type, reserved=bytes(27)).pack())
    for component in parts.components:
        table += _entry(writer, component, zeros)
    if len(table) > parts.grid.sector:
        raise CorruptError("too many components for a component table", actual=len(parts.components))
    components = writer.sector_at(writer.put(bytes(table).ljust(parts.grid.sector, b"\0")))
    programs = ProgramTable(magic=MAGIC, reserved=bytes(12)).pack() + _pointer(components, parts.grid.sector)
    place = writer.sector_at(writer.put(programs.ljust(PROGRAM_TABLE_SIZE, b"\0")))
    record = BootRecord(
        magic=MAGIC,
        version_id=BOOT_RECORD_VERSION,
        reserved=bytes(8),
        program_table_pointer=_pointer(place, parts.grid.sector),
        reserved2=bytes(80),
        boot_info=bytes(40),
    )
    return Built(bytes(writer.content), record.pack())


def _pointer(blockno: int, size: int, count: int = 1) -> bytes:
    return BlockPointer(blockno=blockno, size=size, blockct=count - 1, reserved=0).pack()


def _entry(writer: _Writer, component: Component, zeros: bytes) -> bytes:
    if isinstance(component, Execute):
        return ComponentEntry(
            data=_NONE, reserved=bytes(7), type=ComponentType.EXECUTE, compdat=component.compdat
        ).pack()
    if isinstance(component, Held):
        environment = component.role is Role.ENVIRONMENT
        spans: Iterable[Span] = writer.put_pieces(component.content, whole_block=environment)
        if environment:
            writer.name_environment()
    else:
        spans = component.spans
    first = writer.put_segment_tables(tuple(spans), zeros)
    return ComponentEntry(data=first, reserved=bytes(7), type=component.type, compdat=component.compdat).pack()


class _Writer:
    """The bootmap file while it is written; all positions are byte offsets in it."""

    def __init__(self, grid: Grid, blocks: Sequence[int]) -> None:
        self._grid = grid
        self._blocks = blocks
        self._last = 0
        self.content = bytearray()

    def sector_at(self, offset: int) -> int:
        """Return the disk's sector at an offset of the file."""
        block, within = divmod(offset, self._grid.block_size)
        if block >= len(self._blocks):
            raise CorruptError("the bootmap file is too small", expected=f"more than {offset} bytes")
        return self._grid.sector_of(self._blocks[block], within // self._grid.sector)

    def put(self, data: bytes, alignment: int = 0) -> int:
        """Append at the next sector, or the next multiple of ``alignment``; return the offset."""
        self.content += bytes(-len(self.content) % (alignment or self._grid.sector))
        offset = len(self.content)
        self.content += data
        return offset

    def put_pieces(self, data: bytes, *, whole_block: bool) -> list[Span]:
        """Append a component's content; return its sectors."""
        self._last = self.put(data, self._grid.block_size if whole_block else 0)
        offsets = range(self._last, self._last + len(data), self._grid.sector)
        return merged(Span(self.sector_at(offset)) for offset in offsets)

    def name_environment(self) -> None:
        """Let the header name the offset of what was put last."""
        at = BootmapHeader.offset_of("envblk_offset")
        self.content[at : at + 8] = self._last.to_bytes(8, "big")

    def put_segment_tables(self, spans: Sequence[Span], zeros: bytes) -> bytes:
        """Append the chain of segment tables, the last one first; return the pointer to the first one."""
        room = self._grid.sector // BlockPointer.SIZE - 1
        following = _NONE
        for first in reversed(range(0, len(spans), room)):
            pointers = (
                zeros if span.hole else _pointer(span.start, self._grid.sector, span.count)
                for span in spans[first : first + room]
            )
            table = b"".join(pointers).ljust(room * BlockPointer.SIZE, b"\0") + following
            following = _pointer(self.sector_at(self.put(table)), self._grid.sector)
        return following
