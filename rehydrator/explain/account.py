"""Adding up differing bytes by region, cause and structure, so that nothing is lost and memory stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from rehydrator.disk.extents import BLOCK
from rehydrator.disk.gpt import Region
from rehydrator.explain.causes import UNEXPLAINED, Cause, Reason
from rehydrator.explain.owners import Owner
from rehydrator.explain.tree import CauseTotal, Change, Derived

_MAX_NAMES = 100


class Group(msgspec.Struct):
    """Changed structures of one kind and one cause."""

    count: int = 0
    names: dict[str, None] = msgspec.field(default_factory=dict)
    fields: dict[str, None] = msgspec.field(default_factory=dict)
    bytes: int = 0
    derived: Counter[str] = msgspec.field(default_factory=Counter)
    last: int = -1

    def add_structure(self, owner: Owner) -> None:
        """Count a structure; its pieces come one after the other."""
        if self.last == owner.start:
            return
        self.last = owner.start
        self.count += 1
        if len(self.names) < _MAX_NAMES:
            self.names[label(owner)] = None


class RegionAccount(msgspec.Struct):
    """What differs in one region. ``known_a`` and ``known_b`` are inodes of paths that were come across.

    ``copied`` are the bytes of a partition that was formatted separately that were found in A; None for others.
    """

    region: Region
    bytes: int = 0
    blocks: int = 0
    last_block: int = -1
    groups: dict[tuple[Cause, str], Group] = msgspec.field(default_factory=dict)
    content: Counter[str] = msgspec.field(default_factory=Counter)
    touched: dict[str, None] = msgspec.field(default_factory=dict)
    moved: dict[str, None] = msgspec.field(default_factory=dict)
    known_a: dict[str, int] = msgspec.field(default_factory=dict)
    known_b: dict[str, int] = msgspec.field(default_factory=dict)
    copied: int | None = None

    def add_blocks(self, owner: Owner) -> None:
        """Count the blocks that a differing piece lies in."""
        first, last = owner.extent.offset // BLOCK, (owner.extent.end - 1) // BLOCK
        self.blocks += max(last - max(first, self.last_block + 1) + 1, 0)
        self.last_block = max(self.last_block, last)

    def group(self, cause: Cause, structure: str) -> Group:
        """Return the group of a cause and a kind of structure."""
        return self.groups.setdefault((cause, structure), Group())

    def changes(self) -> Iterator[Change]:
        """Yield all groups, in the order of the vocabulary."""
        order = {cause: number for number, cause in enumerate(Cause)}
        for (cause, structure), group in sorted(self.groups.items(), key=lambda item: (order[item[0][0]], item[0][1])):
            yield Change(
                cause=cause,
                structure=structure,
                count=group.count,
                names=list(group.names),
                fields=list(group.fields),
                bytes=group.bytes,
                derived=derived_list(group.derived),
            )


class _Structure(msgspec.Struct):
    """The bytes of the structure that is being read: derived ones wait for a cause to be folded under."""

    region: Region
    owner: Owner
    direct: Counter[Cause] = msgspec.field(default_factory=Counter)
    derived: Counter[str] = msgspec.field(default_factory=Counter)
    default: Cause = Cause.UNKNOWN


class Account:
    """The books: every differing byte is entered once."""

    def __init__(self) -> None:
        self.regions: dict[tuple[str, int], RegionAccount] = {}  # one where both images have it, also of other length
        self.total = 0
        self._open: _Structure | None = None

    def region(self, region: Region) -> RegionAccount:
        """Return the account of a region."""
        return self.regions.setdefault((region.name, region.extent.offset), RegionAccount(region))

    def enter(self, owner: Owner, field_name: str, reason: Reason, number: int) -> None:
        """Enter ``number`` bytes of ``owner`` that differ for ``reason``."""
        structure = self._structure(owner)
        account = self.region(owner.region)
        account.bytes += number
        self.total += number
        if reason.derived:
            structure.derived[reason.derived] += number
            structure.default = reason.cause
            return
        structure.direct[reason.cause] += number
        group = account.group(reason.cause, owner.structure)
        group.add_structure(owner)
        group.bytes += number
        if field_name:
            group.fields[field_name] = None

    def _structure(self, owner: Owner) -> _Structure:
        held = self._open
        if held is not None and (held.owner.structure, held.owner.start) == (owner.structure, owner.start):
            return held
        self.close()
        self._open = _Structure(owner.region, owner)
        return self._open

    def close(self) -> None:
        """Fold the derived bytes of the last structure under its cause."""
        held, self._open = self._open, None
        if held is None or not held.derived:
            return
        cause = max(held.direct, key=lambda item: held.direct[item]) if held.direct else held.default
        group = self.region(held.region).group(cause, held.owner.structure)
        group.add_structure(held.owner)
        group.derived.update(held.derived)

    def causes(self) -> list[CauseTotal]:
        """Return the totals over all regions, in the order of the vocabulary."""
        direct: Counter[Cause] = Counter()
        derived: dict[Cause, Counter[str]] = {}
        for account in self.regions.values():
            for (cause, _), group in account.groups.items():
                direct[cause] += group.bytes
                derived.setdefault(cause, Counter()).update(group.derived)
        return [CauseTotal(cause, direct[cause], derived_list(derived[cause])) for cause in Cause if cause in derived]

    @property
    def unexplained(self) -> int:
        """Bytes of the causes that explain nothing, and any that no group holds."""
        held = sum(
            group.bytes + group.derived.total()
            for account in self.regions.values()
            for (cause, _), group in account.groups.items()
            if cause not in UNEXPLAINED
        )
        return self.total - held


def label(owner: Owner) -> str:
    """Name an owner: its structure, and the path of the file that it serves."""
    return owner.name if not owner.path or owner.path in owner.name else f"{owner.name} {owner.path}"


def derived_list(counts: Counter[str]) -> list[Derived]:
    """Return the derived bytes, ordered by what they follow from."""
    return [Derived(what, number) for what, number in sorted(counts.items())]
