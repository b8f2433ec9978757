"""Writing blocks of the journal; their checksums are left open.

Source: Linux ``fs/jbd2/commit.c``, ``revoke.c``. Values that do not fit into their fields raise CorruptError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from rehydrator.binary import Structure
from rehydrator.errors import CorruptError
from rehydrator.fs.ext4.c_jbd2 import (
    JBD2_MAGIC,
    UUID_SIZE,
    BlockHeader,
    BlockTail,
    BlockType,
    CommitHeader,
    RevokeHeader,
    TagFlag,
)
from rehydrator.fs.ext4.jbd2_blocks import Tag, TagLayout


def descriptor_block(
    sequence: int, homes: Iterable[tuple[int, int]], layout: TagLayout, size: int
) -> tuple[bytes, tuple[Tag, ...]]:
    """Return a descriptor of copies (home block and flags), and its tags."""
    data = bytearray(size)
    _put(data, 0, BlockHeader(h_magic=JBD2_MAGIC, h_blocktype=BlockType.DESCRIPTOR, h_sequence=sequence))
    tags: list[Tag] = []
    at, room = BlockHeader.SIZE, size - (BlockTail.SIZE if layout.block_tails else 0)
    for home, flags in homes:
        if at + layout.size > room:
            raise CorruptError("too many tags for a journal descriptor", offset=at)
        empty = layout.structure.parse(bytes(layout.structure.SIZE))
        high = {"t_blocknr_high": home >> 32} if layout.wide else {}
        _put(data, at, empty.replaced(t_blocknr=home % (1 << 32), t_flags=flags, **high))
        tags.append(Tag(home, TagFlag(flags), 0, at))
        at += layout.size + (0 if flags & TagFlag.SAME_UUID else UUID_SIZE)
    return bytes(data), tuple(tags)


def revoke_block(sequence: int, homes: list[int], layout: TagLayout, size: int) -> bytes:
    """Return a revoke block."""
    room = size - (BlockTail.SIZE if layout.block_tails else 0)
    if RevokeHeader.SIZE + len(homes) * layout.revoke_size > room:
        raise CorruptError("too many blocks for a revoke block", actual=len(homes))
    try:
        numbers = b"".join(home.to_bytes(layout.revoke_size, "big") for home in homes)
    except OverflowError as error:
        raise CorruptError("impossible block in a revoke block", actual=max(homes)) from error
    header = RevokeHeader(
        h_magic=JBD2_MAGIC, h_blocktype=BlockType.REVOKE, h_sequence=sequence, r_count=RevokeHeader.SIZE + len(numbers)
    )
    data = bytearray(size)
    _put(data, 0, header)
    data[RevokeHeader.SIZE : RevokeHeader.SIZE + len(numbers)] = numbers
    return bytes(data)


def commit_block(sequence: int, seconds: int, nanoseconds: int, size: int) -> bytes:
    """Return a commit block."""
    empty = CommitHeader.parse(bytes(CommitHeader.SIZE))
    header = empty.replaced(
        h_magic=JBD2_MAGIC,
        h_blocktype=BlockType.COMMIT,
        h_sequence=sequence,
        h_commit_sec=seconds,
        h_commit_nsec=nanoseconds,
    )
    data = bytearray(size)
    _put(data, 0, header)
    return bytes(data)


def _put(data: bytearray, at: int, structure: Structure) -> None:
    try:
        data[at : at + structure.SIZE] = structure.pack()
    except struct.error as error:
        raise CorruptError(f"impossible value in {type(structure).__name__}", offset=at) from error
