"""The state of a disk while edits are replayed on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeAlias, TypeVar, cast

import msgspec

from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Source, Window
from rehydrator.edits.times import Time, TimeTable
from rehydrator.errors import StoreDamagedError

S = TypeVar("S")
BlobReader: TypeAlias = Callable[[str], bytes]


class Partition(msgspec.Struct, frozen=True):
    """A partition by its region name, for reading as it is now; ``start`` is its byte offset on the disk."""

    name: str
    start: int
    size: int


class Replay:
    """``disk`` is what the edits made of ``base`` so far. The base itself never changes."""

    def __init__(self, base: Source, times: Iterable[Time] = (), blobs: BlobReader | None = None) -> None:
        self.base = base
        self.disk = Overlay(base)
        self.times = TimeTable(times)
        self._blobs = blobs
        self.partition = cache(self._partition)
        self._states: dict[object, object] = {}

    def fresh(self) -> Replay:
        """Return a replay with the same times and blobs, and no edit made."""
        return Replay(self.base, self.times.times, self._blobs)

    def fork(self) -> Replay:
        """Return a replay in the same state, for trying an edit out."""
        other = self.fresh()
        for offset, data in self.disk.patches():
            other.disk.write(offset, data)
        return other

    def state(self, kind: Callable[[Replay, str], S], partition: str) -> S:
        """Return the one state of a kind (such as an opened file system) for a partition, made when first asked for."""
        key = (kind, partition)
        if key not in self._states:
            self._states[key] = kind(self, partition)
        return cast(S, self._states[key])

    def blob(self, name: str) -> bytes:
        """Return the content of a blob of the manifest."""
        if self._blobs is None:
            raise StoreDamagedError("this manifest has no blobs", actual=name)
        return self._blobs(name)

    def _partition(self, name: str) -> Partition:
        region = self._region(name)
        return Partition(name, region.extent.offset, region.extent.length)

    def _region(self, name: str) -> Region:
        for region in read_table(self.base).regions:
            if region.name == name:
                return region
        raise StoreDamagedError("an edit names a partition that the disk does not have", actual=name)

    def now(self, partition: str) -> Source:
        """The partition as the edits made it so far."""
        place = self.partition(partition)
        return Window(self.disk, place.start, place.size)

    def before(self, partition: str) -> Source:
        """The partition as it was before all edits."""
        place = self.partition(partition)
        return Window(self.base, place.start, place.size)

    def write(self, partition: str, offset: int, data: bytes | bytearray) -> None:
        """Write into a partition; ``offset`` in bytes from its start."""
        place = self.partition(partition)
        if offset < 0 or offset + len(data) > place.size:
            raise StoreDamagedError("an edit leaves its partition", path=partition, offset=offset)
        self.disk.write(place.start + offset, bytes(data))
