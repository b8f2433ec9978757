"""Checksums are recomputed to what is stored, and the journal is put together from its blocks."""

from __future__ import annotations

import struct

import pytest

from rehydrator.codecs.crc32c import crc32c
from rehydrator.fs.ext4 import checksums, jbd2
from rehydrator.fs.ext4.c_jbd2 import (
    JBD2_MAGIC,
    BlockHeader,
    BlockType,
    CommitHeader,
    JournalIncompat,
    JournalSuperBlock,
    RevokeHeader,
    TagFlag,
)
from rehydrator.fs.ext4.jbd2 import Age, Journal, Role, TagLayout
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag
from tests.test_ext4_images import FROM_KERNEL, opened

SIZE = 1024
RING = 16


@pytest.mark.parametrize("name", ["1k", "2k", "4k", "narrow", "ext3", "meta_bg", "kernel-1k", "kernel-4k"])
def test_a_cleared_checksum_is_written_back(name: str) -> None:
    fs = opened(name).fs
    if fs.geometry.metadata_csum:
        block = bytearray(fs.superblock_raw)
        checksums.SUPERBLOCK.put(block, 0)
        checksums.SUPERBLOCK.put(block, checksums.expected_superblock(bytes(block)))
        assert block == fs.superblock_raw
        for ino in range(1, 20):
            raw = fs.inode(ino).raw
            if any(raw):
                inode = bytearray(checksums.inode_slot(raw).cleared(raw))
                checksums.inode_slot(raw).put(inode, checksums.expected_inode(fs.seed, ino, raw))
                assert inode == raw
    for group in fs.groups:
        descriptor = bytearray(checksums.GROUP.cleared(group.raw))
        expected = (
            checksums.expected_group(fs.seed, group.number, bytes(descriptor))
            if fs.geometry.metadata_csum
            else checksums.expected_group_crc16(fs.superblock.s_uuid, group.number, bytes(descriptor))
        )
        checksums.GROUP.put(descriptor, expected)
        assert descriptor == group.raw


@pytest.mark.parametrize("name", ["kernel-1k", "kernel-2k", "kernel-4k"])
def test_journal_checksums_are_written_back(name: str) -> None:
    journal = opened(name).journal
    assert journal is not None
    raw = journal.superblock_raw
    assert jbd2.SUPERBLOCK.get(raw) == jbd2.expected_superblock(raw)
    for transaction in journal.transactions:
        assert transaction.commit is not None
        block = bytearray(jbd2.COMMIT.cleared(journal.read_block(transaction.commit.block)))
        jbd2.COMMIT.put(block, jbd2.expected_commit(journal.seed, bytes(block)))
        assert block == journal.read_block(transaction.commit.block)
        slot = jbd2.tail_slot(journal.block_size)
        numbers = [part.block for part in transaction.descriptors] + [part.block for part in transaction.revokes]
        for number in numbers:
            data = journal.read_block(number)
            assert slot.get(data) == jbd2.expected_tail(journal.seed, data)
        for copy in transaction.copies:
            data = journal.read_block(copy.block)
            descriptor = journal.read_block(copy.descriptor)
            expected = jbd2.expected_tag(journal.seed, copy.sequence, data, journal.layout)
            assert jbd2.tag_slot(journal.layout, copy.tag).get(descriptor) == expected == copy.tag.checksum


@pytest.mark.parametrize("name", FROM_KERNEL)
def test_head_follows_the_newest_commit(name: str) -> None:
    journal = opened(name).journal
    assert journal is not None
    commit = journal.transactions[-1].commit
    assert commit is not None
    if journal.superblock.s_head:  # kernels before 6.5 leave it alone
        assert journal.superblock.s_head == commit.block + 1


FEATURES = {
    "plain": JournalIncompat.REVOKE,
    "64bit": JournalIncompat.REVOKE | JournalIncompat.BIT64,
    "v2": JournalIncompat.REVOKE | JournalIncompat.CSUM_V2,
    "v2-64bit": JournalIncompat.REVOKE | JournalIncompat.CSUM_V2 | JournalIncompat.BIT64,
    "v3": JournalIncompat.REVOKE | JournalIncompat.CSUM_V3 | JournalIncompat.BIT64,
}
TAG_SIZES = {"plain": 8, "64bit": 12, "v2": 10, "v2-64bit": 14, "v3": 16}


class Writer:
    """Writes a journal as the kernel does, block by block around the ring."""

    def __init__(self, features: JournalIncompat, at: int) -> None:
        self.layout = TagLayout.of(features)
        self.blocks = [bytes(SIZE)] * RING
        self.at = at
        superblock = JournalSuperBlock.parse(bytes(JournalSuperBlock.SIZE))
        fields = {span.name: getattr(superblock, span.name) for span in JournalSuperBlock.FIELDS}
        fields |= {"h_magic": JBD2_MAGIC, "h_blocktype": BlockType.SUPERBLOCK_V2, "s_blocksize": SIZE, "s_first": 1}
        fields |= {"s_maxlen": RING, "s_feature_incompat": features, "s_uuid": b"u" * 16, "s_sequence": 7}
        self.blocks[0] = JournalSuperBlock(**fields).pack()
        self.seed = crc32c(0xFFFFFFFF, b"u" * 16)

    def add(self, block: bytes) -> int:
        number = self.at
        self.blocks[number] = block.ljust(SIZE, b"\0")
        self.at = number + 1 if number + 1 < RING else 1
        return number

    def transaction(self, sequence: int, homes: list[int]) -> None:
        block = bytearray(BlockHeader(h_magic=JBD2_MAGIC, h_blocktype=BlockType.DESCRIPTOR, h_sequence=sequence).pack())
        for index, home in enumerate(homes):
            flags = (TagFlag.SAME_UUID if index else 0) | (TagFlag.LAST_TAG if home == homes[-1] else 0)
            names = {span.name for span in self.layout.structure.FIELDS}
            values = {"t_blocknr": home, "t_flags": int(flags), "t_checksum": 0, "t_blocknr_high": 0}
            values["t_checksum"] = jbd2.expected_tag(self.seed, sequence, self.copy(home), self.layout)
            tag = self.layout.structure(**{key: values[key] for key in names})
            block += tag.pack().ljust(self.layout.size, b"\0") + (b"" if index else bytes(16))
        full = bytearray(block.ljust(SIZE, b"\0"))
        if self.layout.block_tails:
            jbd2.tail_slot(SIZE).put(full, jbd2.expected_tail(self.seed, bytes(full)))
        self.add(bytes(full))
        for home in homes:
            self.add(self.copy(home))
        header = BlockHeader(h_magic=JBD2_MAGIC, h_blocktype=BlockType.COMMIT, h_sequence=sequence).pack()
        self.add(header)

    def copy(self, home: int) -> bytes:
        return struct.pack("<I", home) * (SIZE // 4)

    def journal(self) -> Journal:
        return Journal(lambda first, count: b"".join(self.blocks[first : first + count]), RING, SIZE)


@pytest.mark.parametrize("features", FEATURES)
def test_all_tag_formats(features: str) -> None:
    writer = Writer(FEATURES[features], at=1)
    writer.transaction(5, [100, 101])
    writer.transaction(6, [102])
    journal = writer.journal()
    assert journal.problem is None
    assert journal.layout.size == TAG_SIZES[features]
    assert [[copy.tag.home for copy in item.copies] for item in journal.transactions] == [[100, 101], [102]]
    assert all(item.complete and item.age == Age.LATEST for item in journal.transactions)
    for transaction in journal.transactions:
        for copy in transaction.copies:
            expected = jbd2.expected_tag(journal.seed, copy.sequence, journal.read_block(copy.block), journal.layout)
            assert copy.tag.checksum == expected


@pytest.mark.parametrize("at", range(9, RING))
def test_transactions_wrap_around_the_ring(at: int) -> None:
    writer = Writer(FEATURES["v3"], at=at)
    writer.transaction(8, [1, 2, 3, 4, 5])
    (transaction,) = writer.journal().transactions
    assert transaction.complete
    assert [copy.tag.home for copy in transaction.copies] == [1, 2, 3, 4, 5]
    assert transaction.first_block == at


def test_overwritten_transactions_are_stale() -> None:
    writer = Writer(FEATURES["v3"], at=1)
    writer.transaction(8, [1, 2, 3, 4, 5])
    writer.at = 4
    writer.transaction(9, [6])
    journal = writer.journal()
    old, rest, new = journal.transactions
    assert (old.complete, old.age, [copy.tag.home for copy in old.copies]) == (False, Age.STALE, [1, 2])
    assert (rest.complete, rest.age, rest.sequence, rest.copies) == (False, Age.STALE, 8, ())
    assert (new.complete, new.age) == (True, Age.LATEST)
    assert [journal.block(number).role for number in (6, 7, 8)] == [Role.COMMIT, Role.COMMIT, Role.UNUSED]


def test_the_rest_of_an_overwritten_transaction_is_not_taken_for_a_whole_one() -> None:
    writer = Writer(FEATURES["v3"], at=1)
    writer.transaction(8, [1, 2])  # blocks 1 to 4
    writer.transaction(8, [3])  # its second descriptor, blocks 5 to 7
    writer.blocks[4] = writer.copy(2)
    writer.at = 1
    writer.transaction(9, [6])  # blocks 1 to 3
    rest, new = writer.journal().transactions
    assert (rest.sequence, rest.complete, rest.age) == (8, False, Age.STALE)
    assert (new.sequence, new.complete, new.age) == (9, True, Age.LATEST)


@pytest.mark.parametrize("features", ["plain", "64bit", "v3"])
def test_revokes(features: str) -> None:
    writer = Writer(FEATURES[features], at=1)
    layout = writer.layout
    homes = [77, 88, 99]
    size = RevokeHeader.SIZE + len(homes) * layout.revoke_size
    header = RevokeHeader(h_magic=JBD2_MAGIC, h_blocktype=BlockType.REVOKE, h_sequence=3, r_count=size)
    writer.add(header.pack() + b"".join(home.to_bytes(layout.revoke_size, "big") for home in homes))
    writer.transaction(3, [5])
    (transaction,) = writer.journal().transactions
    assert transaction.revokes[0].homes == (77, 88, 99)
    assert transaction.first_block == 1
    assert transaction.complete


@pytest.mark.parametrize("field", ["h_magic", "s_blocksize", "s_first", "s_maxlen", "s_start"])
def test_a_damaged_journal_superblock_is_a_problem_not_an_error(field: str) -> None:
    writer = Writer(FEATURES["v3"], at=1)
    writer.transaction(3, [5])
    raw = bytearray(writer.blocks[0])
    at = JournalSuperBlock.offset_of(field)
    raw[at : at + 4] = b"\xff" * 4
    writer.blocks[0] = bytes(raw)
    journal = writer.journal()
    assert journal.problem is not None
    assert journal.transactions == ()
    assert journal.block(1).role == Role.UNUSED


def test_overlapping_segments_are_resolved_by_rank() -> None:
    found = SegmentMap(
        [
            Segment(10, 20, Tag.DATA, 5, 100),
            Segment(15, 2, Tag.BLOCK_BITMAP, 1, 0),
            Segment(28, 4, Tag.DIRECTORY, 6, 0),
        ]
    )
    assert [found[index] for index in range(len(found))] == [
        (10, 5, Tag.DATA, 5, 100),
        (15, 2, Tag.BLOCK_BITMAP, 1, 0),
        (17, 11, Tag.DATA, 5, 107),
        (28, 2, Tag.DIRECTORY, 6, 0),
        (30, 2, Tag.DIRECTORY, 6, 2),
    ]
    assert [conflict.start for conflict in found.conflicts] == [15, 28]
    assert found.at(16) == (15, 2, Tag.BLOCK_BITMAP, 1, 0)
    assert found.at(9) is None
    assert found.at(40) is None


def test_commit_header_is_where_the_kernel_puts_it() -> None:
    assert CommitHeader.offset_of("h_chksum") == 16
    assert CommitHeader.offset_of("h_commit_sec") == 48
    assert CommitHeader.offset_of("h_commit_nsec") == 56
