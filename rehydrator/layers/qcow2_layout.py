"""Where each host cluster of a qcow2 file comes from: the bridge between record and bytes."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rehydrator.layers.block_runs import BlockRun, joined
from rehydrator.layers.c_qcow2 import ENTRY_SIZE, REFCOUNT_SIZE
from rehydrator.layers.qcow2_compressed import CompressedClusters
from rehydrator.layers.qcow2_record import Kind, Qcow2Record, Run


def join_runs(runs: Iterable[Run]) -> Iterator[Run]:
    """Join runs (ordered by host cluster) that continue each other."""
    current: Run | None = None
    for run in runs:
        if (
            current is not None
            and run.kind == current.kind
            and run.host == current.host + current.count
            and run.index == current.index + current.count
        ):
            current = Run(run.kind, current.host, current.index, current.count + run.count)
        else:
            if current is not None:
                yield current
            current = run
    if current is not None:
        yield current


def fixed_runs(record: Qcow2Record) -> list[Run]:
    """The clusters whose position the record gives directly: header, L1, refcount table and blocks."""
    l1_clusters = -(-record.l1_size * ENTRY_SIZE // record.cluster_size)
    runs = [
        Run(Kind.HEADER, 0, 0, 1),
        Run(Kind.REFCOUNT_TABLE, record.refcount_table, 0, record.refcount_table_clusters),
        *(Run(Kind.REFCOUNT_BLOCK, host, index, 1) for index, host in enumerate(record.refcount_blocks)),
    ]
    if l1_clusters:
        runs.append(Run(Kind.L1, record.l1_table, 0, l1_clusters))
    return sorted(runs, key=lambda run: run.host)


class _Allocator:
    """Gives out host clusters around the fixed ones as qemu does: always the first free one."""

    def __init__(self, record: Qcow2Record) -> None:
        self._fixed = fixed_runs(record)
        self._cluster = record.cluster_size
        self._position = 0
        self._upcoming = 0
        self._per_block = record.cluster_size // REFCOUNT_SIZE
        # the last refcount block that something needed; the first allocation in its range made it
        created = (run.host + run.count - 1 for run in self._fixed if run.kind is not Kind.REFCOUNT_BLOCK)
        self._last_block = max(created) // self._per_block
        self._free_byte = 0  # qemu's free_byte_offset: 0, or where the last compressed cluster ended within a cluster
        self.runs: list[Run] = []
        self.clusters = CompressedClusters()

    def place(self, kind: Kind, index: int, count: int) -> None:
        """Allocate ``count`` whole clusters."""
        while count:
            self._skip_fixed()
            room = count
            if self._upcoming < len(self._fixed):
                room = min(count, self._fixed[self._upcoming].host - self._position)
            self.runs.append(Run(kind, self._position, index, room))
            self._position, index, count = self._position + room, index + room, count - room
            self._last_block = max(self._last_block, (self._position - 1) // self._per_block)

    def _skip_fixed(self) -> None:
        while self._upcoming < len(self._fixed) and self._fixed[self._upcoming].host <= self._position:
            fixed = self._fixed[self._upcoming]
            self._position = max(self._position, fixed.host + fixed.count)
            self._upcoming += 1

    def place_bytes(self, guest: int, size: int) -> None:
        """Allocate ``size`` bytes, less than a cluster, for a compressed cluster (qcow2_alloc_bytes).

        It begins right behind the last one unless the next host cluster lies elsewhere, or needs a new refcount block:
        then qemu starts the allocation again and forgets where it was.
        """
        left = -self._free_byte % self._cluster if self._free_byte else 0
        if left < size:
            self._skip_fixed()
            new = self._position
            follows = left and self._free_byte + left == new * self._cluster
            again = new // self._per_block > self._last_block
            self.place(Kind.COMPRESSED, new, 1)
            if again or not follows:
                self._free_byte = new * self._cluster
        self.clusters.append(guest, self._free_byte, size)
        self._free_byte += size
        if self._free_byte % self._cluster == 0:
            self._free_byte = 0


def sequential(record: Qcow2Record, allocated: Iterable[BlockRun], sizes: Sequence[int] | None = None) -> Layout:
    """Lay ``allocated`` guest clusters out as qemu does, in this order, around the fixed clusters.

    An L2 table takes a host cluster before its first guest cluster. ``sizes`` has the compressed size of each guest
    cluster, 0 for one that is stored as it is; without, all are.
    """
    per_table = record.cluster_size // ENTRY_SIZE
    allocator = _Allocator(record)
    tables: set[int] = set()
    position = 0
    for run in allocated:
        start = run.start
        while start < run.end:
            table = start // per_table
            if table not in tables:
                tables.add(table)
                allocator.place(Kind.L2, table, 1)
            stop = min(run.end, (table + 1) * per_table)
            if sizes is None:
                allocator.place(Kind.DATA, start, stop - start)
            else:
                for guest in range(start, stop):
                    if sizes[position]:
                        allocator.place_bytes(guest, sizes[position])
                    else:
                        allocator.place(Kind.DATA, guest, 1)
                    position += 1
            start = stop
    return Layout([*fixed_runs(record), *allocator.runs], allocator.clusters)


_ONE_OF_A_KIND = {Kind.HEADER: "the header", Kind.L1: "the L1 table", Kind.REFCOUNT_TABLE: "the refcount table"}
_NUMBERED = {Kind.L2: "L2 table", Kind.REFCOUNT_BLOCK: "refcount block", Kind.DATA: "guest cluster"}


def use_of(run: Run, host: int) -> str:
    """Say in words what a host cluster of a run is used for."""
    if run.kind in _NUMBERED:
        return f"{_NUMBERED[run.kind]} {run.index + host - run.host}"
    return _ONE_OF_A_KIND.get(run.kind, "compressed clusters")


class Overlap(msgspec.Struct, frozen=True):
    """A host cluster that is used twice, and what for."""

    host: int
    one: str
    other: str


class Layout:
    """The runs of a file in host order and its compressed clusters, with look-up from both sides."""

    def __init__(self, runs: Iterable[Run], compressed: CompressedClusters | None = None) -> None:
        self.runs = list(join_runs(sorted(runs, key=lambda run: run.host)))
        self.compressed = CompressedClusters() if compressed is None else compressed
        self.compressed.sort()
        self._hosts = [run.host for run in self.runs]
        self._data = sorted((run for run in self.runs if run.kind is Kind.DATA), key=lambda run: run.index)
        self._guests = [run.index for run in self._data]
        self.tables = {
            run.index + step: run.host + step for run in self.runs if run.kind is Kind.L2 for step in range(run.count)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self.runs, self.compressed) == (other.runs, other.compressed)

    __hash__ = None  # type: ignore[assignment]

    def overlap(self) -> Overlap | None:
        """Return the first host cluster that two runs claim, if any."""
        for before, after in itertools.pairwise(self.runs):
            if after.host < before.host + before.count:
                return Overlap(after.host, use_of(before, after.host), use_of(after, after.host))
        return None

    def run_at(self, host: int) -> Run | None:
        """Return the run that holds a host cluster, or None for an unused cluster."""
        index = bisect.bisect_right(self._hosts, host) - 1
        if index >= 0 and host < self.runs[index].host + self.runs[index].count:
            return self.runs[index]
        return None

    def next_used(self, host: int) -> int | None:
        """Return the first used host cluster after ``host``."""
        index = bisect.bisect_right(self._hosts, host)
        return self._hosts[index] if index < len(self._hosts) else None

    def data_in(self, start: int, end: int) -> Iterator[Run]:
        """Yield the data runs of guest clusters ``[start, end)``, cut to that range, in guest order."""
        index = max(bisect.bisect_right(self._guests, start) - 1, 0)
        for at in range(index, len(self._data)):
            run = self._data[at]
            if run.index >= end:
                return
            low, high = max(run.index, start), min(run.index + run.count, end)
            if low < high:
                yield Run(Kind.DATA, run.host + low - run.index, low, high - low)

    def used_in(self, start: int, end: int) -> Iterator[Run]:
        """Yield the runs of any kind on host clusters ``[start, end)``, cut to that range."""
        index = max(bisect.bisect_right(self._hosts, start) - 1, 0)
        for at in range(index, len(self.runs)):
            run = self.runs[at]
            if run.host >= end:
                return
            low, high = max(run.host, start), min(run.host + run.count, end)
            if low < high:
                yield Run(run.kind, low, run.index + low - run.host, high - low)

    def in_allocation_order(self, cluster_size: int) -> list[BlockRun]:
        """Return the guest clusters, stored either way, in the order of their allocation.

        That is their order in the file but for compressed ones that fit behind the last one, in a host cluster from
        before. When these came matters only for L2 tables, each of which was allocated right before the first cluster
        that needed it.
        """
        plain = ((run.host, run.index, run.count) for run in self.runs if run.kind is Kind.DATA)
        ordered = heapq.merge(plain, self._compressed_by_host(cluster_size), key=lambda item: item[0])
        return list(joined(BlockRun(guest, count) for _, guest, count in ordered))

    def _compressed_by_host(self, cluster_size: int) -> Iterator[tuple[int, int, int]]:
        """Yield a host cluster, guest cluster and count for each compressed cluster, in the order of the file.

        What lies behind that host cluster was allocated later.
        """
        per_table = cluster_size // ENTRY_SIZE
        host = 0
        for position, guest in enumerate(self.compressed.guests):
            last = (self.compressed.end(position) - 1) // cluster_size
            host = max(host, last, self.tables.get(guest // per_table, 0))
            yield host, guest, 1
