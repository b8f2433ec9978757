"""``ext4.allocation``: bits of the block and inode bitmaps; counts and checksums of the groups follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4 import GroupDesc, GroupDesc64, GroupFlag
from rehydrator.fs.ext4.ext4 import Ext4, Group
from rehydrator.fs.ext4.uninit import initial_block_bitmap, initial_inode_bitmap

DERIVED = (
    "bg_checksum",
    "bg_block_bitmap_csum_lo",
    "bg_block_bitmap_csum_hi",
    "bg_inode_bitmap_csum_lo",
    "bg_inode_bitmap_csum_hi",
)


class Span(msgspec.Struct, array_like=True, frozen=True):
    """``count`` blocks or inodes from number ``first`` on."""

    first: int
    count: int


class GroupChange(msgspec.Struct, frozen=True):
    """Fields of a group descriptor that do not follow from its bitmaps."""

    group: int
    set: Fields


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
            (self.blocks_taken, 1, _BLOCKS),
            (self.blocks_freed, 0, _BLOCKS),
            (self.inodes_taken, 1, _INODES),
            (self.inodes_freed, 0, _INODES),
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


class _Bitmap(msgspec.Struct, frozen=True):
    """Which of a group's two bitmaps, and what its first bit in the file system is called."""

    blocks: bool

    def position(self, ext4: Ext4, number: int) -> tuple[int, int]:
        """Return group and bit of a block or inode."""
        geometry = ext4.geometry
        if self.blocks:
            return divmod(number - geometry.first_data_block, geometry.blocks_per_group)
        return geometry.inode_position(number)

    def first(self, ext4: Ext4, group: int) -> int:
        """Return the number of the block or inode of bit 0."""
        geometry = ext4.geometry
        return geometry.group_start(group) if self.blocks else group * geometry.inodes_per_group + 1

    def block(self, group: Group) -> int:
        """Return where the bitmap lies."""
        return group.block_bitmap if self.blocks else group.inode_bitmap


_BLOCKS = _Bitmap(blocks=True)
_INODES = _Bitmap(blocks=False)


def _set_bits(state: Ext4State, ext4: Ext4, span: Span, bit: int, bitmap: _Bitmap) -> set[int]:
    touched: set[int] = set()
    for number in range(span.first, span.first + span.count):
        group, index = bitmap.position(ext4, number)
        if not 0 <= group < len(ext4.groups):
            raise StoreDamagedError("an edit names a block or inode that does not exist", actual=number)
        offset = bitmap.block(ext4.groups[group]) * ext4.geometry.block_size + index // 8
        mask = 1 << index % 8
        value = ext4.read(offset, 1)[0]
        state.write(offset, bytes([value | mask if bit else value & ~mask]))
        touched.add(group)
    return touched


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
            touched |= _set_bits(state, ext4, span, 0, _BLOCKS)
    for move in moves:
        for span in move.taken:
            touched |= _set_bits(state, ext4, span, 1, _BLOCKS)
    for number in sorted(touched):
        seal_group(state, number, {})


def seal_group(state: Ext4State, number: int, fields: Fields) -> None:
    """Count a group's bitmaps again, set ``fields`` on top and write its descriptor with all checksums."""
    ext4 = state.now
    geometry = ext4.geometry
    raw = ext4.groups[number].raw
    wide = geometry.desc_size >= GroupDesc64.SIZE
    disk = updated((GroupDesc64 if wide else GroupDesc).parse(raw), fields)
    group = Group.parse(number, disk.pack() + raw[disk.SIZE :])  # a bitmap counts from when UNINIT is gone
    blocks, inodes = ext4.block_bitmap(group), ext4.inode_bitmap(group)
    counts: Fields = {}
    if blocks is not None:
        counts |= _count("bg_free_blocks_count", _free(blocks, geometry.group_blocks(number)))
    if inodes is not None:
        counts |= _count("bg_free_inodes_count", _free(inodes, geometry.inodes_per_group))
    known = {name: value for name, value in counts.items() if hasattr(disk, name)}
    data = bytearray(updated(disk, known | fields).pack() + raw[disk.SIZE :])
    if geometry.metadata_csum:
        for bitmap, slot, bits in (
            (blocks, checksums.block_bitmap_slot(geometry.desc_size), geometry.blocks_per_group),
            (inodes, checksums.inode_bitmap_slot(geometry.desc_size), geometry.inodes_per_group),
        ):
            if bitmap is not None:
                slot.put(data, checksums.expected_bitmap(ext4.seed, bitmap, bits))
        checksums.GROUP.put(data, checksums.expected_group(ext4.seed, number, bytes(data)))
    state.write(geometry.desc_offset(number), data)
    state.forget()


def _count(name: str, value: int) -> Fields:
    return {f"{name}_lo": value & 0xFFFF, f"{name}_hi": value >> 16}


def _free(bitmap: bytes, bits: int) -> int:
    used = int.from_bytes(bitmap[: -(-bits // 8)], "little") & (1 << bits) - 1
    return bits - used.bit_count()


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
        taken, freed = _differences(blocks, target.block_bitmap(after), _BLOCKS.first(now, number))
        edit = _with_spans(edit, blocks_taken=taken, blocks_freed=freed)
        taken, freed = _differences(inodes, target.inode_bitmap(after), _INODES.first(now, number))
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
    return _spans(new & ~old, first), _spans(old & ~new, first)


def _spans(bits: int, first: int) -> list[Span]:
    spans: list[Span] = []
    while bits:
        low = (bits & -bits).bit_length() - 1
        count = 1
        while bits >> (low + count) & 1:
            count += 1
        spans.append(Span(first + low, count))
        bits &= ~((1 << count) - 1 << low)
    return spans


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
        kind = GroupDesc64 if now.geometry.desc_size >= GroupDesc64.SIZE else GroupDesc
        before, after = kind.parse(now.groups[number].raw), kind.parse(target.groups[number].raw)
        fields = changed(before, after, DERIVED)
        if fields:
            changes.append(GroupChange(number, fields))
    return changes
