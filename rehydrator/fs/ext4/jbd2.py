"""The journal as transactions: which journal block is what, and which are still to be replayed.

The log is a ring of blocks. Copies whose first bytes look like a journal header are escaped when they are written,
so a block with the magic number is a header and every other one belongs to the last descriptor before it that still
misses copies. Whatever was overwritten since is left over and said to be so.

Source: Linux ``fs/jbd2/commit.c``, ``recovery.c``, ``journal.c``, ``revoke.c``. Block numbers count journal blocks
from 0 (the journal superblock) unless they are called ``home``: those are file system blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.disk.extents import is_zero
from rehydrator.fs.ext4.c_jbd2 import JBD2_MAGIC, BlockType, JournalIncompat, JournalSuperBlock
from rehydrator.fs.ext4.jbd2_blocks import (
    COMMIT,
    SUPERBLOCK,
    Age,
    Commit,
    Copy,
    Descriptor,
    LogBlock,
    Revoke,
    Role,
    Tag,
    TagLayout,
    Transaction,
    expected_commit,
    expected_superblock,
    expected_tag,
    expected_tail,
    is_header,
    journal_seed,
    parse_commit,
    parse_descriptor,
    parse_revoke,
    tag_slot,
    tail_slot,
)

__all__ = [
    "COMMIT",
    "SUPERBLOCK",
    "Age",
    "Commit",
    "Copy",
    "Descriptor",
    "Journal",
    "LogBlock",
    "Revoke",
    "Role",
    "Tag",
    "TagLayout",
    "Transaction",
    "expected_commit",
    "expected_superblock",
    "expected_tag",
    "expected_tail",
    "is_header",
    "journal_seed",
    "parse_commit",
    "parse_descriptor",
    "parse_revoke",
    "tag_slot",
    "tail_slot",
]

ReadBlocks = Callable[[int, int], bytes]

CHUNK_BLOCKS = 256
_HEADER = struct.Struct(">III")
_MAGIC = struct.pack(">I", JBD2_MAGIC)
_SUPERBLOCK_TYPES = (BlockType.SUPERBLOCK_V1, BlockType.SUPERBLOCK_V2)


class _Draft(msgspec.Struct):
    """A transaction while its blocks are being collected."""

    sequence: int
    descriptors: list[Descriptor] = msgspec.field(default_factory=list)
    copies: list[Copy] = msgspec.field(default_factory=list)
    revokes: list[Revoke] = msgspec.field(default_factory=list)
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
