"""What has to be kept of a dynamic VHDX to write it again around its disk.

Structure only. ``qemu-img convert`` allocates the blocks that hold a non-zero byte, in guest order and one behind the
other; each allocation goes through the log, whose entries therefore hold the block allocation table as it was at that
moment. What is random are GUIDs and the first sequence number.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from rehydrator.layers.block_runs import BlockRun, fit
from rehydrator.layers.c_vhdx import (
    BAT_ENTRY_SIZE,
    BAT_STATE_MASK,
    HEADER_SECTION,
    LOG_SECTOR,
    MAX_BLOCK_SIZE,
    MAX_DISK_SIZE,
    MIB,
    MIN_BLOCK_SIZE,
    SECTOR_SIZES,
    SECTORS_PER_BITMAP,
    BlockState,
    DataDescriptor,
    LogEntryHeader,
)

LOG_ENTRY_SIZE = 2 * LOG_SECTOR  # one descriptor sector and one data sector
LOG_HEAD = LogEntryHeader.SIZE + DataDescriptor.SIZE
LOG_REST = LOG_SECTOR - LOG_HEAD
MAX_BAT_SIZE = 16 * MIB
MAX_LOG_LENGTH = 64 * MIB
DATA_GAP = 5 * MIB  # qemu leaves the metadata region and 4 MiB after it between table and blocks
METADATA_LENGTH = MIB


class VhdxHeader(msgspec.Struct, array_like=True, frozen=True):
    """One of the two headers."""

    sequence_number: int
    file_write_guid: str
    data_write_guid: str


class LogRest(msgspec.Struct, array_like=True, frozen=True):
    """What stands behind the descriptor in the first sector of the log's entry ``entry``, up to its last non-zero byte.

    The specification wants zeros. qemu takes the sector from memory that it does not clear.
    """

    entry: int
    data: bytes


class VhdxRecord(msgspec.Struct, tag="vhdx", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a VHDX layer; sizes are in bytes.

    Defaults are what ``qemu-img convert -O vhdx`` writes. ``blocks`` are the allocated guest blocks in the order of the
    file. ``log`` has the GUIDs of the log's entries, oldest first; each is about the allocation of one block: entry by
    entry the last ones of the file, or the numbers in ``log_order``. ``log_ends`` says how many blocks the file had
    at each entry where those are not the ones up to its own. ``log_rest`` are the entries with something behind their
    descriptor.
    """

    creator: str
    headers: tuple[VhdxHeader, VhdxHeader]
    virtual_disk_id: str
    log: list[str] = []
    log_order: list[int] = []
    log_ends: list[int] = []
    log_rest: list[LogRest] = []
    log_length: int = MIB
    block_size: int = 16 * MIB
    logical_sector_size: int = 512
    physical_sector_size: int = 512
    absent_state: int = BlockState.ZERO
    blocks: Literal["nonzero"] | list[BlockRun] = "nonzero"


class Geometry:
    """Where the parts of a file around a disk of ``disk_size`` bytes lie; all in bytes."""

    def __init__(self, record: VhdxRecord, disk_size: int) -> None:
        self.block_size = record.block_size
        self.log_offset = HEADER_SECTION
        self.log_length = record.log_length
        self.payload_blocks = -(-disk_size // record.block_size)
        self.chunk_ratio = SECTORS_PER_BITMAP * record.logical_sector_size // record.block_size
        bitmaps = (self.payload_blocks - 1) // self.chunk_ratio if self.payload_blocks else 0
        self.bat_offset = self.log_offset + self.log_length
        self.bat_length = -(-(self.payload_blocks + bitmaps) * BAT_ENTRY_SIZE // MIB) * MIB
        self.metadata_offset = self.bat_offset + self.bat_length
        self.data_offset = self.bat_offset + self.bat_length + DATA_GAP

    def bat_index(self, block: int) -> int:
        """Return the place of a payload block in the table, in which each chunk ends with a bitmap block."""
        return block + block // self.chunk_ratio

    def block_offset(self, number: int) -> int:
        """Return where the file's block ``number`` begins."""
        return self.data_offset + number * self.block_size


def is_possible(record: VhdxRecord, disk_size: int) -> bool:
    """Tell whether numbers of a record, which may be forged, are ones that a VHDX can have."""
    size = record.block_size
    if not (MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE and not size & (size - 1)):
        return False
    if record.logical_sector_size not in SECTOR_SIZES or not 0 <= disk_size <= MAX_DISK_SIZE:
        return False
    if not MIB <= record.log_length <= MAX_LOG_LENGTH or record.log_length % MIB:
        return False
    geometry = Geometry(record, disk_size)
    runs = record.blocks if isinstance(record.blocks, list) else []
    return (
        geometry.bat_length <= MAX_BAT_SIZE
        and len(record.log) <= record.log_length // LOG_ENTRY_SIZE
        and fit(runs, geometry.payload_blocks)
        and 0 <= record.absent_state <= BAT_STATE_MASK
        and all(0 <= end <= geometry.payload_blocks for end in record.log_ends)
        and all(0 <= rest.entry < len(record.log) and len(rest.data) <= LOG_REST for rest in record.log_rest)
        and all(len(row) in (0, len(record.log)) for row in (record.log_order, record.log_ends))
    )
