"""Small disks made from nothing but a seed: GPT, random data in some blocks, holes elsewhere."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from rehydrator.disk.c_gpt import GPT_PROTECTIVE, MBR_SIGNATURE, SIGNATURE, GptEntry, GptHeader, Mbr, MbrRecord
from rehydrator.disk.extents import BLOCK

MIB = 1 << 20
ENTRIES = 128
# CoreOS's partitions: number, name, first and last byte in KiB
Partition = tuple[int, str, int, int]
PARTITIONS: tuple[Partition, ...] = (
    (1, "BIOS-BOOT", 64, 256),
    (2, "EFI-SYSTEM", 256, 512),
    (3, "boot", 512, 1536),
    (4, "root", 1536, 3584),
)


def random_sparse(seed: int, size: int, density: float = 0.1, block: int = BLOCK) -> bytes:
    """Return ``size`` bytes of which a share of ``density`` blocks is random and the rest zero."""
    source = random.Random(seed)
    disk = bytearray(size)
    for at in range(0, size, block):
        if source.random() < density:
            length = min(block, size - at)
            disk[at : at + length] = source.randbytes(length)
    return bytes(disk)


def _entries(partitions: Sequence[Partition], sector: int) -> bytes:
    table = bytearray(ENTRIES * GptEntry.SIZE)
    for number, name, start, end in partitions:
        entry = GptEntry(
            PartitionTypeGUID=bytes([number]) * 16,
            UniquePartitionGUID=bytes([number + 16]) * 16,
            StartingLBA=start * 1024 // sector,
            EndingLBA=end * 1024 // sector - 1,
            Attributes=0,
            PartitionName=name.encode("utf-16-le"),
        )
        table[(number - 1) * GptEntry.SIZE : number * GptEntry.SIZE] = entry.pack()
    return bytes(table)


def _header(mine: int, other: int, entries_at: int, entries: bytes, usable: tuple[int, int]) -> bytes:
    def build(crc: int) -> bytes:
        return GptHeader(
            Signature=SIGNATURE,
            Revision=0x10000,
            HeaderSize=GptHeader.SIZE,
            HeaderCRC32=crc,
            Reserved=0,
            MyLBA=mine,
            AlternateLBA=other,
            FirstUsableLBA=usable[0],
            LastUsableLBA=usable[1],
            DiskGUID=b"\x5a" * 16,
            PartitionEntryLBA=entries_at,
            NumberOfPartitionEntries=ENTRIES,
            SizeOfPartitionEntry=GptEntry.SIZE,
            PartitionEntryArrayCRC32=zlib.crc32(entries),
        ).pack()

    return build(zlib.crc32(build(0)))


def with_gpt(content: bytes, partitions: Sequence[Partition] = PARTITIONS, sector: int = 512) -> bytes:
    """Lay a primary and a backup GPT over ``content``."""
    disk = bytearray(content)
    last = len(disk) // sector - 1
    entries = _entries(partitions, sector)
    length = -(-len(entries) // sector)
    usable = (2 + length, last - length - 1)
    disk[: (2 + length) * sector] = bytes((2 + length) * sector)
    protective = MbrRecord(
        BootIndicator=0,
        StartingCHS=b"\0\2\0",
        OSType=GPT_PROTECTIVE,
        EndingCHS=b"\xff" * 3,
        StartingLBA=1,
        SizeInLBA=last,
    )
    mbr = Mbr(
        BootCode=b"", UniqueMBRDiskSignature=0, Unknown=0, PartitionRecord=protective.pack(), Signature=MBR_SIGNATURE
    )
    disk[: Mbr.SIZE] = mbr.pack()
    disk[sector : sector + GptHeader.SIZE] = _header(1, last, 2, entries, usable)
    disk[2 * sector : 2 * sector + len(entries)] = entries
    disk[(last - length) * sector :] = bytes(len(disk) - (last - length) * sector)
    disk[(last - length) * sector : (last - length) * sector + len(entries)] = entries
    disk[last * sector : last * sector + GptHeader.SIZE] = _header(last, 1, last - length, entries, usable)
    return bytes(disk)


def metal_disk(seed: int = 1, size: int = 4 * MIB) -> bytes:
    """Return a small disk of CoreOS's shape."""
    return with_gpt(random_sparse(seed, size, 0.3))


def sibling(disk: bytes, seed: int, size: int | None = None) -> bytes:
    """Return ``disk`` with a few bytes changed in its boot partition, grown to ``size``."""
    source = random.Random(seed)
    changed = bytearray(disk)
    for _ in range(5):
        at = 600 * 1024 + source.randrange(800 * 1024)
        changed[at : at + 9] = b"platform%d" % (seed % 10)
    return bytes(changed).ljust(size or len(disk), b"\0")


def shuffled(disk: bytes, seed: int) -> bytes:
    """Return the same blocks in another order: a disk of another lineage with the same files."""
    blocks = [disk[at : at + BLOCK] for at in range(0, len(disk), BLOCK)]
    random.Random(seed).shuffle(blocks)
    return b"".join(blocks)
