"""Writing directory blocks: entries come and go as the kernel lets them.

Source: Linux ``fs/ext4/namei.c`` (``ext4_insert_dentry``, ``ext4_generic_delete_entry``, ``make_indexed_dir``). The
``rec_len`` of an entry reaches to the next one, so it follows from where entries begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from rehydrator.errors import CorruptError
from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4_dir import (
    DIR_TAIL_TYPE,
    DirEntry,
    DirTail,
    DxCountLimit,
    DxEntry,
    DxMapEntry,
    DxRootInfo,
    DxTail,
)
from rehydrator.fs.ext4.directory import entries_problem, has_tail, index_block, index_has_tail

_DOT_SIZE = 12
_ROOT_INFO = 2 * _DOT_SIZE
_ALIGNMENT = 4


class Slot(NamedTuple):
    """An entry with its byte offset in the block; ``inode`` is 0 for an empty one."""

    at: int
    inode: int
    file_type: int
    name: bytes


class Leftover(NamedTuple):
    """An old entry at byte ``at`` of room that is not in use; one that was wiped has nothing but ``rec_len``.

    Of an overwritten one the end of the name is left: then ``rec_len`` is 0, and the name begins at ``at``.
    """

    at: int
    inode: int
    rec_len: int
    file_type: int
    name: bytes


class Index(msgspec.Struct, frozen=True):
    """The index part of a block: ``rows`` are hash and block, the first one's hash being that of no entry (0).

    ``hash_version`` and ``indirect_levels`` are those of the root, None in an inner node. ``dt_reserved`` of the index
    tail is what lay there before, such as the tail of the leaf that became the root.
    """

    limit: int
    rows: Sequence[tuple[int, int]]
    hash_version: int | None = None
    indirect_levels: int = 0
    dt_reserved: int = 0


def slots(data: bytes) -> list[Slot] | None:
    """Return all entries of a block, None where its records are damaged. A tail is none of them."""
    if entries_problem(data):
        return None
    found: list[Slot] = []
    at, end = 0, end_of_entries(data)
    while at < end:
        entry = DirEntry.parse(data, at)
        name = data[at + DirEntry.SIZE : at + DirEntry.SIZE + entry.name_len]
        found.append(Slot(at, entry.inode, entry.file_type, name))
        at += entry.rec_len
    return found


def end_of_entries(data: bytes | bytearray) -> int:
    """Return where the room for entries ends: at the tail if there is one."""
    return len(data) - (DirTail.SIZE if has_tail(data) else 0)


def index_of(data: bytes) -> Index | None:
    """Return the index part of a block, None if it is a leaf."""
    part = index_block(data)
    if part is None:
        return None
    rows = [DxEntry.parse(data, part.start + number * DxEntry.SIZE) for number in range(part.count)]
    pairs = [(row.hash if number else 0, row.block) for number, row in enumerate(rows)]
    reserved = DxTail.parse(data, part.tail).dt_reserved if index_has_tail(data, part) else 0
    if part.start == DirEntry.SIZE:
        return Index(part.limit, pairs, dt_reserved=reserved)
    info = DxRootInfo.parse(data, _ROOT_INFO)
    return Index(part.limit, pairs, info.hash_version, info.indirect_levels, reserved)


def sort_map_start(data: bytes | bytearray, rows: int) -> int:
    """Return where the last ``rows`` rows of a split's map begin; a tail hides one more."""
    return len(data) - (rows + int(has_tail(data))) * DxMapEntry.SIZE


def empty_block(size: int, *, tail: bool) -> bytes:
    """Return a block without entries; its checksum is left open."""
    if not tail:
        return bytes(size)
    end = DirTail(
        det_reserved_zero1=0, det_rec_len=DirTail.SIZE, det_reserved_zero2=0, det_reserved_ft=DIR_TAIL_TYPE,
        det_checksum=0,
    )  # fmt: skip
    return bytes(size - DirTail.SIZE) + end.pack()


def sealed_block(data: bytes, owner_seed: int) -> bytes:
    """Return a block with its checksum where it has room for one; ``owner_seed`` is that of the directory."""
    sealed, index = bytearray(data), index_block(data)
    if index is not None:  # what was a leaf may still end like one
        if index_has_tail(data, index):
            checksums.dx_slot(index).put(sealed, checksums.expected_dx(owner_seed, data, index))
    elif has_tail(data):
        checksums.dir_slot(len(data)).put(sealed, checksums.expected_dir(owner_seed, data))
    return bytes(sealed)


def changed_block(
    data: bytes,
    removed: Iterable[int],
    added: Iterable[Slot],
    index: Index | None,
    *,
    fresh: bool,
    leftovers: Sequence[Leftover] = (),
    sorted_rows: Sequence[tuple[int, int, int]] = (),
) -> bytes:
    """Return a block without the entries at ``removed`` and with ``added``; a ``fresh`` one had none before.

    ``leftovers`` and the rows of a split's map come below the entries, which are written over them. Raises CorruptError
    where an entry does not fit or is not there.
    """
    block = bytearray(data)
    end = len(data) if index or index_block(data) else end_of_entries(data)
    places = {} if fresh else {slot.at: slot for slot in slots(data) or ()}
    for at in removed:
        _remove(block, places, at, end)
    for slot in added:
        if slot.at < 0 or slot.at % _ALIGNMENT or slot.at + DirEntry.SIZE + len(slot.name) > end:
            raise CorruptError("a directory entry does not fit into its block", offset=slot.at)
        places[slot.at] = slot
    _write_sort_map(block, sorted_rows)
    for item in leftovers:
        _write_leftover(block, item)
    for slot in places.values():
        _write(block, slot)
    _link(block, sorted(places), end)
    if index:
        _write_index(block, index)
    return bytes(block)


def _remove(block: bytearray, places: dict[int, Slot], at: int, end: int) -> None:
    """Take an entry away as the kernel does: the one before takes its room over, and it is wiped."""
    if at not in places:
        raise CorruptError("there is no directory entry to remove", offset=at)
    stop = min((other for other in places if other > at), default=end)
    if at:
        del places[at]
        block[at:stop] = bytes(stop - at)
        return
    places[at] = Slot(at, 0, 0, b"")
    rec_len = DirEntry.parse(block, at).rec_len
    block[at:stop] = bytes(stop - at)
    block[at : at + DirEntry.SIZE] = DirEntry(inode=0, rec_len=rec_len, name_len=0, file_type=0).pack()


def _write(block: bytearray, slot: Slot) -> None:
    head = DirEntry(inode=slot.inode, rec_len=0, name_len=len(slot.name), file_type=slot.file_type).pack()
    block[slot.at : slot.at + len(head) + len(slot.name)] = head + slot.name


def _write_sort_map(block: bytearray, rows: Sequence[tuple[int, int, int]]) -> None:
    at, end = sort_map_start(block, len(rows)), end_of_entries(block)
    if at < 0:
        raise CorruptError("the map of a split does not fit into its block", actual=f"{len(rows)} rows")
    if rows:
        data = b"".join(DxMapEntry(hash=hash_, offs=offs, size=size).pack() for hash_, offs, size in rows)
        block[at:end] = data[: end - at]


def _write_leftover(block: bytearray, item: Leftover) -> None:
    head = b""
    if item.rec_len:
        head = DirEntry(
            inode=item.inode, rec_len=item.rec_len, name_len=len(item.name), file_type=item.file_type
        ).pack()
    data = head + item.name
    if not 0 <= item.at <= len(block) - len(data):
        raise CorruptError("an old directory entry leaves its block", offset=item.at)
    block[item.at : item.at + len(data)] = data


def _link(block: bytearray, places: list[int], end: int) -> None:
    """Let each entry reach to the next one."""
    if not places or places[0]:
        raise CorruptError("a directory block does not begin with an entry")
    field = DirEntry.offset_of("rec_len")
    for at, following in zip(places, [*places[1:], end], strict=True):
        block[at + field : at + field + 2] = (following - at).to_bytes(2, "little")


def _write_index(block: bytearray, index: Index) -> None:
    start = DirEntry.SIZE
    if index.hash_version is not None:
        info = DxRootInfo(
            reserved_zero=0, hash_version=index.hash_version, info_length=DxRootInfo.SIZE,
            indirect_levels=index.indirect_levels, unused_flags=0,
        ).pack()  # fmt: skip
        block[_ROOT_INFO : _ROOT_INFO + len(info)] = info
        start = _ROOT_INFO + len(info)
    if not 0 < len(index.rows) <= index.limit or start + index.limit * DxEntry.SIZE > len(block):
        raise CorruptError("impossible directory index", actual=f"{len(index.rows)} of {index.limit} entries")
    rows = b"".join(DxEntry(hash=hash_, block=number).pack() for hash_, number in index.rows)
    block[start : start + len(rows)] = rows
    numbers = DxCountLimit(limit=index.limit, count=len(index.rows)).pack()
    block[start : start + len(numbers)] = numbers
    tail = start + index.limit * DxEntry.SIZE
    if tail + DxTail.SIZE <= len(block):
        block[tail : tail + DxTail.SIZE] = DxTail(dt_reserved=index.dt_reserved, dt_checksum=0).pack()
