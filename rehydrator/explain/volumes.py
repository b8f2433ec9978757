"""What partitions hold that nothing here reads: the same one on both sides, and what its files show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import msgspec

from rehydrator.disk.source import Source
from rehydrator.explain.tree import FileChange

if TYPE_CHECKING:
    from rehydrator.engines.guestfs.machine import Machine

Start = Callable[[int], AbstractContextManager["Machine"]]


class Volume(msgspec.Struct, frozen=True):
    """What a partition of ``image`` holds.

    ``missing``: nothing here reads all of it; ``damaged``: because of its damage; ``unread``: nothing is read of it.
    """

    image: str
    type: str
    content: Source
    missing: bool = False
    damaged: bool = False
    unread: bool = False


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
    """The files of a partition that differ, None where a driver did not read them, and a line on how that is known."""

    note: str
    files: list[FileChange] | None = None
