"""``ext4.allocation``: bits of the block and inode bitmaps; counts and checksums of the groups follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rehydrator.edits.ext4_group import (
    BLOCKS,
    INODES,
    Bitmap,
    GroupChange,
    Span,
    bit_spans,
    descriptor_fields,
    sealed_descriptor,
)
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import Fields
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.c_ext4 import GroupFlag
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.uninit import initial_block_bitmap, initial_inode_bitmap


class Ext4Allocation(msgspec.Struct, tag="ext4.allocation", tag_field="op", frozen=True, omit_defaults=True):
    """Blocks and inodes that were taken or freed in one partition."""

    partition: str
    blocks_taken: list[Span] = []
    blocks_freed: list[Span] = []
    inodes_taken: list[Span] = []
    inodes_freed: list[Span] = []
    groups: list[GroupChange] = []

    def apply(self, replay: Replay) -> None:
        """Set the bits, count again and seal the descriptors."""
        state = replay.state(Ext4State, self.partition)
        _initialise(state, self)
        ext4 = state.now
        touched: set[int] = {change.group for change in self.groups}
        for spans, bit, bitmap in (
            (self.blocks_taken, 1, BLOCKS),
            (self.blocks_freed, 0, BLOCKS),
            (self.inodes_taken, 1, INODES),
            (self.inodes_freed, 0, INODES),
        ):
            for span in spans:
                touched |= _set_bits(state, ext4, span, bit, bitmap)
        explicit = {change.group: change.set for change in self.groups}
        for number in sorted(touched):
            seal_group(state, number, explicit.get(number, {}))

    def describe(self) -> str:
        """Count blocks and inodes."""
        words = [
            f"{counted(sum(span.count for span in spans), noun)} {what}"
            for spans, noun, what in (
                (self.blocks_taken, "block", "taken"),
                (self.blocks_freed, "block", "freed"),
                (self.inodes_taken, "inode", "taken"),
                (self.inodes_freed, "inode", "freed"),
            )
            if spans
        ]
        return ", ".join(words) or counted(len(self.groups), "group descriptor")

    def literal_bytes(self) -> int:
        """Return none: every bit has its name."""
        return 0


def _initialise(state: Ext4State, edit: Ext4Allocation) -> None:
    """Write the bitmaps of groups that lose an UNINIT flag, as they are when a group is first used."""
    ext4 = state.now
    for change in edit.groups:
        flags = change.set.get("bg_flags")
        if not isinstance(flags, int) or not 0 <= change.group < len(ext4.groups):
            continue
        group = ext4.groups[change.group]
        lost = group.flags & ~GroupFlag(flags)
        if GroupFlag.BLOCK_UNINIT in lost:
            state.write(group.block_bitmap * ext4.geometry.block_size, initial_block_bitmap(ext4, change.group))
        if GroupFlag.INODE_UNINIT in lost:
            state.write(group.inode_bitmap * ext4.geometry.block_size, initial_inode_bitmap(ext4))


def _set_bits(state: Ext4State, ext4: Ext4, span: Span, bit: int, bitmap: Bitmap) -> set[int]:
    """Set or clear the bits of a span; return the groups that they are in."""
    first, start = bitmap.position(ext4, span.first)
    last, end = bitmap.position(ext4, span.first + span.count - 1)
    if span.count < 1 or not 0 <= first <= last < len(ext4.groups):
        raise StoreDamagedError(
            "an edit names a block or inode that does not exist", actual=f"{span.first}+{span.count}"
        )
    for group in range(first, last + 1):
        low = start if group == first else 0
        high = end + 1 if group == last else bitmap.bits(ext4)
        from_byte, to_byte = low // 8, -(-high // 8)
        offset = bitmap.block(ext4.groups[group]) * ext4.geometry.block_size + from_byte
        mask = (1 << high - low) - 1 << low - from_byte * 8
        value = int.from_bytes(ext4.read(offset, to_byte - from_byte), "little")
        value = value | mask if bit else value & ~mask
        state.write(offset, value.to_bytes(to_byte - from_byte, "little"))
    return set(range(first, last + 1))


class Move(msgspec.Struct, frozen=True):
    """A file that gave up blocks and took others."""

    freed: list[Span]
    taken: list[Span]


def move_blocks(state: Ext4State, moves: Sequence[Move]) -> None:
    """Free and take the blocks of moved files; first all are freed, since one may take what another had."""
    ext4 = state.now
    touched: set[int] = set()
    for move in moves:
        for span in move.freed:
            touched |= _set_bits(state, ext4, span, 0, BLOCKS)
    for move in moves:
        for span in move.taken:
            touched |= _set_bits(state, ext4, span, 1, BLOCKS)
    for number in sorted(touched):
        seal_group(state, number, {})


def seal_group(state: Ext4State, number: int, fields: Fields) -> None:
    """Count a group's bitmaps again, set ``fields`` on top and write its descriptor with all checksums."""
    ext4 = state.now
    data = sealed_descriptor(ext4, number, ext4.groups[number].raw, fields, ext4.read_block)
    state.write(ext4.geometry.desc_offset(number), data)
    state.forget()


def recognise(replay: Replay, partition: str, target: Ext4, groups: Iterable[int]) -> Iterator[Ext4Allocation]:
    """Tell how the bitmaps and descriptors of ``groups`` differ from what they are now."""
    state = replay.state(Ext4State, partition)
    now = state.now
    edit = Ext4Allocation(partition)
    numbers = sorted(set(groups))
    for number in numbers:
        before, after = now.groups[number], target.groups[number]
        blocks, inodes = now.block_bitmap(before), now.inode_bitmap(before)
        if blocks is None:
            blocks = initial_block_bitmap(now, number)
        if inodes is None:
            inodes = initial_inode_bitmap(now)
        taken, freed = _differences(blocks, target.block_bitmap(after), BLOCKS.first(now, number))
        edit = _with_spans(edit, blocks_taken=taken, blocks_freed=freed)
        taken, freed = _differences(inodes, target.inode_bitmap(after), INODES.first(now, number))
        edit = _with_spans(edit, inodes_taken=taken, inodes_freed=freed)
    bits = any((edit.blocks_taken, edit.blocks_freed, edit.inodes_taken, edit.inodes_freed))
    explicit = _explicit(replay, partition, edit, target, numbers)
    if bits or explicit:
        yield msgspec.structs.replace(edit, groups=explicit)


def _with_spans(edit: Ext4Allocation, **spans: Sequence[Span]) -> Ext4Allocation:
    """Return the edit with spans added to its lists."""
    return msgspec.structs.replace(edit, **{name: [*getattr(edit, name), *more] for name, more in spans.items()})


def _differences(before: bytes | None, after: bytes | None, first: int) -> tuple[list[Span], list[Span]]:
    """Return the spans of bits that were set and that were cleared."""
    if before is None or after is None or before == after:
        return [], []
    old, new = int.from_bytes(before, "little"), int.from_bytes(after, "little")
    return bit_spans(new & ~old, first), bit_spans(old & ~new, first)


def _explicit(
    replay: Replay, partition: str, edit: Ext4Allocation, target: Ext4, numbers: Sequence[int]
) -> list[GroupChange]:
    """Find descriptor fields that recounting the bitmaps does not give, by trying it on a copy."""
    trial = replay.fork()
    edit.apply(trial)
    state = trial.state(Ext4State, partition)
    for number in numbers:
        seal_group(state, number, {})
    now = state.now
    changes = []
    for number in numbers:
        fields = descriptor_fields(now.groups[number].raw, target.groups[number].raw)
        if fields:
            changes.append(GroupChange(number, fields))
    return changes
