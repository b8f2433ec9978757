"""``ext4.journal``: jbd2 transactions. Copies, their checksums and those of the blocks around them follow.

A transaction's copies are usually the blocks as they are in the end; where one is an earlier state, the manifest
names what to start from and what differs. Tags are only kept where the base has other ones there.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.edits.ext4_copies import CopyChange, Origin
from rehydrator.edits.ext4_copies_told import CopyTeller
from rehydrator.edits.ext4_log import Log, TagRow, TransactionChange, journal_blocks
from rehydrator.edits.fields import Fields, changed
from rehydrator.edits.replay import Replay
from rehydrator.edits.times import Time
from rehydrator.edits.words import counted
from rehydrator.fs.ext4 import jbd2
from rehydrator.fs.ext4.c_jbd2 import JBD2_MAGIC
from rehydrator.fs.ext4.owner import Ext4Filesystem

_DERIVED = ("s_checksum",)


class Ext4Journal(msgspec.Struct, tag="ext4.journal", tag_field="op", frozen=True, omit_defaults=True):
    """Changes of the journal of one partition. Always after all other edits of it.

    ``written`` are blocks that no other edit tells: they hold the last copy that the transactions have of them.
    """

    partition: str
    superblock: Fields = {}
    transactions: list[TransactionChange] = []
    written: list[int] = []

    def apply(self, replay: Replay) -> None:
        """Write the journal superblock and each transaction."""
        log = Log(replay, self.partition)
        if self.superblock:
            log.write_superblock(self.superblock)
        for change in self.transactions:
            log.write_transaction(change)
        for home in self.written:
            log.write_home(home)

    def describe(self) -> str:
        """Count transactions."""
        return counted(len(self.transactions), "journal transaction") if self.transactions else "journal superblock"

    def literal_bytes(self) -> int:
        """Sum of the copies' bytes without a name."""
        return sum(len(run.data) for item in self.transactions for copy in item.copies for run in copy.runs)


def recognise(replay: Replay, partition: str, target: Ext4Filesystem) -> Iterator[Ext4Journal]:
    """Tell how the journal of ``target`` differs; all other edits must have been applied."""
    log = Log(replay, partition)
    wanted = target.journal
    if wanted is None or wanted.problem or log.blocks != journal_blocks(target.fs):
        return
    superblock = changed(log.superblock, wanted.superblock, _DERIVED)
    teller = _Teller(log, target, wanted)
    changes = [
        change for item in wanted.transactions if teller.differs(item) and (change := teller.told(item)) is not None
    ]
    written = teller.written()
    if superblock or changes:
        yield Ext4Journal(partition, superblock, changes, written)


class _Teller:
    """Tells the transactions of ``journal``, in their order."""

    def __init__(self, log: Log, target: Ext4Filesystem, journal: jbd2.Journal) -> None:
        self._log = log
        self._target = target
        self._journal = journal
        self._copies = CopyTeller(log.moment, target)

    def differs(self, item: jbd2.Transaction) -> bool:
        """Tell whether any block of a transaction is not there yet."""
        return any(self._log.block_now(block) != self._journal.read_block(block) for block in _all_blocks(item))

    def told(self, item: jbd2.Transaction) -> TransactionChange | None:
        """Tell a transaction, or None for one that lies in the log in an order not known here."""
        first, count = item.first_block, sum(1 for _ in _all_blocks(item))
        if item.commit is None or set(_all_blocks(item)) != set(self._log.following(first, count)):
            return None
        revokes = [list(part.homes) for part in item.revokes]
        base = self._log.base_descriptors(item.sequence, self._log.following(first, len(revokes) + 1)[-1])
        same = [_rows(descriptor) for descriptor in base] == [_rows(descriptor) for descriptor in item.descriptors]
        copies = list(self._told_copies(item))
        commit = self._log.times.intern(Time(item.commit.seconds, item.commit.nanoseconds))
        tags = None if base and same else [_rows(descriptor) for descriptor in item.descriptors]
        return TransactionChange(item.sequence, first, commit, tags, copies, revokes)

    def _told_copies(self, item: jbd2.Transaction) -> Iterator[CopyChange]:
        moment = self._log.moment
        by_place = {copy.block: copy for copy in item.copies}
        for home, place in moment.in_order((copy.tag.home, copy.block) for copy in item.copies):
            data = self._journal.read_block(place)
            if by_place[place].tag.escaped:
                data = JBD2_MAGIC.to_bytes(4, "big") + data[4:]
            kinds = [origin for origin in Origin if origin is not Origin.EARLIER or home in moment.copies]
            origins = {origin: self._log.origin(origin, home, place) for origin in kinds}
            change = self._copies.told(home, data, origins)
            moment.copies[home] = data
            if change is not None:
                yield change

    def written(self) -> list[int]:
        """Return the blocks that are not what they should be yet and that hold their last copy."""
        final, target = self._log.moment.final, self._target.fs
        copies = self._log.moment.copies
        return [
            home for home, data in sorted(copies.items()) if final.read_block(home) != data == target.read_block(home)
        ]


def _all_blocks(item: jbd2.Transaction) -> Iterator[int]:
    parts = (*item.revokes, *item.descriptors, *item.copies, *((item.commit,) if item.commit else ()))
    return (part.block for part in parts)


def _rows(descriptor: jbd2.Descriptor) -> list[TagRow]:
    return [TagRow(tag.home, int(tag.flags)) for tag in descriptor.tags]
