"""``ext4.xattrs``: extended attributes that lie in blocks of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import decode_text, encode_text
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4_xattr import XATTR_MAGIC, XattrHeader
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.xattr_block import Attribute, attribute_block, attributes


class XattrRow(msgspec.Struct, array_like=True, frozen=True):
    """An attribute: ``e_name_index`` and the rest of its name, where its value lies, and the value.

    A value that is no printable text is written as ``0x`` and hexadecimal digits.
    """

    name_index: int
    name: str
    value_offs: int
    value: str


class XattrBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attributes in block ``block``, which ``refcount`` files share."""

    refcount: int
    entries: list[XattrRow]
    block: int = 0


class Ext4Xattrs(msgspec.Struct, tag="ext4.xattrs", tag_field="op", frozen=True):
    """Attribute blocks of one partition."""

    partition: str
    blocks: list[XattrBlock]

    def apply(self, replay: Replay) -> None:
        """Write each block with its hashes and checksum."""
        state = replay.state(Ext4State, self.partition)
        for item in self.blocks:
            if not state.now.valid_block(item.block):
                raise StoreDamagedError("an attribute block is outside of the file system", actual=item.block)
            data = made_block(state.now, item, item.block)
            state.write(item.block * state.now.geometry.block_size, data)

    def describe(self) -> str:
        """Name the attributes."""
        names = dict.fromkeys(row.name for item in self.blocks for row in item.entries)
        return f"{counted(len(names), 'large attribute')}: {', '.join(names)}"

    def literal_bytes(self) -> int:
        """Return none: each value has its name."""
        return 0


def made_block(ext4: Ext4, item: XattrBlock, block: int) -> bytes:
    """Return block number ``block`` with all its hashes and checksum; what can't be is StoreDamagedError."""
    try:
        rows = [
            Attribute(row.name_index, row.name.encode(), row.value_offs, decode_text(row.value)) for row in item.entries
        ]
        data = bytearray(attribute_block(ext4.geometry.block_size, item.refcount, rows))
    except (CorruptError, ValueError, struct.error) as error:
        raise StoreDamagedError(f"attribute block {block}: {error}") from error
    if ext4.geometry.metadata_csum:
        checksums.XATTR.put(data, checksums.expected_xattr(ext4.seed, block, bytes(data)))
    return bytes(data)


def recognise(replay: Replay, partition: str, target: Ext4, blocks: Iterable[int]) -> Iterator[Ext4Xattrs]:
    """Tell the attribute blocks among ``blocks`` that differ from what they are now."""
    state = replay.state(Ext4State, partition)
    found = [
        replace(told, block=block)
        for block in blocks
        if state.now.read_block(block) != (data := target.read_block(block)) and (told := told_block(data)) is not None
    ]
    if found:
        yield Ext4Xattrs(partition, found)


def told_block(data: bytes) -> XattrBlock | None:
    """Tell an attribute block, None for what is none."""
    header = XattrHeader.parse(data)
    items = attributes(data) if header.h_magic == XATTR_MAGIC else None
    if items is None:
        return None
    try:
        rows = [
            XattrRow(item.name_index, item.name.decode(), item.value_offs, encode_text(item.value)) for item in items
        ]
    except UnicodeDecodeError:
        return None
    return XattrBlock(header.h_refcount, rows)
