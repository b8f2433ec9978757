"""Checks of the journal: its superblock and every block of the log that can be checked."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.fs.ext4 import jbd2
from rehydrator.fs.ext4.c_ext4 import Compat
from rehydrator.fs.ext4.checksums import mismatch
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.jbd2 import Journal, Transaction
from rehydrator.fs.ext4.naming import Names
from rehydrator.fs.ext4.segments import SegmentMap, Tag
from rehydrator.fs.place import Health


def check_journal(fs: Ext4, segments: SegmentMap, names: Names, journal: Journal | None) -> Iterator[Health]:
    """Check the journal superblock and all transactions, replayed ones too."""
    if journal is None:
        if Compat.HAS_JOURNAL in fs.geometry.compat and fs.superblock.s_journal_inum:
            yield Health("journal", 0, "can't be found")
        return
    yield from _Checker(fs, segments, names, journal).run()


class _Checker:
    def __init__(self, fs: Ext4, segments: SegmentMap, names: Names, journal: Journal) -> None:
        self.size = fs.geometry.block_size
        self.names = names
        self.journal = journal
        self.where = [segments[index] for index in range(len(segments)) if segments[index].tag == Tag.JOURNAL]

    def offset(self, block: int) -> int:
        """Byte offset in the file system of a journal block."""
        for segment in self.where:
            if segment.logical <= block < segment.logical + segment.length:
                return (segment.start + block - segment.logical) * self.size
        return 0

    def run(self) -> Iterator[Health]:
        journal = self.journal
        if journal.problem is not None:
            yield Health("journal superblock", self.offset(0), journal.problem)
            return
        if journal.layout.checksum_bits:
            raw = journal.superblock_raw
            stored, expected = jbd2.SUPERBLOCK.get(raw), jbd2.expected_superblock(raw)
            if stored != expected:
                yield Health("journal superblock", self.offset(0), mismatch(stored, expected, "s_checksum"))
            for transaction in journal.transactions:
                yield from self._transaction(transaction)

    def _transaction(self, transaction: Transaction) -> Iterator[Health]:
        of = f"of transaction {transaction.sequence}"
        tails = [("descriptor", item.block) for item in transaction.descriptors]
        tails += [("revoke", item.block) for item in transaction.revokes]
        slot = jbd2.tail_slot(self.size)
        for kind, block in tails:
            data = self.journal.read_block(block)
            stored, expected = slot.get(data), jbd2.expected_tail(self.journal.seed, data)
            if stored != expected:
                yield Health(f"journal {kind} {of}", self.offset(block), mismatch(stored, expected, "t_checksum"))
        if transaction.commit is not None:
            data = self.journal.read_block(transaction.commit.block)
            stored, expected = jbd2.COMMIT.get(data), jbd2.expected_commit(self.journal.seed, data)
            if stored != expected:
                offset = self.offset(transaction.commit.block)
                yield Health(f"journal commit {of}", offset, mismatch(stored, expected, "h_chksum"))
        if transaction.complete:  # the copies of a transaction that never got its commit may be torn
            yield from self._copies(transaction, of)

    def _copies(self, transaction: Transaction, of: str) -> Iterator[Health]:
        for copy in transaction.copies:
            data = self.journal.read_block(copy.block)
            expected = jbd2.expected_tag(self.journal.seed, copy.sequence, data, self.journal.layout)
            if copy.tag.checksum != expected:
                name = f"journal copy of {self.names.block(copy.tag.home)} {of}"
                yield Health(name, self.offset(copy.block), mismatch(copy.tag.checksum, expected, "t_checksum"))
