"""Writing a streamOptimized VMDK as VMware describes it: in one go, with tables behind grains and a footer."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

SECTOR = 512
GRAIN = 128 * SECTOR
PER_TABLE = 512
OVERHEAD = 128
AT_END = (1 << 64) - 1
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDW {sectors} SPARSE "disk.vmdk"

# The Disk Data Base
ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
"""


def _header(sectors: int, directory: int) -> bytes:
    fields = (b"KDMV", 3, 0x30001, sectors, 128, 1, 20, PER_TABLE, 0, directory, OVERHEAD, 0, b"\n \r\n", 1)
    return struct.pack("<4sIIQQQQIQQQB4sH433x", *fields)


def _marker(sectors: int, kind: int) -> bytes:
    return struct.pack("<QII496x", sectors, 0, kind)


def write_stream(disk: bytes, path: Path) -> None:
    """Write ``disk``, whole grains of it, as VMDK."""
    sectors = len(disk) // SECTOR
    text = DESCRIPTOR.format(sectors=sectors, cylinders=sectors // 1008).encode()
    out = bytearray(_header(sectors, AT_END) + text).ljust(OVERHEAD * SECTOR, b"\0")
    grains = -(-len(disk) // GRAIN)
    directory: list[int] = []
    for first in range(0, grains, PER_TABLE):
        table = [0] * PER_TABLE
        for grain in range(first, min(first + PER_TABLE, grains)):
            content = disk[grain * GRAIN : (grain + 1) * GRAIN]
            if any(content):
                table[grain - first] = len(out) // SECTOR
                packed = zlib.compress(content, 3)
                out += struct.pack("<QI", grain * 128, len(packed)) + packed
                out += bytes(-len(out) % SECTOR)
        if any(table):
            out += _marker(4, 1)
            directory.append(len(out) // SECTOR)
            out += struct.pack(f"<{PER_TABLE}I", *table)
        else:
            directory.append(0)
    place = len(out) // SECTOR + 1
    packed_directory = struct.pack(f"<{len(directory)}I", *directory)
    packed_directory += bytes(-len(packed_directory) % SECTOR)
    out += _marker(len(packed_directory) // SECTOR, 2) + packed_directory
    out += _marker(1, 3) + _header(sectors, place) + _marker(0, 0)
    path.write_bytes(out)
