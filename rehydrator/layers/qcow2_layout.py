"""Where each host cluster of a qcow2 file comes from: the bridge between record and bytes."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

from rehydrator.disk.extents import Extent
from rehydrator.layers.c_qcow2 import ENTRY_SIZE
from rehydrator.layers.qcow2_record import GuestRun, Kind, Qcow2Record, Run


def guest_runs(extents: Iterable[Extent], cluster_size: int) -> list[GuestRun]:
    """Return the runs of guest clusters that an ordered sequence of extents touches."""
    runs: list[GuestRun] = []
    for extent in extents:
        start, end = extent.offset // cluster_size, -(-extent.end // cluster_size)
        if runs and start <= runs[-1].end:
            runs[-1] = GuestRun(runs[-1].start, max(runs[-1].end, end) - runs[-1].start)
        else:
            runs.append(GuestRun(start, end - start))
    return runs


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


def sequential_runs(record: Qcow2Record, allocated: Iterable[GuestRun]) -> Iterator[Run]:
    """Lay ``allocated`` guest clusters out as qemu-img does, around the fixed clusters.

    Yields all runs in host order. An L2 table takes the host cluster before its first data cluster.
    """
    per_table = record.cluster_size // ENTRY_SIZE
    fixed = fixed_runs(record)
    position = 0
    upcoming = 0

    def place(kind: Kind, index: int, count: int) -> Iterator[Run]:
        nonlocal position, upcoming
        while count:
            while upcoming < len(fixed) and fixed[upcoming].host <= position:
                yield fixed[upcoming]
                position = max(position, fixed[upcoming].host + fixed[upcoming].count)
                upcoming += 1
            room = count if upcoming == len(fixed) else min(count, fixed[upcoming].host - position)
            yield Run(kind, position, index, room)
            position, index, count = position + room, index + room, count - room

    table = -1
    for run in allocated:
        start = run.start
        while start < run.end:
            if start // per_table != table:
                table = start // per_table
                yield from place(Kind.L2, table, 1)
            stop = min(run.end, (table + 1) * per_table)
            yield from place(Kind.DATA, start, stop - start)
            start = stop
    yield from fixed[upcoming:]


class Layout:
    """The runs of a file in host order, with look-up from both sides."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(join_runs(sorted(runs, key=lambda run: run.host)))
        self._hosts = [run.host for run in self.runs]
        self._data = sorted((run for run in self.runs if run.kind is Kind.DATA), key=lambda run: run.index)
        self._guests = [run.index for run in self._data]
        self.tables = {
            run.index + step: run.host + step for run in self.runs if run.kind is Kind.L2 for step in range(run.count)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.runs == other.runs

    __hash__ = None  # type: ignore[assignment]

    def overlap(self) -> int | None:
        """Return the first host cluster that two runs claim, if any."""
        for before, after in zip(self.runs, self.runs[1:], strict=False):
            if after.host < before.host + before.count:
                return after.host
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
