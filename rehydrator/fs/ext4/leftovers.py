"""What entries of a directory block leave behind in the room that no entry uses.

Source: Linux ``fs/ext4/namei.c``. A split moves entries together (``dx_pack_dirents``) without wiping where they were,
and wipes those that go to the other block but for their ``rec_len`` (``dx_move_dirents``). A new entry is written over
what lies there and may leave the end of an old name, or parts of the map by which entries were sorted
(``dx_make_map``), which the new block has at its end. Up to three bytes behind a name, whatever they are, move together
with their entry.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rehydrator.fs.ext4.c_ext4_dir import DirEntry, DxEntry, DxMapEntry
from rehydrator.fs.ext4.dirblock import Leftover, Slot, end_of_entries, slots, sort_map_start
from rehydrator.fs.ext4.directory import index_block

_ALIGNMENT = 4
_MAX_FILE_TYPE = 7
_FEWEST_ROWS = 2
_PIECE = DirEntry.SIZE - 1  # bytes that are left of the head of an entry or of a row of the map, at most
_FIRST, _LAST = ord(" "), ord("~")


def leftovers(block: bytes) -> list[Leftover]:
    """Return what entries left in the unused room of a block; bytes that make no part of one are left out."""
    rooms = list(unused(block, slots(block) or ()))
    rows = len(sort_rows(block))
    limit = sort_map_start(block, rows) if rows else len(block)
    return [item for start, end in rooms for item in _parsed(block, start, min(end, limit))]


def sort_rows(block: bytes) -> list[tuple[int, int, int]]:
    """Return what is left of the map by which a split sorted entries: hash, offs and size of each row.

    The map ends where the block does; a tail covers its last row and all but the hash of the one before. Rows are as
    the block has them, also where an entry lies over the first of them.
    """
    if index_block(block) is not None:
        return []
    rooms = list(unused(block, slots(block) or ()))
    start = rooms[-1][0] if rooms else len(block)
    found: list[DxMapEntry] = []
    while (at := sort_map_start(block, len(found) + 1)) + DxMapEntry.SIZE > start:
        row = DxMapEntry.parse(block, at)
        covered = at + DxMapEntry.SIZE > end_of_entries(block)
        if at >= start and (row.hash % 2 or (found and row.hash > found[-1].hash)):
            break
        if not covered and not (row.size and row.size % _ALIGNMENT == 0 and row.offs * _ALIGNMENT < len(block)):
            break
        found.append(row.replaced(offs=0, size=0) if covered else row)
    if len(found) < _FEWEST_ROWS:
        return []
    return [(row.hash, row.offs, row.size) for row in reversed(found)]


def unused(block: bytes, entries: Sequence[Slot]) -> Iterator[tuple[int, int]]:
    """Yield the room behind the name of each entry, as far as the next one; in an index block that behind its rows."""
    end = end_of_entries(block)
    part = index_block(block)
    if part is not None:
        yield part.start + part.count * DxEntry.SIZE, min(part.tail, len(block))
        return
    for slot, following in itertools.pairwise([*entries, Slot(end, 0, 0, b"")]):
        yield slot.at + DirEntry.SIZE + len(slot.name), following.at


def _parsed(block: bytes, at: int, end: int) -> Iterator[Leftover]:
    """Take unused room apart, entry by entry."""
    while True:
        rest = block[at:end]
        first = end - len(rest.lstrip(b"\0"))
        if first >= end:
            return
        aligned = first // _ALIGNMENT * _ALIGNMENT
        places = (aligned, aligned - _ALIGNMENT)  # a wiped entry begins with zeros
        found = next((item for place in places if place >= at and (item := _entry(block, place, end))), None)
        found = found or _rest(block, first, end)
        if found is not None:
            yield found
            at = found.at + (DirEntry.SIZE if found.rec_len else 0) + len(found.name)
        else:
            at = first + 1


def _entry(block: bytes, at: int, end: int) -> Leftover | None:
    """Return the old entry at a place, None where there is none."""
    if at + DirEntry.SIZE > end:
        return None
    head = DirEntry.parse(block, at)
    size = DirEntry.SIZE + head.name_len
    if not head.rec_len or head.rec_len % _ALIGNMENT or head.rec_len < size or at + size > end:
        return None
    if not head.inode and (head.name_len or head.file_type):
        return None
    if head.inode and (not head.name_len or head.file_type > _MAX_FILE_TYPE):
        return None
    name = block[at + DirEntry.SIZE : at + size]
    return Leftover(at, head.inode, head.rec_len, head.file_type, name) if _is_name(name) else None


def _is_name(name: bytes) -> bool:
    if b"\0" in name or b"/" in name:
        return False
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rest(block: bytes, at: int, end: int) -> Leftover | None:
    """Return the end of an overwritten name, or what is left of the head of an entry or a row of the map."""
    stop = at
    while stop < end and block[stop] and (stop % _ALIGNMENT or _entry(block, stop, end) is None):
        stop += 1
    text = next((place for place in range(at, stop) if not _FIRST <= block[place] <= _LAST), stop)
    stop = stop if stop - at <= _PIECE else text
    return Leftover(at, 0, 0, 0, block[at:stop]) if stop > at else None
