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
    return BootmapReader(sector, bootmap).parts()


class Loaded(msgspec.Struct, frozen=True):
    """An entry of the component table with what it leads to.

    ``at`` is the entry's offset in the table, ``tables`` are the sectors of its segment tables, ``spans`` those that
    the tables name; all but ``at`` count the disk's sectors.
    """

    at: int
    entry: ComponentEntry
    tables: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()


class BootmapReader:
    """Follows the pointers of a bootmap. Raises CorruptError on opening what is none, and for each wrong pointer."""

    def __init__(self, boot_record: bytes, bootmap: BootmapFile) -> None:
        record = BootRecord.parse(boot_record)
        if record.magic != MAGIC or record.version_id != BOOT_RECORD_VERSION:
            raise CorruptError(
                "no zipl boot record", offset=0, expected=f"{MAGIC!r}, version {BOOT_RECORD_VERSION}",
                actual=f"{record.magic!r}, version {record.version_id}",
            )  # fmt: skip
        program_table = BlockPointer.parse(record.program_table_pointer)
        self._content = bootmap.content
        self.program_table = program_table
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

    @property
    def grid(self) -> Grid:
        """How file system blocks lie on the disk, as zipl was told."""
        return self._grid

    def offset_of(self, sector: int) -> int | None:
        """Return where a sector of the disk lies in the bootmap file, None for one that does not."""
        index = self._index.get(sector)
        return None if index is None else index * self._grid.sector

    @property
    def zero_block(self) -> int:
        """The offset in the file of the sector of zeros that stands for holes."""
        return self._zero * self._grid.sector

    def component_table(self) -> BlockPointer:
        """Return the pointer to the default program's component table."""
        table = self._held(self.program_table)[:PROGRAM_TABLE_SIZE]
        self._expect_magic(ProgramTable.parse(table).magic, "program table")
        return BlockPointer.parse(table, ProgramTable.SIZE)

    def parts(self) -> Parts:
        """Return all that the bootmap is made of."""
        table = self._held(self.component_table())
        return Parts(
            grid=self._grid,
            header=self._content[:PROGRAM_TABLE_SIZE],
            table_type=ComponentHeader.parse(table).type,
            components=self.named(self.loaded()),
        )

    def named(self, loaded: Sequence[Loaded]) -> tuple[Component, ...]:
        """Return the components of these entries, each with its role."""
        return _named(tuple(self._component(item) for item in loaded))

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

    def loaded(self) -> list[Loaded]:
        """Return the entries of the component table; the last one starts the program."""
        table = self._held(self.component_table())
        self._expect_magic(ComponentHeader.parse(table).magic, "component table")
        found: list[Loaded] = []
        for offset in range(ComponentHeader.SIZE, len(table) - ComponentEntry.SIZE + 1, ComponentEntry.SIZE):
            entry = ComponentEntry.parse(table, offset)
            if entry.type == ComponentType.EXECUTE:
                return [*found, Loaded(offset, entry)]
            if entry.type not in (ComponentType.LOAD, ComponentType.SIGNATURE):
                raise CorruptError("component of an unknown type", offset=offset, actual=entry.type)
            found.append(self._follow(offset, entry))
        raise CorruptError("component table without an end")

    def _component(self, item: Loaded) -> Component:
        entry, spans = item.entry, item.spans
        if entry.type == ComponentType.EXECUTE:
            return Execute(entry.compdat)
        role = Role.SIGNATURE if entry.type == ComponentType.SIGNATURE else Role.OTHER
        if role is Role.OTHER:
            role = _FIXED.get(entry.compdat, Role.OTHER)
        held = self._content_of(spans) if role is not Role.KERNEL else None
        if held is not None:
            return Held(role, entry.type, entry.compdat, held)
        zero = next((sector for sector, index in self._index.items() if index == self._zero), None)
        marked = (Span(HOLE) if span.start == zero and span.count == 1 else span for span in spans)
        return Referred(role, entry.type, entry.compdat, tuple(marked))

    def _follow(self, at: int, entry: ComponentEntry) -> Loaded:
        """Follow the segment tables of an entry."""
        spans: list[Span] = []
        tables: list[int] = []
        seen: set[int] = set()
        pointer = BlockPointer.parse(entry.data)
        while pointer.size:
            if pointer.blockno in seen:
                raise CorruptError("segment tables form a loop", actual=f"block {pointer.blockno}")
            seen.add(pointer.blockno)
            tables.append(pointer.blockno)
            table = self._held(pointer)
            pointers = [BlockPointer.parse(table, place) for place in range(0, self._grid.sector, BlockPointer.SIZE)]
            spans += [Span(item.blockno, item.blockct + 1) for item in pointers[:-1] if item.size]
            pointer = pointers[-1]
        return Loaded(at, entry, tuple(tables), tuple(spans))

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
