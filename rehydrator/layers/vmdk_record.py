"""What has to be kept of a streamOptimized VMDK to write it again around its disk.

Structure only. ``qemu-img convert`` stores exactly the grains that hold a non-zero byte, in guest order and without
gaps, behind two copies of the grain tables; a record says what departs from that. The tables say where each
compressed grain lies, so writing them before the data needs every grain's size: that is the record's first table, a
byte per stored grain with the sectors it takes. A second one has the patches of grains that the encoder gets wrong.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.c_vmdk import ENTRY_SIZE, MAX_GRAIN_SIZE, NUM_GTES_PER_GT, SECTOR, Flag
from rehydrator.layers.packed_record import Patched

QEMU_FLAGS = int(Flag.VALID_NEW_LINE_DETECTION | Flag.REDUNDANT_GRAIN_TABLE | Flag.COMPRESSED | Flag.MARKERS)
MAX_PADDING = 2 * MAX_GRAIN_SIZE


class VmdkRecord(msgspec.Struct, tag="vmdk", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a VMDK layer; positions and sizes are in sectors of 512 bytes.

    Defaults are what ``qemu-img convert -o subformat=streamOptimized`` writes. ``descriptor`` has the lines of the
    text descriptor, ``deflate`` the name of the encoder (:mod:`rehydrator.codecs.deflate`).
    """

    descriptor: list[str]
    deflate: str
    tables: list[str] = []
    version: int = 3
    flags: int = QEMU_FLAGS
    grain_size: int = MAX_GRAIN_SIZE
    descriptor_offset: int = 1
    descriptor_size: int = 20
    rgd_offset: int = 21
    gd_offset: int | Literal["after_rgd"] = "after_rgd"
    overhead: int | Literal["aligned"] = "aligned"
    unclean_shutdown: int = 0
    grains: Literal["nonzero"] | list[BlockRun] = "nonzero"
    padding: int | Literal["whole_grain"] = "whole_grain"
    patched: Patched | None = None


def whole_grain_padding(grain_size: int, last: int | None) -> int:
    """Return the sectors of zeros behind a last grain that takes ``last`` sectors, as qemu leaves them.

    The file ends where the last grain would end without compression.
    """
    return 0 if last is None else max(grain_size - last, 0)


class Geometry:
    """Where the parts of a file with ``capacity`` sectors lie; all in sectors."""

    def __init__(self, record: VmdkRecord, capacity: int) -> None:
        self.grains = -(-capacity // record.grain_size)
        self.tables = -(-self.grains // NUM_GTES_PER_GT)
        self.directory_size = -(-self.tables * ENTRY_SIZE // SECTOR)
        self.table_size = NUM_GTES_PER_GT * ENTRY_SIZE // SECTOR
        copy_size = self.directory_size + self.tables * self.table_size
        self.rgd = record.rgd_offset
        self.gd = record.rgd_offset + copy_size if record.gd_offset == "after_rgd" else record.gd_offset
        end = max(self.rgd, self.gd) + copy_size
        aligned = -(-end // record.grain_size) * record.grain_size
        self.overhead = aligned if record.overhead == "aligned" else record.overhead
        self.regions = sorted(
            [
                (0, 1),
                (record.descriptor_offset, record.descriptor_size),
                (self.rgd, copy_size),
                (self.gd, copy_size),
            ]
        )

    def table_at(self, directory: int, index: int) -> int:
        """Return the position of a grain table: right behind its directory, in order."""
        return directory + self.directory_size + index * self.table_size

    @property
    def possible(self) -> bool:
        """Whether no part overlaps another and all lie within the overhead."""
        end = 0
        for start, size in self.regions:
            if start < end or size < 0:
                return False
            end = start + size
        return end <= self.overhead <= end + MAX_PADDING
