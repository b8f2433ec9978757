"""``ext4.journal``: jbd2 transactions. Copies, their checksums and those of the blocks around them follow.

A transaction's copies are usually the blocks as they are in the end; where one is an earlier state, the manifest
names what to start from and the fields that differ. Tags are only kept where the base has other ones there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.ext4_superblock import changed_fields, with_fields
from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.literal import LiteralRun, literal_runs, write_runs
from rehydrator.edits.replay import Replay
from rehydrator.edits.times import Time, TimeTable
from rehydrator.edits.words import counted
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4 import checksums, jbd2
from rehydrator.fs.ext4.c_ext4 import SUPER_OFFSET, SuperBlock
from rehydrator.fs.ext4.c_jbd2 import (
    JBD2_MAGIC,
    UUID_SIZE,
    BlockHeader,
    BlockType,
    CommitHeader,
    JournalIncompat,
    JournalSuperBlock,
    RevokeHeader,
    TagFlag,
)
from rehydrator.fs.ext4.ext4 import Ext4

_DERIVED = ("s_checksum",)


class Origin(enum.StrEnum):
    """What a copy is told from."""

    FINAL = "final"  # the block as it is after all other edits
    BEFORE = "before"  # the block as it was in the base
    HERE = "here"  # what the base's journal holds at this place
    EARLIER = "earlier"  # the copy of this block in an earlier transaction of the edit


class TagRow(msgspec.Struct, array_like=True, frozen=True):
    """A tag of a descriptor: file system block and flags."""

    home: int
    flags: int


class CopyChange(msgspec.Struct, frozen=True, omit_defaults=True, rename={"origin": "from"}):
    """A copy that is not simply the final block. ``set`` are superblock fields."""

    home: int
    origin: Origin = Origin.FINAL
    set: Fields = {}
    runs: list[LiteralRun] = []


class TransactionChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transaction at journal block ``block``; ``tags`` per descriptor, absent where they are the base's.

    ``revokes`` are the home blocks of each revoke block; these come before the descriptors.
    """

    sequence: int
    block: int
    commit: str
    tags: list[list[TagRow]] | None = None
    copies: list[CopyChange] = []
    revokes: list[list[int]] = []


class Ext4Journal(msgspec.Struct, tag="ext4.journal", tag_field="op", frozen=True, omit_defaults=True):
    """Changes of the journal of one partition. Always after all other edits of it."""

    partition: str
    superblock: Fields = {}
    transactions: list[TransactionChange] = []

    def apply(self, replay: Replay) -> None:
        """Write the journal superblock and each transaction."""
        log = _Log(replay, self.partition)
        if self.superblock:
            disk = updated(log.superblock, self.superblock)
            raw = bytearray(disk.pack())
            if log.layout.block_tails:
                jbd2.SUPERBLOCK.put(raw, jbd2.expected_superblock(bytes(raw)))
            log.write(0, bytes(raw) + log.block_now(0)[len(raw) :])
        for change in self.transactions:
            log.write_transaction(change)

    def describe(self) -> str:
        """Count transactions."""
        return counted(len(self.transactions), "journal transaction") if self.transactions else "journal superblock"

    def literal_bytes(self) -> int:
        """Sum of the copies' bytes without a name."""
        return sum(len(run.data) for item in self.transactions for copy in item.copies for run in copy.runs)


class _DescriptorPlan(msgspec.Struct, frozen=True):
    """A descriptor to be written: where, from which template, with which tags."""

    block: int
    template: bytes
    tags: tuple[jbd2.Tag, ...]


class _Log:
    """The journal of a partition during a replay; block numbers count journal blocks."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self._state = replay.state(Ext4State, partition)
        self.times = replay.times
        self.final = self._state.now
        self.before = self._state.before
        self._size = self.final.geometry.block_size
        self._blocks = journal_blocks(self.final)
        self.superblock = JournalSuperBlock.parse(self.block_before(0))
        self.layout = jbd2.TagLayout.of(JournalIncompat(self.superblock.s_feature_incompat))
        self.seed = jbd2.journal_seed(self.superblock)
        self.earlier: dict[int, bytes] = {}

    def block_now(self, block: int) -> bytes:
        """A journal block as it is now."""
        return self.final.read_block(self._home(block))

    def block_before(self, block: int) -> bytes:
        """A journal block as it was in the base."""
        return self.before.read_block(self._home(block))

    def _home(self, block: int) -> int:
        if not 0 <= block < len(self._blocks):
            raise StoreDamagedError("an edit leaves the journal", actual=block, expected=f"below {len(self._blocks)}")
        return self._blocks[block]

    def write(self, block: int, data: bytes) -> None:
        """Write a journal block."""
        self._state.write(self._home(block) * self._size, data)

    def write_transaction(self, change: TransactionChange) -> None:
        """Write descriptors, copies and commit of a transaction, with all checksums."""
        special = {item.home: item for item in change.copies}
        at = change.block
        for homes in change.revokes:
            self.write(at, self._revoke(change.sequence, homes))
            at += 1
        for plan in self._plans(change, at):
            block = bytearray(plan.template)
            layout, seed = self.layout, self.seed
            for index, tag in enumerate(plan.tags):
                copy = self.copy(special.get(tag.home) or CopyChange(tag.home), plan.block + 1 + index)
                self.earlier[tag.home] = copy
                if tag.escaped:
                    copy = bytes(4) + copy[4:]
                self.write(plan.block + 1 + index, copy)
                if layout.checksum_bits:
                    checksum = jbd2.expected_tag(seed, change.sequence, copy, layout)
                    jbd2.tag_slot(layout, tag).put(block, checksum)
            if layout.block_tails:
                jbd2.tail_slot(self._size).put(block, jbd2.expected_tail(seed, bytes(block)))
            self.write(plan.block, bytes(block))
            at = plan.block + 1 + len(plan.tags)
        self.write(at, self._commit(change, self.times))

    def _revoke(self, sequence: int, homes: list[int]) -> bytes:
        block = bytearray(revoke_block(sequence, homes, self.layout, self._size))
        if self.layout.block_tails:
            jbd2.tail_slot(self._size).put(block, jbd2.expected_tail(self.seed, bytes(block)))
        return bytes(block)

    def _commit(self, change: TransactionChange, times: TimeTable) -> bytes:
        time = times.at(change.commit)
        block = bytearray(commit_block(change.sequence, time, self._size))
        if self.layout.block_tails:
            jbd2.COMMIT.put(block, jbd2.expected_commit(self.seed, bytes(block)))
        return bytes(block)

    def _plans(self, change: TransactionChange, at: int) -> Iterator[_DescriptorPlan]:
        if change.tags is None:
            descriptors = self.base_descriptors(change.sequence, at)
            if not descriptors:
                raise StoreDamagedError("the base has no such journal transaction", actual=change.sequence)
            for item in descriptors:
                yield _DescriptorPlan(item.block, self.block_before(item.block), item.tags)
            return
        for rows in change.tags:
            template, tags = descriptor_block(change.sequence, rows, self.layout, self._size)
            yield _DescriptorPlan(at, template, tags)
            at += 1 + len(tags)

    def base_descriptors(self, sequence: int, block: int) -> tuple[jbd2.Descriptor, ...]:
        """Return the descriptors of the base's transaction at a place, none where there is another one."""
        found: list[jbd2.Descriptor] = []
        while 0 < block < len(self._blocks):
            data = self.block_before(block)
            header = BlockHeader.parse(data)
            if (header.h_magic, header.h_blocktype, header.h_sequence) != (JBD2_MAGIC, BlockType.DESCRIPTOR, sequence):
                break
            found.append(jbd2.parse_descriptor(data, block, self.layout))
            block += 1 + len(found[-1].tags)
        return tuple(found)

    def copy(self, change: CopyChange, block: int) -> bytes:
        """Return the content of a copy, unescaped."""
        data = bytearray(self.origin(change.origin, change.home, block))
        if change.set:
            start = SUPER_OFFSET - change.home * self._size
            if not 0 <= start <= len(data) - SuperBlock.SIZE:
                raise StoreDamagedError("a journal copy with fields is not the superblock", actual=change.home)
            superblock = with_fields(SuperBlock.parse(data, start), change.set, self.times)
            raw = bytearray(superblock.pack())
            if self.final.geometry.metadata_csum:
                checksums.SUPERBLOCK.put(raw, checksums.expected_superblock(bytes(raw)))
            data[start : start + len(raw)] = raw
        write_runs(data, change.runs)
        return bytes(data)

    def origin(self, origin: Origin, home: int, block: int) -> bytes:
        """Return the block that a copy is told from."""
        match origin:
            case Origin.FINAL:
                return self.final.read_block(home)
            case Origin.BEFORE:
                return self.before.read_block(home)
            case Origin.HERE:
                return self.block_before(block)
            case Origin.EARLIER:
                return self.earlier.get(home) or self.final.read_block(home)


def journal_blocks(ext4: Ext4) -> list[int]:
    """Return the file system block of each journal block."""
    inode = ext4.inode(ext4.superblock.s_journal_inum)
    runs = sorted(ext4.block_map(inode).runs, key=lambda run: run.logical)
    return [run.physical + index for run in runs for index in range(run.count)]


def journal_of(ext4: Ext4) -> jbd2.Journal:
    """Parse the journal of a file system."""
    blocks = journal_blocks(ext4)
    return jbd2.Journal(
        lambda first, count: b"".join(_read(ext4, blocks[first : first + count])), len(blocks), ext4.geometry.block_size
    )


def _read(ext4: Ext4, blocks: list[int]) -> Iterator[bytes]:
    """Read blocks, neighbours at once."""
    size = ext4.geometry.block_size
    start = 0
    for index in range(1, len(blocks) + 1):
        if index == len(blocks) or blocks[index] != blocks[index - 1] + 1:
            yield ext4.read(blocks[start] * size, (index - start) * size)
            start = index


def descriptor_block(
    sequence: int, rows: Iterable[TagRow], layout: jbd2.TagLayout, size: int
) -> tuple[bytes, tuple[jbd2.Tag, ...]]:
    """Return a descriptor without its checksums, and its tags."""
    header = BlockHeader(h_magic=JBD2_MAGIC, h_blocktype=BlockType.DESCRIPTOR, h_sequence=sequence)
    data = bytearray(header.pack().ljust(size, b"\0"))
    tags: list[jbd2.Tag] = []
    at = BlockHeader.SIZE
    for row in rows:
        fields: Fields = {"t_blocknr": row.home % (1 << 32), "t_flags": row.flags}
        if layout.wide:
            fields["t_blocknr_high"] = row.home >> 32
        raw = updated(layout.structure.parse(bytes(layout.structure.SIZE)), fields).pack()
        if at + layout.size > size:
            raise StoreDamagedError("too many tags for a journal descriptor")
        data[at : at + len(raw)] = raw
        tags.append(jbd2.Tag(row.home, TagFlag(row.flags), 0, at))
        at += layout.size + (0 if row.flags & TagFlag.SAME_UUID else UUID_SIZE)
    return bytes(data), tuple(tags)


def revoke_block(sequence: int, homes: list[int], layout: jbd2.TagLayout, size: int) -> bytes:
    """Return a revoke block without its checksum."""
    numbers = b"".join(home.to_bytes(layout.revoke_size, "big") for home in homes)
    header = RevokeHeader(
        h_magic=JBD2_MAGIC, h_blocktype=BlockType.REVOKE, h_sequence=sequence, r_count=RevokeHeader.SIZE + len(numbers)
    )
    if RevokeHeader.SIZE + len(numbers) > size:
        raise StoreDamagedError("too many blocks for a revoke block", actual=len(homes))
    return (header.pack() + numbers).ljust(size, b"\0")


def commit_block(sequence: int, time: Time, size: int) -> bytes:
    """Return a commit block without its checksum."""
    header = CommitHeader(
        h_magic=JBD2_MAGIC,
        h_blocktype=BlockType.COMMIT,
        h_sequence=sequence,
        h_chksum_type=0,
        h_chksum_size=0,
        h_padding=bytes(2),
        h_chksum=bytes(32),
        h_commit_sec=time.sec,
        h_commit_nsec=time.nsec,
    )
    return header.pack().ljust(size, b"\0")


def recognise(replay: Replay, partition: str, target: Ext4) -> Iterator[Ext4Journal]:
    """Tell how the journal of ``target`` differs; all other edits must have been applied."""
    log = _Log(replay, partition)
    blocks = journal_blocks(target)
    if blocks != journal_blocks(log.final):
        return
    wanted = journal_of(target)
    if wanted.problem:
        return
    superblock = changed(log.superblock, wanted.superblock, _DERIVED)
    changes = [
        change
        for item in wanted.transactions
        if item.complete and _differs(item, target, log, blocks)
        for change in [_told(item, target, log, blocks)]
        if change is not None
    ]
    if superblock or changes:
        yield Ext4Journal(partition, superblock, changes)


def _all_blocks(item: jbd2.Transaction) -> Iterator[int]:
    parts = (*item.revokes, *item.descriptors, *item.copies, *((item.commit,) if item.commit else ()))
    return (part.block for part in parts)


def _differs(item: jbd2.Transaction, target: Ext4, log: _Log, blocks: list[int]) -> bool:
    return any(log.block_now(block) != target.read_block(blocks[block]) for block in _all_blocks(item))


def _told(item: jbd2.Transaction, target: Ext4, log: _Log, blocks: list[int]) -> TransactionChange | None:
    """Tell a transaction, or None for one that lies in the log in an order not known here."""
    numbers = list(_all_blocks(item))
    if item.commit is None or sorted(numbers) != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    first = item.first_block
    revokes = [list(part.homes) for part in item.revokes]
    base = log.base_descriptors(item.sequence, first + len(revokes))
    same = [_rows(descriptor) for descriptor in base] == [_rows(descriptor) for descriptor in item.descriptors]
    copies = [
        change
        for copy in item.copies
        for change in [_copy_change(copy, target.read_block(blocks[copy.block]), log)]
        if change is not None
    ]
    commit = log.times.intern(Time(item.commit.seconds, item.commit.nanoseconds))
    tags = None if same else [_rows(descriptor) for descriptor in item.descriptors]
    return TransactionChange(item.sequence, first, commit, tags, copies, revokes)


def _rows(descriptor: jbd2.Descriptor) -> list[TagRow]:
    return [TagRow(tag.home, int(tag.flags)) for tag in descriptor.tags]


def _copy_change(copy: jbd2.Copy, data: bytes, log: _Log) -> CopyChange | None:
    """Tell a copy from the best origin; None where it is the final block."""
    home = copy.tag.home
    if copy.tag.escaped:
        data = JBD2_MAGIC.to_bytes(4, "big") + data[4:]
    origins = [origin for origin in Origin if origin is not Origin.EARLIER or home in log.earlier]
    candidates = [_told_from(origin, home, copy.block, data, log) for origin in origins]
    log.earlier[home] = data
    best = min(candidates, key=lambda item: len(msgspec.json.encode(item)))
    return None if best == CopyChange(home) else best


def _told_from(origin: Origin, home: int, block: int, data: bytes, log: _Log) -> CopyChange:
    """Tell a copy from one origin: superblock fields by name, all other bytes as they are."""
    change = CopyChange(home, origin)
    before = log.origin(origin, home, block)
    start = SUPER_OFFSET - home * len(data)
    if 0 <= start <= len(data) - SuperBlock.SIZE and before != data:
        old, new = SuperBlock.parse(before, start), SuperBlock.parse(data, start)
        change = CopyChange(home, origin, changed_fields(old, new, log.times))
        before = log.copy(change, block)
    if before == data:
        return change
    return CopyChange(home, origin, change.set, list(literal_runs(before, data)))
