"""What an ISO 9660 image begins with.

Source: ECMA-119, sections 6.2.1 and 8.1.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

SECTOR_SIZE = 2048
SYSTEM_AREA = 16 * SECTOR_SIZE  # bytes before the first volume descriptor
STANDARD_IDENTIFIER = b"CD001"


class VolumeDescriptor(Structure, byteorder="<"):
    """The first fields of every volume descriptor."""

    VolumeDescriptorType: int = field("B")
    StandardIdentifier: bytes = field("5s")
    VolumeDescriptorVersion: int = field("B")
