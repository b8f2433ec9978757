"""The blocks of the journal: tags, descriptors, revokes and commits, and their checksums.

Source: Linux ``fs/jbd2/journal.c``, ``commit.c``, ``revoke.c``. Block numbers count journal blocks from 0 (the journal
superblock) unless they are called ``home``: those are file system blocks.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from rehydrator.codecs.crc32c import crc32c
from rehydrator.fs.ext4.c_jbd2 import (
    JBD2_MAGIC,
    UUID_SIZE,
    BlockHeader,
    BlockTail,
    CommitHeader,
    JournalIncompat,
    JournalSuperBlock,
    RevokeHeader,
    Tag3,
    Tag32,
    Tag64,
    TagFlag,
)
from rehydrator.fs.ext4.checksums import ALL_ONES, Part, Slot, slot_of

_BE32 = struct.Struct(">I")
_MAGIC = _BE32.pack(JBD2_MAGIC)
_SPARE_V2 = 2

SUPERBLOCK = slot_of(JournalSuperBlock, "s_checksum", big=True)
COMMIT = Slot((Part(CommitHeader.offset_of("h_chksum"), _BE32.size),), "big")


class Role(enum.StrEnum):
    """What a journal block is."""

    SUPERBLOCK = "superblock"
    DESCRIPTOR = "descriptor"
    COPY = "copy"
    COMMIT = "commit"
    REVOKE = "revoke"
    FAST_COMMIT = "fast commit"
    UNUSED = "unused"


class Age(enum.StrEnum):
    """How a transaction stands to the present state of the file system."""

    PENDING = "to be replayed"  # committed, but not yet known to be in place: the journal needs recovery
    LATEST = "latest"  # in the unbroken run of complete transactions that ends with the newest one
    STALE = "stale"  # older than that, or partly overwritten


class TagLayout(msgspec.Struct, frozen=True):
    """How the tags of a descriptor are written, from the features of the journal."""

    structure: type[Tag32] | type[Tag64] | type[Tag3]
    size: int
    checksum_bits: int  # 0, 16 or 32
    wide: bool
    block_tails: bool

    @property
    def revoke_size(self) -> int:
        """Bytes of one block number in a revoke block."""
        return 8 if self.wide else 4

    @classmethod
    def of(cls, features: JournalIncompat) -> TagLayout:
        """Return the layout for ``s_feature_incompat`` (``journal_tag_bytes``)."""
        wide = JournalIncompat.BIT64 in features
        if JournalIncompat.CSUM_V3 in features:
            return cls(Tag3, Tag3.SIZE, 32, wide, block_tails=True)
        second = JournalIncompat.CSUM_V2 in features
        structure: type[Tag32] | type[Tag64] = Tag64 if wide else Tag32
        # CSUM_V2 reserves two more bytes although t_checksum already has its place in the structure
        size = structure.SIZE + (_SPARE_V2 if second else 0)
        return cls(structure, size, 16 if second else 0, wide, block_tails=second)


class Tag(msgspec.Struct, frozen=True):
    """One entry of a descriptor: a copy of file system block ``home``.

    ``offset`` is the byte offset of the tag in its descriptor; ``checksum`` is the stored one.
    """

    home: int
    flags: TagFlag
    checksum: int
    offset: int

    @property
    def escaped(self) -> bool:
        """Whether the first four bytes of the copy stand for the journal's magic number."""
        return TagFlag.ESCAPE in self.flags


class Descriptor(msgspec.Struct, frozen=True):
    """A descriptor at journal block ``block``; ``end`` is the first byte behind its tags."""

    block: int
    sequence: int
    tags: tuple[Tag, ...]
    end: int


class Copy(msgspec.Struct, frozen=True):
    """Journal block ``block`` holds a copy of file system block ``tag.home``, listed in ``descriptor``."""

    block: int
    sequence: int
    tag: Tag
    descriptor: int


class Revoke(msgspec.Struct, frozen=True):
    """A revoke block: copies of ``homes`` in this and older transactions are not to be replayed."""

    block: int
    sequence: int
    homes: tuple[int, ...]
    r_count: int


class Commit(msgspec.Struct, frozen=True):
    """A commit block; the time is when the transaction was committed."""

    block: int
    sequence: int
    seconds: int
    nanoseconds: int


class Transaction(msgspec.Struct, frozen=True):
    """What is left of one transaction; ``complete`` when nothing of it was overwritten."""

    sequence: int
    descriptors: tuple[Descriptor, ...]
    copies: tuple[Copy, ...]
    revokes: tuple[Revoke, ...]
    commit: Commit | None
    complete: bool
    age: Age = Age.STALE

    @property
    def first_block(self) -> int:
        """Journal block at which the transaction begins, in the order of the log."""
        if self.revokes:  # written before the descriptors
            return self.revokes[0].block
        if self.descriptors:
            return self.descriptors[0].block
        return self.commit.block if self.commit else 0


class LogBlock(msgspec.Struct, frozen=True):
    """What journal block ``block`` is; ``item`` is its parsed form where there is one."""

    block: int
    role: Role
    sequence: int = 0
    item: Descriptor | Copy | Revoke | Commit | None = None


# -- checksums; all pure, ``seed`` is journal_seed() of the journal


def journal_seed(superblock: JournalSuperBlock) -> int:
    """Seed of all checksums in the log: ``j_csum_seed``."""
    return crc32c(ALL_ONES, superblock.s_uuid)


def expected_superblock(data: bytes) -> int:
    """``s_checksum`` of a journal superblock, from its 1024 bytes."""
    return crc32c(ALL_ONES, SUPERBLOCK.cleared(data[: JournalSuperBlock.SIZE]))


def tail_slot(block_size: int) -> Slot:
    """Where descriptor and revoke blocks keep their checksum."""
    return slot_of(BlockTail, "t_checksum", base=block_size - BlockTail.SIZE, big=True)


def expected_tail(seed: int, block: bytes) -> int:
    """Checksum of a descriptor or revoke block."""
    return crc32c(seed, tail_slot(len(block)).cleared(block))


def expected_commit(seed: int, block: bytes) -> int:
    """``h_chksum[0]`` of a commit block, from the whole block."""
    return crc32c(seed, COMMIT.cleared(block))


def expected_tag(seed: int, sequence: int, copy: bytes, layout: TagLayout) -> int:
    """``t_checksum`` of a tag; ``copy`` is the block as it is in the log, escaped where it is."""
    value = crc32c(crc32c(seed, _BE32.pack(sequence)), copy)
    return value & ((1 << layout.checksum_bits) - 1)


def tag_slot(layout: TagLayout, tag: Tag) -> Slot:
    """Where a descriptor keeps the checksum of one of its copies."""
    return slot_of(layout.structure, "t_checksum", base=tag.offset, big=True)


# -- parsing


def is_header(block: bytes) -> bool:
    """Tell whether a block of the log is not a copy."""
    return block[: len(_MAGIC)] == _MAGIC


def parse_descriptor(block: bytes, number: int, layout: TagLayout) -> Descriptor:
    """Parse the tags of a descriptor; a list without an end ends with the block."""
    header = BlockHeader.parse(block)
    room = len(block) - (BlockTail.SIZE if layout.block_tails else 0)
    tags: list[Tag] = []
    at = BlockHeader.SIZE
    while at + layout.size <= room:
        raw = layout.structure.parse(block, at)
        high = raw.t_blocknr_high if layout.wide and isinstance(raw, Tag64 | Tag3) else 0
        flags = TagFlag(raw.t_flags)
        tags.append(Tag(raw.t_blocknr | high << 32, flags, raw.t_checksum, at))
        at += layout.size + (0 if TagFlag.SAME_UUID in flags else UUID_SIZE)
        if TagFlag.LAST_TAG in flags:
            break
    return Descriptor(number, header.h_sequence, tuple(tags), min(at, room))


def parse_revoke(block: bytes, number: int, layout: TagLayout) -> Revoke:
    """Parse the revoked blocks of a revoke block."""
    header = RevokeHeader.parse(block)
    end = min(header.r_count, len(block) - (BlockTail.SIZE if layout.block_tails else 0))
    count = max(end - RevokeHeader.SIZE, 0) // layout.revoke_size
    homes = struct.unpack_from(f">{count}{'Q' if layout.wide else 'I'}", block, RevokeHeader.SIZE)
    return Revoke(number, header.h_sequence, homes, header.r_count)


def parse_commit(block: bytes, number: int) -> Commit:
    """Parse a commit block."""
    header = CommitHeader.parse(block)
    return Commit(number, header.h_sequence, header.h_commit_sec, header.h_commit_nsec)
