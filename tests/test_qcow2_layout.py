"""The layout functions of qcow2 against each other and against simple models."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import Extent, merge
from rehydrator.layers.block_runs import BlockRun, nonzero_runs
from rehydrator.layers.qcow2_layout import Layout, Overlap, fixed_runs, join_runs, sequential
from rehydrator.layers.qcow2_record import Kind, Qcow2Record, Run

BITS = 9
CLUSTER = 1 << BITS
PER_TABLE = CLUSTER // 8

guests = st.sets(st.integers(0, 4 * PER_TABLE), max_size=60).map(
    lambda indices: list(nonzero_runs((Extent(index * CLUSTER, 1) for index in sorted(indices)), CLUSTER))
)


def record(refcount_blocks: list[int], l1_table: int = 3) -> Qcow2Record:
    return Qcow2Record(
        version=3,
        cluster_bits=BITS,
        file_size=10_000 * CLUSTER,
        l1_size=8,
        refcount_table_clusters=1,
        l1_table=l1_table,
        refcount_table=1,
        refcount_blocks=tuple(refcount_blocks),
    )


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 1500)), max_size=9))
def test_nonzero_runs(pairs: list[tuple[int, int]]) -> None:
    extents = list(merge(Extent(*pair) for pair in sorted(pairs)))
    naive = {byte // CLUSTER for extent in extents for byte in range(extent.offset, extent.end)}
    runs = list(nonzero_runs(extents, CLUSTER))
    assert {index for run in runs for index in range(run.start, run.end)} == naive
    assert all(before.end < after.start for before, after in pairwise(runs))


@given(guests, st.sets(st.integers(4, 90), min_size=1, max_size=5))
def test_sequential_layout(allocated: list[BlockRun], scattered: set[int]) -> None:
    """Every cluster has its place once, in guest order, without gaps, each L2 table right before its data."""
    description = record([2, *sorted(scattered)])
    runs = sequential(description, allocated).runs
    placed = [(run.host + step, run.kind, run.index + step) for run in runs for step in range(run.count)]
    hosts = [host for host, _, _ in placed]
    assert hosts == sorted(set(hosts))
    assert [index for _, kind, index in placed if kind is Kind.DATA] == [
        index for run in allocated for index in range(run.start, run.end)
    ]
    fixed = {host for run in fixed_runs(description) for host in range(run.host, run.host + run.count)}
    moving = [item for item in placed if item[0] not in fixed]
    if moving:
        assert set(range(moving[-1][0])) <= set(hosts)
    tables: list[int] = []
    for _, kind, index in moving:
        if kind is Kind.L2:
            tables.append(index)
        else:
            assert index // PER_TABLE == tables[-1]
    assert tables == sorted(set(tables))


@given(guests, st.data())
def test_lookups_of_a_layout(allocated: list[BlockRun], data: st.DataObject) -> None:
    layout = sequential(record([2]), allocated)
    assert layout.overlap() is None
    by_host = {run.host + step: (run.kind, run.index + step) for run in layout.runs for step in range(run.count)}
    start = data.draw(st.integers(0, max(by_host) + 2))
    end = start + data.draw(st.integers(0, 80))
    found = layout.run_at(start)
    assert (found and (found.kind, found.index + start - found.host)) == by_host.get(start)
    used = [run.host + step for run in layout.used_in(start, end) for step in range(run.count)]
    assert used == [host for host in sorted(by_host) if start <= host < end]
    assert layout.next_used(start) in {None, *[run.host for run in layout.runs if run.host > start]}
    held = {index: host for host, (kind, index) in by_host.items() if kind is Kind.DATA}
    pieces = {run.index + step: run.host + step for run in layout.data_in(start, end) for step in range(run.count)}
    assert pieces == {index: host for index, host in held.items() if start <= index < end}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=20))
def test_join_runs(steps: list[tuple[int, bool]]) -> None:
    single = []
    host = index = 0
    for gap, follows in steps:
        host += 1 + gap
        index += 1 if follows and not gap else 5
        single.append(Run(Kind.DATA, host, index, 1))
    joined = list(join_runs(single))
    assert [(run.host + s, run.index + s) for run in joined for s in range(run.count)] == [
        (run.host, run.index) for run in single
    ]
    assert list(join_runs(joined)) == joined
    assert all(
        (after.host, after.index) != (before.host + before.count, before.index + before.count)
        for before, after in pairwise(joined)
    )


def test_overlap_names_the_cluster() -> None:
    layout = Layout([Run(Kind.HEADER, 0, 0, 1), Run(Kind.DATA, 4, 0, 3), Run(Kind.DATA, 6, 9, 1)])
    assert layout.overlap() == Overlap(6, "guest cluster 2", "guest cluster 9")


@given(
    st.permutations(range(0, 8 * PER_TABLE, 16)),
    st.randoms(use_true_random=False),
    st.sets(st.integers(4, 60), max_size=3),
)
def test_the_order_of_allocation_is_found_again(order: list[int], random: Random, scattered: set[int]) -> None:
    """Whatever order several writers had, the order that is read from a file gives the same file."""
    sizes = [0 if random.random() < 0.4 else random.randrange(1, CLUSTER) for _ in order]
    description = record([2, *sorted(scattered)])
    layout = sequential(description, [BlockRun(guest, 1) for guest in order], sizes)
    by_guest = dict(zip(order, sizes, strict=True))
    found = layout.in_allocation_order(CLUSTER)
    again = [guest for run in found for guest in range(run.start, run.end)]
    assert sorted(again) == sorted(order)
    assert sequential(description, found, [by_guest[guest] for guest in again]) == layout
