"""On-disk structures of the ext4 journal.

Source: Linux ``include/linux/jbd2.h``. All numbers are big-endian.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

JBD2_MAGIC = 0xC03B3998
UUID_SIZE = 16


class BlockType(enum.IntEnum):
    """``h_blocktype``."""

    DESCRIPTOR = 1
    COMMIT = 2
    SUPERBLOCK_V1 = 3
    SUPERBLOCK_V2 = 4
    REVOKE = 5


class JournalIncompat(enum.IntFlag):
    """``s_feature_incompat`` of the journal."""

    REVOKE = 0x1
    BIT64 = 0x2
    ASYNC_COMMIT = 0x4
    CSUM_V2 = 0x8
    CSUM_V3 = 0x10
    FAST_COMMIT = 0x20


class TagFlag(enum.IntFlag):
    """``t_flags``."""

    ESCAPE = 0x1
    SAME_UUID = 0x2
    DELETED = 0x4
    LAST_TAG = 0x8


class BlockHeader(Structure, byteorder=">"):
    """``journal_header_t``, 12 bytes before everything that is not a copy."""

    h_magic: int = field("I")
    h_blocktype: int = field("I")
    h_sequence: int = field("I")


class JournalSuperBlock(BlockHeader, byteorder=">"):
    """``journal_superblock_t``, 1024 bytes at block 0 of the journal."""

    s_blocksize: int = field("I")
    s_maxlen: int = field("I")
    s_first: int = field("I")
    s_sequence: int = field("I")
    s_start: int = field("I")
    s_errno: int = field("I")
    s_feature_compat: int = field("I")
    s_feature_incompat: int = field("I")
    s_feature_ro_compat: int = field("I")
    s_uuid: bytes = field("16s")
    s_nr_users: int = field("I")
    s_dynsuper: int = field("I")
    s_max_transaction: int = field("I")
    s_max_trans_data: int = field("I")
    s_checksum_type: int = field("B")
    s_padding2: bytes = field("3s")
    s_num_fc_blks: int = field("I")
    s_head: int = field("I")
    s_padding: bytes = field("160s")
    s_checksum: int = field("I")
    s_users: bytes = field("768s")


class Tag32(Structure, byteorder=">"):
    """``journal_block_tag_t`` without the 64-bit feature, 8 bytes; CSUM_V2 adds two unused bytes behind it."""

    t_blocknr: int = field("I")
    t_checksum: int = field("H")
    t_flags: int = field("H")


class Tag64(Tag32, byteorder=">"):
    """``journal_block_tag_t`` with the 64-bit feature, 12 bytes; CSUM_V2 adds two unused bytes behind it."""

    t_blocknr_high: int = field("I")


class Tag3(Structure, byteorder=">"):
    """``journal_block_tag3_t``, 16 bytes."""

    t_blocknr: int = field("I")
    t_flags: int = field("I")
    t_blocknr_high: int = field("I")
    t_checksum: int = field("I")


class BlockTail(Structure, byteorder=">"):
    """``struct jbd2_journal_block_tail``: the last 4 bytes of descriptor and revoke blocks with checksums."""

    t_checksum: int = field("I")


class CommitHeader(BlockHeader, byteorder=">"):
    """``struct commit_header``, 60 bytes; the rest of the block is zero."""

    h_chksum_type: int = field("B")
    h_chksum_size: int = field("B")
    h_padding: bytes = field("2s")
    h_chksum: bytes = field("32s")  # the first four bytes hold the CRC-32C
    h_commit_sec: int = field("Q")
    h_commit_nsec: int = field("I")


class RevokeHeader(BlockHeader, byteorder=">"):
    """``jbd2_journal_revoke_header_t``, 16 bytes; ``r_count`` counts bytes and includes this header."""

    r_count: int = field("I")
