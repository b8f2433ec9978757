"""What has to be kept of a VHD to write it again around its disk.

A fixed VHD is its disk with a footer. ``qemu-img convert`` allocates the blocks of a dynamic one that hold a non-zero
byte, in guest order and one behind the other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from rehydrator.layers.block_runs import BlockRun

QEMU_VERSION = (5, 3)
LARGEST_GEOMETRY = (65535, 16, 255)


class DynamicVhd(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a dynamic VHD has more: the size of its blocks in bytes, and which are allocated, in the file's order."""

    block_size: int = 2 << 20
    blocks: Literal["nonzero"] | list[BlockRun] = "nonzero"


class VhdRecord(msgspec.Struct, tag="vhd", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a VHD layer: the footer's fields, but for sizes and checksum.

    Defaults are what ``qemu-img convert -o subformat=fixed,force_size`` writes. ``time_stamp`` counts seconds since
    2000-01-01 UTC; ``geometry`` has cylinders, heads, sectors per track; ``original_size`` is the disk's where None;
    ``dynamic`` is None for a fixed disk.
    """

    time_stamp: int
    unique_id: str
    creator_application: str = "qem2"
    creator_version: tuple[int, int] = QEMU_VERSION
    creator_host_os: str = "Wi2k"
    geometry: tuple[int, int, int] = LARGEST_GEOMETRY
    features: int = 2
    original_size: int | None = None
    saved_state: int = 0
    dynamic: DynamicVhd | None = None
