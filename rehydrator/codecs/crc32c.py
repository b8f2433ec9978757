"""CRC-32C as ext4, jbd2 and XFS use it: reflected polynomial 0x82F63B78, seed passed in, no final inversion.

Source: Linux ``lib/crc/crc32c`` (``crc32c_le``). The computation is google-crc32c's.
"""

from __future__ import annotations

import google_crc32c

_ALL_ONES = 0xFFFFFFFF


def crc32c(seed: int, data: bytes | memoryview) -> int:
    """Return the kernel's ``crc32c(seed, data)``; the usual first seed is ``~0``."""
    value: int = google_crc32c.extend(seed ^ _ALL_ONES, bytes(data))
    return value ^ _ALL_ONES
