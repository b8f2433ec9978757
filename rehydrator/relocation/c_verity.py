"""The superblock of a dm-verity hash tree.

Source: cryptsetup ``lib/verity/verity.c``, ``struct verity_sb``. It takes the first hash block of the hash device; the
tree follows.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

SIGNATURE = b"verity\0\0"
VERSION = 1
HASH_TYPE = 1  # of today: the salt comes before the data
MAX_SALT = 256


class VeritySuperblock(Structure, byteorder="<"):
    """``struct verity_sb``; sizes in bytes."""

    signature: bytes = field("8s")
    version: int = field("I")
    hash_type: int = field("I")
    uuid: bytes = field("16s")
    algorithm: bytes = field("32s")
    data_block_size: int = field("I")
    hash_block_size: int = field("I")
    data_blocks: int = field("Q")
    salt_size: int = field("H")
    _pad1: bytes = field("6s")
    salt: bytes = field("256s")
    _pad2: bytes = field("168s")
