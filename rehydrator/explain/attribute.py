"""From differing bytes to owners and causes: the core of ``explain``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import msgspec

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent, merge
from rehydrator.disk.gpt import Region
from rehydrator.explain.account import Account, RegionAccount, label
from rehydrator.explain.causes import IN_FILES, Cause, Reason, reason
from rehydrator.explain.compare import Difference, count, differences, runs
from rehydrator.explain.owners import DiskOwners, Owner, together
from rehydrator.explain.tree import Evidence
from rehydrator.fs.ext4.c_ext4_dir import DIR_TAIL_TYPE, DirTail
from rehydrator.fs.place import Kind

_CONTENT = frozenset({Kind.FILE_DATA, Kind.SYMLINK})
_WITH_PATH = frozenset({Kind.FILE_DATA, Kind.SYMLINK, Kind.INODE, Kind.DIRECTORY, Kind.XATTR_BLOCK})
_MAX_EVIDENCE = 10_000
_MAX_HEX = 256

SameContent = Callable[[RegionAccount, Owner], bool]
Command = Callable[[Owner, int, int], str]


class Collector(msgspec.Struct):
    """Runs of differing bytes for those who want to see them; beyond a limit they are only counted."""

    wanted: bool
    found: list[Evidence] = msgspec.field(default_factory=list)
    left_out: int = 0

    def add(self, evidence: Evidence) -> None:
        """Take a run; what nobody explained is always kept."""
        if not self.wanted and evidence.cause != Cause.UNKNOWN:
            return
        if len(self.found) >= _MAX_EVIDENCE:
            self.left_out += 1
        else:
            self.found.append(evidence)


class Piece(msgspec.Struct, frozen=True):
    """Differing bytes with one owner on each side."""

    a: Owner
    b: Owner
    owner: Owner
    data_a: bytes
    data_b: bytes
    xor: bytes


def pieces(a: DiskOwners, b: DiskOwners, without: Sequence[Region] = ()) -> Iterator[Piece]:
    """Yield all pieces that differ in place, in disk order, but for those of the regions ``without``."""
    names = {region.name for region in without}
    for batch in differences(a.disk, b.disk, [region.extent for region in without]):
        waiting = iter(batch)
        current = next(waiting)
        for ours, theirs in _both(a, list(b.owners(item.extent for item in batch))):
            while ours.extent.offset >= current.extent.end:
                current = next(waiting)
            piece = _piece(current, ours, theirs)
            if piece is not None and piece.owner.region.name not in names:
                yield piece


def _both(a: DiskOwners, owners: list[Owner]) -> Iterator[tuple[Owner, Owner]]:
    """Pair B's owners with A's, who are asked for only where they can add something: a path, or an owner at all."""
    for ask, group in groupby(owners, key=lambda owner: owner.idle or owner.structure in _WITH_PATH):
        theirs = list(group)
        if ask:
            yield from together(a.owners(merge(owner.extent for owner in theirs)), theirs)
        else:
            yield from zip(theirs, theirs, strict=True)


def _piece(difference: Difference, ours: Owner, theirs: Owner) -> Piece | None:
    start = ours.extent.offset - difference.extent.offset
    cut = slice(start, start + ours.extent.length)
    xor = difference.xor[cut]
    if not count(xor):
        return None
    owner = ours if theirs.idle and not ours.idle else theirs
    return Piece(ours, theirs, owner, difference.a[cut], difference.b[cut], xor)


class Attribution:
    """Enters every piece into the account, field by field."""

    def __init__(
        self, collector: Collector, same_content: SameContent, command: Command, *, backup_moved: bool
    ) -> None:
        self.account = Account()
        self.first: Owner | None = None
        self._collector = collector
        self._same_content = same_content
        self._command = command
        self._backup_moved = backup_moved

    def add(self, piece: Piece) -> None:
        """Say why a piece differs."""
        owner = piece.owner
        if self.first is None:
            start = owner.extent.offset + next(runs(piece.xor))[0]
            self.first = owner.cut(Extent(start, 1))
        account = self.account.region(owner.region)
        account.add_blocks(owner)
        for side, known in ((piece.a, account.known_a), (piece.b, account.known_b)):
            if side.path and side.structure in _WITH_PATH and side.region.name == owner.region.name:
                account.touched[side.path] = None
                known[side.path] = side.number
        if owner.structure in IN_FILES and owner.path:
            account.content[owner.path] += count(piece.xor)
        if owner.structure in _CONTENT:
            self._add_content(piece)
        elif fields := owner.fields or _tail(owner, piece.data_b):
            self._add_fields(piece, fields)
        else:
            self._enter(piece, 0, len(piece.xor), "", reason(owner.structure, "", backup_moved=self._backup_moved))

    def _add_content(self, piece: Piece) -> None:
        owner = piece.owner
        account = self.account.region(owner.region)
        moved = bool(owner.path) and self._same_content(account, owner)
        cause = Cause.ALLOCATION if moved else Cause.FILE_CONTENT
        number = self._enter(piece, 0, len(piece.xor), "", Reason(cause))
        if moved:
            account.moved[owner.path] = None
        else:
            account.content[owner.path or owner.name] += number

    def _add_fields(self, piece: Piece, fields: tuple[FieldSpan, ...]) -> None:
        owner = piece.owner
        base = owner.extent.offset - owner.start
        done = 0
        for span in fields:
            start, stop = max(span.offset - base, done), min(span.offset + span.size - base, len(piece.xor))
            if start >= stop:
                continue
            self._enter_rest(piece, done, start)
            why = reason(owner.structure, span.name, backup_moved=self._backup_moved)
            self._enter(piece, start, stop, span.name, why)
            done = stop
        self._enter_rest(piece, done, len(piece.xor))

    def _enter_rest(self, piece: Piece, start: int, stop: int) -> None:
        if start < stop:
            why = reason(piece.owner.structure, "", backup_moved=self._backup_moved)
            self._enter(piece, start, stop, "", why)

    def _enter(self, piece: Piece, start: int, stop: int, name: str, why: Reason) -> int:
        xor = piece.xor[start:stop]
        number = count(xor)
        if number:
            self.account.enter(piece.owner, name, why, number)
            self._show(piece, start, xor, name, why)
        return number

    def _show(self, piece: Piece, start: int, xor: bytes, name: str, why: Reason) -> None:
        if not self._collector.wanted and why.cause is not Cause.UNKNOWN:
            return
        owner = piece.owner
        text = f"{owner.region.name}: {label(owner)}" + (f" {name}" if name else "")
        for low, high in runs(xor):
            begin, end = start + low, min(start + high, start + low + _MAX_HEX)
            self._collector.add(
                Evidence(
                    offset=owner.extent.offset + begin,
                    length=high - low,
                    cause=why.derived or why.cause,
                    owner=text,
                    a=piece.data_a[begin:end].hex(),
                    b=piece.data_b[begin:end].hex(),
                    command=self._command(owner, owner.extent.offset + begin, high - low),
                )
            )


def _tail(owner: Owner, data: bytes) -> tuple[FieldSpan, ...]:
    """Return the checksum field of an ext4 directory block, which has no other fields to name."""
    if owner.structure != Kind.DIRECTORY or len(data) < DirTail.SIZE:
        return ()
    tail = DirTail.parse(data, len(data) - DirTail.SIZE)
    if (tail.det_reserved_zero1, tail.det_rec_len, tail.det_reserved_ft) != (0, DirTail.SIZE, DIR_TAIL_TYPE):
        return ()
    end = owner.extent.end - owner.start
    return (FieldSpan("det_checksum", end - 4, 4),)
