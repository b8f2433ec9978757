"""Writing transactions into the journal of a partition."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.edits.ext4_copies import CopyChange, Moment, Origin, made_copy
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import Fields, updated
from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4 import jbd2
from rehydrator.fs.ext4.c_jbd2 import JBD2_MAGIC, BlockHeader, BlockType, JournalIncompat, JournalSuperBlock
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.jbd2_write import commit_block, descriptor_block, revoke_block


class TagRow(msgspec.Struct, array_like=True, frozen=True):
    """A tag of a descriptor: file system block and flags."""

    home: int
    flags: int


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


class _DescriptorPlan(msgspec.Struct, frozen=True):
    """A descriptor to be written: where, from which template, with which tags, and the places of its copies."""

    block: int
    template: bytes
    tags: tuple[jbd2.Tag, ...]
    places: tuple[int, ...]


class Log:
    """The journal of a partition during a replay; block numbers count journal blocks, from 0 for its superblock."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self._state = replay.state(Ext4State, partition)
        self.times = replay.times
        self.moment = Moment(self._state, replay.times)
        self._size = self.moment.final.geometry.block_size
        self.blocks = journal_blocks(self.moment.final)
        self.superblock = JournalSuperBlock.parse(self.block_before(0))
        features = JournalIncompat(self.superblock.s_feature_incompat)
        self.layout = jbd2.TagLayout.of(features)
        self.seed = jbd2.journal_seed(self.superblock)
        fast = self.superblock.s_num_fc_blks if JournalIncompat.FAST_COMMIT in features else 0
        self._first, self._last = self.superblock.s_first, self.superblock.s_maxlen - fast

    def block_now(self, block: int) -> bytes:
        """Return a journal block as it is now."""
        return self.moment.final.read_block(self._home(block))

    def block_before(self, block: int) -> bytes:
        """Return a journal block as it was in the base."""
        return self.moment.before.read_block(self._home(block))

    def _home(self, block: int) -> int:
        if not 0 <= block < len(self.blocks):
            raise StoreDamagedError("an edit leaves the journal", actual=block, expected=f"below {len(self.blocks)}")
        return self.blocks[block]

    def following(self, block: int, count: int) -> list[int]:
        """Return the ``count`` blocks from ``block`` on, as the log goes: from its end on at its front."""
        return [item if item < self._last else item - self._last + self._first for item in range(block, block + count)]

    def write(self, block: int, data: bytes) -> None:
        """Write a journal block."""
        self._state.write(self._home(block) * self._size, data)

    def write_superblock(self, fields: Fields) -> None:
        """Set fields of the journal superblock."""
        raw = bytearray(updated(self.superblock, fields).pack())
        if self.layout.block_tails:
            jbd2.SUPERBLOCK.put(raw, jbd2.expected_superblock(bytes(raw)))
        self.write(0, bytes(raw) + self.block_now(0)[len(raw) :])

    def write_home(self, home: int) -> None:
        """Write the last copy of a block to its place."""
        if home not in self.moment.copies or not self.moment.final.valid_block(home):
            raise StoreDamagedError("the journal has no copy of a block that is to be written", actual=home)
        self._state.write(home * self._size, self.moment.copies[home])

    def write_transaction(self, change: TransactionChange) -> None:
        """Write revokes, descriptors, copies and commit of a transaction, with all checksums."""
        special = {item.home: item for item in change.copies}
        at = change.block
        for homes in change.revokes:
            self.write(at, self._tailed(revoke_block(change.sequence, homes, self.layout, self._size)))
            at = self.following(at, 2)[1]
        plans = list(self._plans(change, at))
        pairs = [(tag.home, place) for plan in plans for tag, place in zip(plan.tags, plan.places, strict=True)]
        copies: dict[int, bytes] = {}
        for home, place in self.moment.in_order(pairs):
            item = special.get(home) or CopyChange(home)
            copies[place] = made_copy(self.moment, item, self.origin(item.origin, home, place))
            self.moment.copies[home] = copies[place]
        for plan in plans:
            self._write_descriptor(change.sequence, plan, copies)
            at = self.following(plan.block, len(plan.tags) + 2)[-1]
        self.write(at, self._commit(change))

    def _write_descriptor(self, sequence: int, plan: _DescriptorPlan, copies: dict[int, bytes]) -> None:
        block = bytearray(plan.template)
        for tag, place in zip(plan.tags, plan.places, strict=True):
            copy = bytes(4) + copies[place][4:] if tag.escaped else copies[place]
            self.write(place, copy)
            if self.layout.checksum_bits:
                checksum = jbd2.expected_tag(self.seed, sequence, copy, self.layout)
                jbd2.tag_slot(self.layout, tag).put(block, checksum)
        self.write(plan.block, self._tailed(bytes(block)))

    def _tailed(self, data: bytes) -> bytes:
        """Return a descriptor or revoke block with its checksum, if there is one."""
        block = bytearray(data)
        if self.layout.block_tails:
            jbd2.tail_slot(self._size).put(block, jbd2.expected_tail(self.seed, data))
        return bytes(block)

    def _commit(self, change: TransactionChange) -> bytes:
        time = self.times.at(change.commit)
        block = bytearray(commit_block(change.sequence, time.sec, time.nsec, self._size))
        if self.layout.block_tails:
            jbd2.COMMIT.put(block, jbd2.expected_commit(self.seed, bytes(block)))
        return bytes(block)

    def _plans(self, change: TransactionChange, at: int) -> Iterator[_DescriptorPlan]:
        if change.tags is None:
            descriptors = self.base_descriptors(change.sequence, at)
            if not descriptors:
                raise StoreDamagedError("the base has no such journal transaction", actual=change.sequence)
            for item in descriptors:
                places = self.following(item.block, len(item.tags) + 1)[1:]
                yield _DescriptorPlan(item.block, self.block_before(item.block), item.tags, tuple(places))
            return
        for rows in change.tags:
            pairs = [(row.home, row.flags) for row in rows]
            template, tags = descriptor_block(change.sequence, pairs, self.layout, self._size)
            places = self.following(at, len(tags) + 2)
            yield _DescriptorPlan(at, template, tags, tuple(places[1:-1]))
            at = places[-1]

    def base_descriptors(self, sequence: int, block: int) -> tuple[jbd2.Descriptor, ...]:
        """Return the descriptors of the base's transaction at a place, none where there is another one."""
        found: list[jbd2.Descriptor] = []
        while 0 < block < len(self.blocks) and len(found) < len(self.blocks):
            data = self.block_before(block)
            header = BlockHeader.parse(data)
            if (header.h_magic, header.h_blocktype, header.h_sequence) != (JBD2_MAGIC, BlockType.DESCRIPTOR, sequence):
                break
            found.append(jbd2.parse_descriptor(data, block, self.layout))
            block = self.following(block, len(found[-1].tags) + 2)[-1]
        return tuple(found)

    def origin(self, origin: Origin, home: int, block: int) -> bytes:
        """Return the block that the copy at journal block ``block`` is told from."""
        match origin:
            case Origin.FINAL:
                return self.moment.final.read_block(home)
            case Origin.BEFORE:
                return self.moment.before.read_block(home)
            case Origin.HERE:
                return self.block_before(block)
            case Origin.EARLIER:
                return self.moment.copies.get(home) or self.moment.final.read_block(home)


def journal_blocks(ext4: Ext4) -> list[int]:
    """Return the file system block of each journal block."""
    inode = ext4.inode(ext4.superblock.s_journal_inum)
    runs = sorted(ext4.block_map(inode).runs, key=lambda run: run.logical)
    return [run.physical + index for run in runs for index in range(run.count)]
