"""The journal as transactions: which journal block is what, and which are still to be replayed.

The log is a ring of blocks. Copies whose first bytes look like a journal header are escaped when they are written,
so a block with the magic number is a header and every other one belongs to the last descriptor before it that still
misses copies. Whatever was overwritten since is left over and said to be so.

Source: Linux ``fs/jbd2/commit.c``, ``recovery.c``, ``journal.c``, ``revoke.c``. Block numbers count journal blocks
from 0 (the journal superblock) unless they are called ``home``: those are file system blocks.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from rehydrator.codecs.crc32c import crc32c
from rehydrator.disk.extents import is_zero
from rehydrator.fs.ext4.c_jbd2 import (
    JBD2_MAGIC,
    UUID_SIZE,
    BlockHeader,
    BlockTail,
    BlockType,
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

ReadBlocks = Callable[[int, int], bytes]

CHUNK_BLOCKS = 256
_BE32 = struct.Struct(">I")
_HEADER = struct.Struct(">III")
_MAGIC = _BE32.pack(JBD2_MAGIC)
_SUPERBLOCK_TYPES = (BlockType.SUPERBLOCK_V1, BlockType.SUPERBLOCK_V2)
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


@dataclass(frozen=True)
class TagLayout:
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


@dataclass(frozen=True)
class Tag:
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


@dataclass(frozen=True)
class Descriptor:
    """A descriptor at journal block ``block``; ``end`` is the first byte behind its tags."""

    block: int
    sequence: int
    tags: tuple[Tag, ...]
    end: int


@dataclass(frozen=True)
class Copy:
    """Journal block ``block`` holds a copy of file system block ``tag.home``, listed in ``descriptor``."""

    block: int
    sequence: int
    tag: Tag
    descriptor: int


@dataclass(frozen=True)
class Revoke:
    """A revoke block: copies of ``homes`` in this and older transactions are not to be replayed."""

    block: int
    sequence: int
    homes: tuple[int, ...]
    r_count: int


@dataclass(frozen=True)
class Commit:
    """A commit block; the time is when the transaction was committed."""

    block: int
    sequence: int
    seconds: int
    nanoseconds: int


@dataclass(frozen=True)
class Transaction:
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


@dataclass(frozen=True)
class LogBlock:
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


@dataclass
class _Draft:
    """A transaction while its blocks are being collected."""

    sequence: int
    descriptors: list[Descriptor] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    revokes: list[Revoke] = field(default_factory=list)
    commit: Commit | None = None
    headless: bool = False  # its first blocks were overwritten
    broken: bool = False  # later ones were

    def done(self) -> Transaction:
        missing = sum(len(item.tags) for item in self.descriptors) - len(self.copies)
        complete = not self.headless and not self.broken and not missing and self.commit is not None
        return Transaction(
            self.sequence, tuple(self.descriptors), tuple(self.copies), tuple(self.revokes), self.commit, complete
        )


class Journal:
    """A parsed journal of ``block_count`` blocks; ``read(first, count)`` returns whole journal blocks."""

    def __init__(self, read: ReadBlocks, block_count: int, block_size: int) -> None:
        self._read = read
        self.block_size = block_size
        self.superblock_raw = read(0, 1)[: JournalSuperBlock.SIZE]
        self.superblock = JournalSuperBlock.parse(self.superblock_raw)
        self.features = JournalIncompat(self.superblock.s_feature_incompat)
        self.layout = TagLayout.of(self.features)
        self.seed = journal_seed(self.superblock)
        self.problem = self._superblock_problem(block_count)
        self.block_count = block_count
        self._blocks: dict[int, LogBlock] = {}
        self._ages: dict[tuple[int, int], Age] = {}
        self.transactions: tuple[Transaction, ...] = ()
        if self.problem is None:
            fast = self.superblock.s_num_fc_blks if JournalIncompat.FAST_COMMIT in self.features else 0
            self.first = self.superblock.s_first
            self.last = self.superblock.s_maxlen - fast  # first block behind the ring
            self.transactions = self._aged(list(self._scan()))
        else:
            self.first = self.last = block_count

    @property
    def needs_recovery(self) -> bool:
        """Whether the log holds transactions that may not be in place yet."""
        return self.superblock.s_start != 0

    def read_block(self, block: int) -> bytes:
        """Return one journal block."""
        return self._read(block, 1)

    def block(self, block: int) -> LogBlock:
        """Tell what a journal block is."""
        if block == 0:
            return LogBlock(0, Role.SUPERBLOCK)
        if self.problem is None and self.last <= block < self.superblock.s_maxlen:
            return LogBlock(block, Role.FAST_COMMIT)
        return self._blocks.get(block) or LogBlock(block, Role.UNUSED)

    def age_of(self, block: LogBlock) -> Age:
        """Return the age of the transaction that a block belongs to."""
        return self._ages.get((block.sequence, block.block), Age.STALE)

    def _superblock_problem(self, block_count: int) -> str | None:
        superblock = self.superblock
        if superblock.h_magic != JBD2_MAGIC or superblock.h_blocktype not in _SUPERBLOCK_TYPES:
            return f"h_magic is {superblock.h_magic:#x}, h_blocktype {superblock.h_blocktype}"
        if superblock.s_blocksize != self.block_size:
            return f"s_blocksize is {superblock.s_blocksize}, not {self.block_size}"
        fast = superblock.s_num_fc_blks if JournalIncompat.FAST_COMMIT in self.features else 0
        if not 0 < superblock.s_first < superblock.s_maxlen - fast or superblock.s_maxlen > block_count:
            return f"s_first is {superblock.s_first}, s_maxlen {superblock.s_maxlen} of {block_count} blocks"
        if superblock.s_start >= superblock.s_maxlen:
            return f"s_start is {superblock.s_start} of {superblock.s_maxlen}"
        return None

    def _headers(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield (number, block) of the ring; the block only where it is a header."""
        size = self.block_size
        for start in range(self.first, self.last, CHUNK_BLOCKS):
            count = min(CHUNK_BLOCKS, self.last - start)
            data = self._read(start, count)
            if is_zero(data):  # most of a young journal
                yield from ((start + index, None) for index in range(count))
                continue
            for index in range(count):
                at = index * size
                yield start + index, data[at : at + size] if data.startswith(_MAGIC, at) else None

    def _scan(self) -> Iterator[Transaction]:
        """Read the ring once, front to end, and put transactions together."""
        drafts: list[_Draft] = []
        waiting: list[tuple[Descriptor, Tag]] = []
        wrapped: list[int] = []  # blocks at the front that may belong to what begins at the end of the ring
        seen_header = False
        for number, block in self._headers():
            if block is None:
                if waiting:
                    self._add_copy(drafts[-1], number, waiting.pop(0))
                elif not seen_header:
                    wrapped.append(number)
                continue
            seen_header = True
            if waiting:
                drafts[-1].broken = True
                waiting = []
            waiting = self._add_header(drafts, number, block)
        for number in wrapped[: len(waiting)]:
            self._add_copy(drafts[-1], number, waiting.pop(0))
        if not waiting and len(drafts) > 1:
            self._join_ends(drafts)
        return (draft.done() for draft in drafts)

    def _join_ends(self, drafts: list[_Draft]) -> None:
        """Put a transaction together that begins at the end of the ring and goes on at its front."""
        front, back = drafts[0], drafts[-1]
        if front.sequence != back.sequence or back.commit is not None or front is back:
            return
        back.descriptors += front.descriptors
        back.copies += front.copies
        back.revokes += front.revokes
        back.commit = front.commit
        back.broken |= front.broken
        del drafts[0]

    def _add_copy(self, draft: _Draft, number: int, wanted: tuple[Descriptor, Tag]) -> None:
        descriptor, tag = wanted
        copy = Copy(number, descriptor.sequence, tag, descriptor.block)
        draft.copies.append(copy)
        self._blocks[number] = LogBlock(number, Role.COPY, descriptor.sequence, copy)

    def _add_header(self, drafts: list[_Draft], number: int, block: bytes) -> list[tuple[Descriptor, Tag]]:
        """Add a header to its transaction; return the copies that must follow it."""
        _, kind, sequence = _HEADER.unpack_from(block)
        if kind not in (BlockType.DESCRIPTOR, BlockType.COMMIT, BlockType.REVOKE):
            return []
        if not drafts or drafts[-1].sequence != sequence or drafts[-1].commit is not None:
            drafts.append(_Draft(sequence, headless=not self._begins(number, kind, sequence)))
        draft = drafts[-1]
        item: Descriptor | Revoke | Commit
        wanted: list[tuple[Descriptor, Tag]] = []
        if kind == BlockType.DESCRIPTOR:
            item = parse_descriptor(block, number, self.layout)
            draft.descriptors.append(item)
            wanted = [(item, tag) for tag in item.tags]
            role = Role.DESCRIPTOR
        elif kind == BlockType.REVOKE:
            item = parse_revoke(block, number, self.layout)
            draft.revokes.append(item)
            role = Role.REVOKE
        else:
            item = draft.commit = parse_commit(block, number)
            role = Role.COMMIT
        self._blocks[number] = LogBlock(number, role, sequence, item)
        return wanted

    def _begins(self, number: int, kind: int, sequence: int) -> bool:
        """Tell whether a transaction begins here, and not the rest of one whose start was overwritten.

        Such a rest follows what overwrote it, which is newer, or a copy that nothing lists any more.
        """
        if number == self.first:
            return kind != BlockType.COMMIT
        before = self._blocks.get(number - 1)
        if before is None:
            return kind != BlockType.COMMIT and is_zero(self.read_block(number - 1))
        return before.sequence < sequence

    def _aged(self, found: list[Transaction]) -> tuple[Transaction, ...]:
        """Give each transaction its age and sort them by sequence."""
        ordered = sorted(found, key=lambda item: item.sequence)
        pending = self._pending(ordered)
        latest: set[int] = set()
        expected: int | None = None
        for index in range(len(ordered) - 1, -1, -1):
            item = ordered[index]
            if not item.complete or (expected is not None and item.sequence != expected):
                break
            latest.add(index)
            expected = item.sequence - 1
        aged = [
            replace(item, age=Age.PENDING if item.sequence in pending else Age.LATEST if index in latest else Age.STALE)
            for index, item in enumerate(ordered)
        ]
        self._ages = {
            (part.sequence, part.block): item.age
            for item in aged
            for part in (*item.descriptors, *item.copies, *item.revokes, *((item.commit,) if item.commit else ()))
        }
        return tuple(aged)

    def _pending(self, ordered: list[Transaction]) -> set[int]:
        """Sequences that recovery would replay: from s_start and s_sequence on as long as they follow each other."""
        if not self.needs_recovery:
            return set()
        by_sequence = {item.sequence: item for item in ordered if item.complete}
        found: set[int] = set()
        sequence = self.superblock.s_sequence
        item = by_sequence.get(sequence)
        while item is not None and (found or item.first_block == self.superblock.s_start):
            found.add(sequence)
            sequence += 1
            item = by_sequence.get(sequence)
        return found
