"""What has to be kept of a fixed VHD to write its footer again."""

from __future__ import annotations

import msgspec

QEMU_VERSION = (5, 3)
LARGEST_GEOMETRY = (65535, 16, 255)


class VhdRecord(msgspec.Struct, tag="vhd", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a VHD layer: the footer's fields, but for sizes and checksum.

    Defaults are what ``qemu-img convert -o subformat=fixed,force_size`` writes. ``time_stamp`` counts seconds since
    2000-01-01 UTC; ``geometry`` has cylinders, heads, sectors per track; ``original_size`` is the disk's where None.
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
