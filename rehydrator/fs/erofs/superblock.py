"""The superblock of an erofs file system."""

from __future__ import annotations

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.erofs.c_erofs import (
    MAGIC,
    MAX_BLOCK_BITS,
    MIN_BLOCK_BITS,
    SUPER_OFFSET,
    Compression,
    Incompat,
    SuperBlock,
)


def is_erofs(source: Source) -> bool:
    """Tell an erofs file system by its magic bytes."""
    fits = source.size >= SUPER_OFFSET + len(MAGIC)
    return fits and bytes(source.read(SUPER_OFFSET, len(MAGIC))) == MAGIC


def read_superblock(source: Source) -> SuperBlock:
    """Read the superblock.

    Raises CorruptError for one that is cut short or has an impossible block size, UnsupportedError for other features.
    """
    found = SuperBlock.parse(source.read(SUPER_OFFSET, max(min(SuperBlock.SIZE, source.size - SUPER_OFFSET), 0)))
    if found.magic != MAGIC or not MIN_BLOCK_BITS <= found.blkszbits <= MAX_BLOCK_BITS:
        raise CorruptError(
            "no superblock of erofs, or one with an impossible block size",
            offset=SUPER_OFFSET,
            expected=f"2 to the power of {MIN_BLOCK_BITS} to {MAX_BLOCK_BITS}",
            actual=found.blkszbits,
        )
    if found.feature_incompat & ~sum(Incompat):
        raise UnsupportedError(
            "erofs with unknown features",
            offset=SUPER_OFFSET,
            expected=f"some of {sum(Incompat):#x}",
            actual=f"{found.feature_incompat:#x}",
        )
    return found


def compressions(superblock: SuperBlock) -> list[Compression]:
    """Return the compressions that the file system may use; before they were listed that was lz4 or none."""
    if superblock.feature_incompat & Incompat.COMPR_CFGS:
        return [item for item in Compression if superblock.u1 >> item & 1]
    return [Compression.LZ4] if superblock.feature_incompat & Incompat.ZERO_PADDING else []
