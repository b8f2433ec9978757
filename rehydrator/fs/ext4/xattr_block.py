"""Writing attribute blocks.

Source: Linux ``fs/ext4/xattr.c``, ``ext4_xattr_hash_entry`` and ``ext4_xattr_rehash``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from rehydrator.errors import CorruptError
from rehydrator.fs.ext4.c_ext4_xattr import XATTR_MAGIC, XattrEntry, XattrHeader

_PAD = 4
_BITS = 32
_MASK = (1 << _BITS) - 1
_NAME_SHIFT, _VALUE_SHIFT, _BLOCK_SHIFT = 5, 16, 16


class Attribute(msgspec.Struct, frozen=True):
    """An attribute whose value lies at byte ``value_offs`` of the block; ``name`` is without its prefix."""

    name_index: int
    name: bytes
    value_offs: int
    value: bytes


def attributes(block: bytes) -> list[Attribute] | None:
    """Return the attributes of a block, None where :func:`attribute_block` could not write them."""
    found: list[Attribute] = []
    at = XattrHeader.SIZE
    while at + XattrEntry.SIZE <= len(block) and block[at : at + _PAD] != bytes(_PAD):
        entry = XattrEntry.parse(block, at)
        name = block[at + XattrEntry.SIZE : at + XattrEntry.SIZE + entry.e_name_len]
        value = block[entry.e_value_offs : entry.e_value_offs + entry.e_value_size]
        if entry.e_value_inum or len(value) != entry.e_value_size:
            return None
        found.append(Attribute(entry.e_name_index, name, entry.e_value_offs, value))
        at += -(-(XattrEntry.SIZE + entry.e_name_len) // _PAD) * _PAD
    return found


def attribute_block(size: int, refcount: int, items: Sequence[Attribute]) -> bytes:
    """Return a block of attributes; its checksum is left open. Raises CorruptError where one does not fit."""
    block = bytearray(size)
    at, block_hash = XattrHeader.SIZE, 0
    hashes = [_entry_hash(item) for item in items]
    for item, value in zip(items, hashes, strict=True):
        head = XattrEntry(
            e_name_len=len(item.name), e_name_index=item.name_index, e_value_offs=item.value_offs, e_value_inum=0,
            e_value_size=len(item.value), e_hash=value,
        ).pack() + item.name  # fmt: skip
        if at + len(head) > size or item.value_offs + len(item.value) > size:
            raise CorruptError("an attribute does not fit into its block", offset=at)
        block[at : at + len(head)] = head
        block[item.value_offs : item.value_offs + len(item.value)] = item.value
        at += -(-len(head) // _PAD) * _PAD
        block_hash = _rotated(block_hash, _BLOCK_SHIFT) ^ value
    header = XattrHeader(
        h_magic=XATTR_MAGIC, h_refcount=refcount, h_blocks=1, h_hash=block_hash if all(hashes) else 0, h_checksum=0,
        h_reserved=bytes(12),
    )  # fmt: skip
    block[: XattrHeader.SIZE] = header.pack()
    return bytes(block)


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> _BITS - bits) & _MASK


def _entry_hash(item: Attribute) -> int:
    value = 0
    for byte in item.name:
        value = _rotated(value, _NAME_SHIFT) ^ byte
    padded = item.value.ljust(-(-len(item.value) // _PAD) * _PAD, b"\0")
    for (word,) in struct.iter_unpack("<I", padded):
        value = _rotated(value, _VALUE_SHIFT) ^ word
    return value
