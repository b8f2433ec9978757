"""The compressed clusters of a qcow2 file: where each lies."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator

from rehydrator.layers.qcow2_record import Kind, Run


class CompressedClusters:
    """Compressed clusters in the order in which they lie in the file, once :meth:`sort` has run.

    ``guests`` has their guest clusters, ``offsets`` their bytes' offsets in the file and ``sizes`` how many these are.
    """

    def __init__(self) -> None:
        self.guests = array("Q")
        self.offsets = array("Q")
        self.sizes = array("I")
        self._by_guest: array[int] | None = None

    def append(self, guest: int, offset: int, size: int) -> None:
        """Add a cluster."""
        self.guests.append(guest)
        self.offsets.append(offset)
        self.sizes.append(size)

    def __len__(self) -> int:
        return len(self.guests)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompressedClusters) and (self.guests, self.offsets, self.sizes) == (
            other.guests,
            other.offsets,
            other.sizes,
        )

    __hash__ = None  # type: ignore[assignment]

    def sort(self) -> None:
        """Put the clusters into the order of the file."""
        count = len(self)
        if any(self.offsets[at] > self.offsets[at + 1] for at in range(count - 1)):
            order = sorted(range(count), key=self.offsets.__getitem__)
            self.guests = array("Q", map(self.guests.__getitem__, order))
            self.sizes = array("I", map(self.sizes.__getitem__, order))
            self.offsets = array("Q", map(self.offsets.__getitem__, order))
        self._by_guest = array("Q", sorted(range(count), key=self.guests.__getitem__))

    def end(self, position: int) -> int:
        """Return the first byte after a cluster."""
        return self.offsets[position] + self.sizes[position]

    def overlap(self) -> int | None:
        """Return the position of the first cluster that begins before the one in front of it ends, if any does."""
        return next((at for at in range(1, len(self)) if self.offsets[at] < self.end(at - 1)), None)

    def host_runs(self, cluster_size: int) -> Iterator[Run]:
        """Yield the runs of host clusters that hold the clusters."""
        last = -1
        for position in range(len(self)):
            first = max(self.offsets[position] // cluster_size, last + 1)
            last = max((self.end(position) - 1) // cluster_size, last)
            if first <= last:
                yield Run(Kind.COMPRESSED, first, first, last - first + 1)

    def in_guests(self, start: int, end: int) -> Iterator[int]:
        """Yield the positions of guest clusters ``[start, end)``, in guest order."""
        order = self._by_guest or ()
        first = bisect.bisect_left(order, start, key=self.guests.__getitem__)
        for index in range(first, len(order)):
            if self.guests[order[index]] >= end:
                return
            yield order[index]

    def touching(self, start: int, end: int) -> Iterator[int]:
        """Yield the positions of clusters with a byte in ``[start, end)`` of the file."""
        at = max(bisect.bisect_right(self.offsets, start) - 1, 0)
        while at < len(self) and self.offsets[at] < end:
            if self.end(at) > start:
                yield at
            at += 1
