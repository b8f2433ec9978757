"""One block of a directory: how it becomes another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from rehydrator.edits.fields import decode_text, encode_text
from rehydrator.errors import CorruptError
from rehydrator.fs.ext4 import dirblock
from rehydrator.fs.ext4.dirblock import Index, Leftover, Slot
from rehydrator.fs.ext4.leftovers import leftovers, sort_rows


class DirectoryEntry(msgspec.Struct, array_like=True, frozen=True):
    """An entry at byte ``at`` of its block; ``file_type`` as in ``struct ext4_dir_entry_2``."""

    at: int
    inode: int
    file_type: int
    name: str


class OldEntry(msgspec.Struct, array_like=True, frozen=True):
    """What is left of an entry at byte ``at``: all of it, ``rec_len`` alone, or (``rec_len`` 0) its last bytes.

    What is no printable text is written as ``0x`` and hexadecimal digits.
    """

    at: int
    inode: int
    rec_len: int
    file_type: int
    name: str

    @classmethod
    def of(cls, item: Leftover) -> OldEntry:
        """Return it as a manifest has it."""
        return cls(item.at, item.inode, item.rec_len, item.file_type, encode_text(item.name))

    def leftover(self) -> Leftover:
        """Return it for writing. Raises CorruptError."""
        try:
            return Leftover(self.at, self.inode, self.rec_len, self.file_type, decode_text(self.name))
        except ValueError as error:
            raise CorruptError("impossible old directory entry", actual=self.name) from error


class SortRow(msgspec.Struct, array_like=True, frozen=True):
    """A row of the map by which a split sorted entries (``struct dx_map_entry``); a tail leaves the last one's hash."""

    hash: int
    offs: int
    size: int


class IndexRow(msgspec.Struct, array_like=True, frozen=True):
    """One entry of a directory's index: names from ``hash`` on are in ``block`` of the directory."""

    hash: int
    block: int


class DirectoryIndex(msgspec.Struct, frozen=True, omit_defaults=True):
    """The index in a block: ``struct dx_root_info`` (in the root), ``dx_countlimit``, ``dx_entry``, ``dx_tail``."""

    limit: int
    rows: list[IndexRow]
    hash_version: int | None = None
    indirect_levels: int = 0
    dt_reserved: int = 0

    @classmethod
    def of(cls, index: Index) -> DirectoryIndex:
        """Return the index as a manifest has it."""
        rows = [IndexRow(*row) for row in index.rows]
        return cls(index.limit, rows, index.hash_version, index.indirect_levels, index.dt_reserved)

    def parts(self) -> Index:
        """Return the index for writing it."""
        rows = [(row.hash, row.block) for row in self.rows]
        return Index(self.limit, rows, self.hash_version, self.indirect_levels, self.dt_reserved)


class DirectoryChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes in block ``block`` of the directory ``inode``; a ``fresh`` block had no entries.

    A ``retargeted`` entry keeps place and name and leads to another inode, as when a file is renamed over another.
    ``leftovers`` lie below the entries, in room that none of them uses, and so does what is left of the map by which a
    split ``sorted`` entries. A directory without a name has no ``path``.
    """

    inode: int
    path: str = ""
    block: int = 0
    fresh: bool = False
    removed: list[DirectoryEntry] = []
    added: list[DirectoryEntry] = []
    retargeted: list[DirectoryEntry] = []
    index: DirectoryIndex | None = None
    leftovers: list[OldEntry] = []
    sorted: list[SortRow] = []


def changed_block(data: bytes, change: DirectoryChange, *, tails: bool) -> bytes:
    """Make a change; the checksum is left open. ``tails`` tells whether new blocks have one.

    Raises CorruptError where entries do not fit or are not there.
    """
    if change.fresh:
        data = dirblock.empty_block(len(data), tail=tails and change.index is None)
    return dirblock.changed_block(
        data,
        [item.at for item in change.removed],
        [Slot(item.at, item.inode, item.file_type, item.name.encode()) for item in (*change.added, *change.retargeted)],
        change.index.parts() if change.index else None,
        fresh=change.fresh,
        leftovers=[item.leftover() for item in change.leftovers],
        sorted_rows=[(row.hash, row.offs, row.size) for row in change.sorted],
    )  # fmt: skip


def told_block(
    before: bytes, after: bytes, named: DirectoryChange, seal: Callable[[bytes], bytes], *, tails: bool
) -> DirectoryChange | None:
    """Return the change that comes closest to ``after``, None where nothing helps.

    ``named`` says which block of which directory it is; ``seal`` gives a block its checksum.
    """
    best, least = None, distance(before, after)
    for change in _candidates(before, after, named):
        try:
            made = seal(changed_block(before, change, tails=tails))
        except CorruptError:
            continue
        if (far := distance(made, after)) < least:
            best, least = change, far
    return best


def distance(one: bytes, other: bytes) -> int:
    """Return in how many bytes two blocks differ."""
    if one == other:
        return 0
    return sum(a != b for a, b in zip(one, other, strict=True))


def _candidates(before: bytes, after: bytes, named: DirectoryChange) -> Iterator[DirectoryChange]:
    """Yield the change of an existing block, and that of a fresh one; each without and with what is left over."""
    wanted = dirblock.slots(after)
    found = dirblock.index_of(after)
    index = DirectoryIndex.of(found) if found else None
    try:
        new = {slot.at: _entry(slot) for slot in wanted or ()}
        old = {slot.at: _entry(slot) for slot in dirblock.slots(before) or ()}
    except UnicodeDecodeError:
        return
    remains = [OldEntry.of(item) for item in leftovers(after)]
    if not new:
        return
    same_index = dirblock.index_of(before) == found
    removed = [item for at, item in old.items() if at not in new or (at == 0 and item.inode and not new[0].inode)]
    changed = [item for at, item in new.items() if old.get(at) != item and (item.inode or at)]
    retargeted = [item for item in changed if item.at in old and old[item.at].name == item.name]
    added = [item for item in changed if item not in retargeted]
    kept = replace(named, removed=removed, added=added, retargeted=retargeted, index=None if same_index else index)
    fresh = replace(named, fresh=True, added=list(new.values()), index=index)
    yield kept
    yield fresh
    rows = [SortRow(*row) for row in sort_rows(after)]
    if remains or rows:
        there = [OldEntry.of(item) for item in leftovers(before)]
        more = [item for item in remains if item not in there]
        yield replace(kept, leftovers=more)
        yield replace(kept, leftovers=more, sorted=rows)
        yield replace(kept, leftovers=remains, sorted=rows)
        yield replace(fresh, leftovers=remains, sorted=rows)


def _entry(slot: Slot) -> DirectoryEntry:
    return DirectoryEntry(slot.at, slot.inode, slot.file_type, slot.name.decode())
