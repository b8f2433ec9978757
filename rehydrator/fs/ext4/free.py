"""Free and allocated runs of blocks, from the block bitmaps."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.fs.ext4.ext4 import Ext4


class BitmapRun(msgspec.Struct, frozen=True):
    """Blocks ``[start, end)`` of one group that are all free or all allocated.

    ``whole_start`` is where the run of free blocks begins in the group, at or before ``start``.
    """

    start: int
    end: int
    whole_start: int
    group: int
    free: bool


def free_runs(fs: Ext4, start: int, end: int) -> Iterator[BitmapRun]:
    """Cut blocks ``[start, end)`` into runs, group by group; a group without a bitmap is free."""
    geometry = fs.geometry
    while start < end:
        if start < geometry.first_data_block:
            yield BitmapRun(start, geometry.first_data_block, start, 0, free=False)
            start = geometry.first_data_block
            continue
        group = (start - geometry.first_data_block) // geometry.blocks_per_group
        base = geometry.group_start(group)
        stop = min(end, base + geometry.blocks_per_group)
        bitmap = fs.block_bitmap(fs.groups[group])
        if bitmap is None:
            yield BitmapRun(start, stop, base, group, free=True)
        else:
            yield from _runs(bit_text(bitmap, geometry.blocks_per_group), start - base, stop - base, base, group)
        start = stop


def bit_text(bitmap: bytes, count: int) -> str:
    """Return the first ``count`` bits as characters 0 and 1, lowest bit first."""
    return f"{int.from_bytes(bitmap[: -(-count // 8)], 'little'):b}"[::-1][:count].ljust(count, "0")


def _runs(bits: str, at: int, stop: int, base: int, group: int) -> Iterator[BitmapRun]:
    while at < stop:
        free = bits[at] == "0"
        following = bits.find("1" if free else "0", at, stop)
        end = stop if following < 0 else following
        begin = bits.rfind("1", 0, at) + 1 if free else at
        yield BitmapRun(base + at, base + end, base + begin, group, free)
        at = end
