"""Taking a boot record and its bootmap apart.

Pointers are resolved through the blocks of the bootmap *file*, not by reading the disk: upstream's metal4k images name
sectors of 512 bytes with an offset in units of 4096, so that their pointers lead nowhere on the disk, and yet they can
be told and written again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from rehydrator.binary import Structure
from rehydrator.boot.zipl.c_zipl import (
    BOOT_RECORD_VERSION,
    BOOTMAP_TEXT,
    ENVIRONMENT_MAGIC,
    HEAP_ADDRESS,
    IMAGE_ADDRESS,
    MAGIC,
    PARAMETERS_ADDRESS,
    PROGRAM_TABLE_SIZE,
    STACK_ADDRESS,
    STAGE3_ADDRESS,
    ZERO_BLOCK,
    BlockPointer,
    BootRecord,
    ComponentEntry,
    ComponentHeader,
    ComponentType,
    ProgramTable,
    Stage3Parameters,
)
from rehydrator.boot.zipl.parts import Component, Execute, Held, Parts, Referred, Role
from rehydrator.boot.zipl.pointers import HOLE, Grid, Span
from rehydrator.errors import CorruptError

_SECTORS = (512, 1024, 2048, 4096)
_MAX_HELD = 1 << 20
_FIXED = {
    HEAP_ADDRESS: Role.HEAP,
    STACK_ADDRESS: Role.STACK,
    STAGE3_ADDRESS: Role.STAGE3,
    PARAMETERS_ADDRESS: Role.PARAMETERS,
    IMAGE_ADDRESS: Role.KERNEL,
}


class BootmapFile(msgspec.Struct, frozen=True):
    """The content of the bootmap file, and for each of its file system blocks the number of that (0: a hole)."""

    content: bytes
    blocks: Sequence[int]
    block_size: int


def has_boot_record(sector: bytes) -> bool:
    """Tell whether sector 0 begins with zipl's boot record."""
    return sector.startswith(MAGIC)


def read_parts(sector: bytes, bootmap: BootmapFile) -> Parts:
    """Return the parts of a bootmap; ``sector`` is at least the boot record. Raises CorruptError."""
    record = BootRecord.parse(sector)
    if record.magic != MAGIC or record.version_id != BOOT_RECORD_VERSION:
        raise CorruptError(
            "no zipl boot record", offset=0, expected=f"{MAGIC!r}, version {BOOT_RECORD_VERSION}",
            actual=f"{record.magic!r}, version {record.version_id}",
        )  # fmt: skip
    return _Reader(bootmap, BlockPointer.parse(record.program_table_pointer)).parts()


class _Reader:
    def __init__(self, bootmap: BootmapFile, program_table: BlockPointer) -> None:
        self._content = bootmap.content
        self._program_table = program_table
        sector = program_table.size
        if sector not in _SECTORS or bootmap.block_size % sector:
            raise CorruptError("program table pointer: impossible block size", expected=_SECTORS, actual=sector)
        if not self._content.startswith(BOOTMAP_TEXT) or len(self._content) < PROGRAM_TABLE_SIZE:
            raise CorruptError("not a bootmap", offset=0, expected=BOOTMAP_TEXT, actual=self._content[:37])
        per_block = bootmap.block_size // sector
        # The program table is written last, so its place tells at which sector zipl believed the partition to begin.
        last = (len(self._content) - PROGRAM_TABLE_SIZE) // sector
        if last // per_block >= len(bootmap.blocks):
            raise CorruptError("the bootmap file has fewer blocks than its size says", actual=len(bootmap.blocks))
        start = program_table.blockno - (bootmap.blocks[last // per_block] * per_block + last % per_block)
        self._grid = Grid(sector, bootmap.block_size, start)
        self._index = {
            self._grid.sector_of(block, within): number * per_block + within
            for number, block in enumerate(bootmap.blocks)
            if block
            for within in range(per_block)
        }
        self._zero = max(ZERO_BLOCK, PROGRAM_TABLE_SIZE // sector)

    def parts(self) -> Parts:
        table = self._held(self._program_table)[:PROGRAM_TABLE_SIZE]
        self._expect_magic(ProgramTable.parse(table).magic, "program table")
        pointer = BlockPointer.parse(table, ProgramTable.SIZE)
        components = self._held(pointer)
        header = ComponentHeader.parse(components)
        self._expect_magic(header.magic, "component table")
        return Parts(
            grid=self._grid,
            header=self._content[:PROGRAM_TABLE_SIZE],
            table_type=header.type,
            components=_named(tuple(self._components(components))),
        )

    def _expect_magic(self, magic: bytes, name: str) -> None:
        if magic != MAGIC:
            raise CorruptError(f"{name} has no magic", expected=MAGIC, actual=magic)

    def _held(self, pointer: BlockPointer) -> bytes:
        """Return one sector of the bootmap file."""
        index = self._index.get(pointer.blockno)
        if index is None or pointer.size != self._grid.sector:
            raise CorruptError("a pointer leads out of the bootmap", actual=f"block {pointer.blockno}")
        sector = self._grid.sector
        return self._content[index * sector : (index + 1) * sector].ljust(sector, b"\0")

    def _components(self, table: bytes) -> list[Component]:
        found: list[Component] = []
        for offset in range(ComponentHeader.SIZE, len(table) - ComponentEntry.SIZE + 1, ComponentEntry.SIZE):
            entry = ComponentEntry.parse(table, offset)
            if entry.type == ComponentType.EXECUTE:
                return [*found, Execute(entry.compdat)]
            if entry.type not in (ComponentType.LOAD, ComponentType.SIGNATURE):
                raise CorruptError("component of an unknown type", offset=offset, actual=entry.type)
            found.append(self._component(entry))
        raise CorruptError("component table without an end")

    def _component(self, entry: ComponentEntry) -> Component:
        spans = self._spans(BlockPointer.parse(entry.data))
        role = Role.SIGNATURE if entry.type == ComponentType.SIGNATURE else Role.OTHER
        if role is Role.OTHER:
            role = _FIXED.get(entry.compdat, Role.OTHER)
        held = self._content_of(spans) if role is not Role.KERNEL else None
        if held is not None:
            return Held(role, entry.type, entry.compdat, held)
        zero = next((sector for sector, index in self._index.items() if index == self._zero), None)
        marked = (Span(HOLE) if span.start == zero and span.count == 1 else span for span in spans)
        return Referred(role, entry.type, entry.compdat, tuple(marked))

    def _spans(self, pointer: BlockPointer) -> list[Span]:
        """Follow the segment tables from ``pointer`` on."""
        found: list[Span] = []
        seen: set[int] = set()
        while pointer.size:
            if pointer.blockno in seen:
                raise CorruptError("segment tables form a loop", actual=f"block {pointer.blockno}")
            seen.add(pointer.blockno)
            table = self._held(pointer)
            pointers = [BlockPointer.parse(table, at) for at in range(0, self._grid.sector, BlockPointer.SIZE)]
            found += [Span(item.blockno, item.blockct + 1) for item in pointers[:-1] if item.size]
            pointer = pointers[-1]
        return found

    def _content_of(self, spans: Sequence[Span]) -> bytes | None:
        """Return what lies at these sectors if that is all in the bootmap file, and not its block of zeros."""
        sector = self._grid.sector
        parts: list[bytes] = []
        for span in spans:
            first = self._index.get(span.start)
            inside = all(
                self._index.get(span.start + n) is not None for n in range(min(span.count, _MAX_HELD // sector))
            )
            if first is None or not inside or first == self._zero or span.count * sector > _MAX_HELD:
                return None
            parts += [self._held(BlockPointer(blockno=span.start + n, size=sector, blockct=0, reserved=0))
                      for n in range(span.count)]  # fmt: skip
        return b"".join(parts)


def _named(components: tuple[Component, ...]) -> tuple[Component, ...]:
    """Give their roles to the components whose load addresses the stage 3 parameters name."""
    held = next((item for item in components if isinstance(item, Held) and item.role is Role.PARAMETERS), None)
    if held is None:
        return components
    parameters: Structure = Stage3Parameters.parse(held.content)
    assert isinstance(parameters, Stage3Parameters)
    return tuple(_with_role(item, parameters) for item in components)


def _with_role(item: Component, parameters: Stage3Parameters) -> Component:
    if isinstance(item, Execute) or item.role is not Role.OTHER:
        return item
    if isinstance(item, Held) and item.content.startswith(ENVIRONMENT_MAGIC):
        return replace(item, role=Role.ENVIRONMENT)
    if isinstance(item, Held) and item.compdat == parameters.parm_addr:
        # What follows the end of the text is not zipl's to write: it is zeros that are there anyway.
        return replace(item, role=Role.PARMLINE, content=item.content.rstrip(b"\0") + b"\0")
    return replace(item, role=Role.RAMDISK) if item.compdat == parameters.initrd_addr else item
