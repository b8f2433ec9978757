"""Partitions that nothing here reads: named, and compared by the drivers of a kernel where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import msgspec

from rehydrator.disk.source import Source
from rehydrator.explain.owners import DiskOwners
from rehydrator.explain.tree import FileChange
from rehydrator.fs.probe import LUKS

if TYPE_CHECKING:
    from rehydrator.engines.guestfs.machine import Machine

Start = Callable[[int], AbstractContextManager["Machine"]]


class Image(msgspec.Struct, frozen=True):
    """One side of a comparison by its short name."""

    name: str
    owners: DiskOwners


class Volume(msgspec.Struct, frozen=True):
    """What a partition of ``image`` holds. ``missing``: nothing here reads it; ``damaged``: because of its damage."""

    image: str
    type: str
    content: Source
    missing: bool = False
    damaged: bool = False


class Pair(msgspec.Struct, frozen=True):
    """The same partition on both sides; None stands for one that is not there, or that holds nothing known."""

    a: Volume | None
    b: Volume | None

    @property
    def volumes(self) -> list[Volume]:
        """The sides that there are."""
        return [volume for volume in (self.a, self.b) if volume]

    def types(self) -> str:
        """Name what they are."""
        return " and ".join(dict.fromkeys(volume.type for volume in self.volumes))


class Compared(msgspec.Struct, frozen=True):
    """The files of a partition that differ, and a line on how that is known, or why not."""

    note: str
    files: list[FileChange] = []


def compare_unread(
    a: Image, b: Image, names: Sequence[str], start: Start | None, *, patch: bool
) -> dict[str, Compared]:
    """Compare those of the partitions ``names`` that nothing here reads; ``patch`` asks for differences of texts.

    ``start`` gives a machine with a drive of that many bytes; without it, they are only named. Raises RehydratorError
    where there is no machine.
    """
    found: dict[str, Compared] = {}
    waiting: dict[str, Pair] = {}
    for name in names:
        pair = Pair(_volume(a, name), _volume(b, name))
        missing = [volume for volume in pair.volumes if volume.missing]
        if any(volume.type == LUKS for volume in missing):
            found[name] = Compared(f"{LUKS}: encrypted, which is not opened, so that no files are compared")
        elif missing and start is not None:
            waiting[name] = pair
        elif any(not volume.damaged for volume in missing):
            found[name] = Compared(f"{pair.types()}: no native reader; use --mount")
    if waiting and start is not None:
        from rehydrator.explain.mounted import compare  # noqa: PLC0415 - most runs need none of it

        found |= zip(waiting, compare(start, list(waiting.values()), patch=patch), strict=True)
    return found


def _volume(image: Image, name: str) -> Volume | None:
    for region in image.owners.partitions:
        if region.name == name and (probed := image.owners.probe(region)) is not None:
            missing = probed.filesystem is None
            return Volume(image.name, probed.type, image.owners.window(region), missing, bool(probed.problem))
    return None
