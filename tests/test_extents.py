"""Extents against naive models over bytes."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import (
    BLOCK,
    CHUNK,
    Extent,
    ExtentMap,
    chunks,
    is_zero,
    merge,
    nonzero_blocks,
    whole_blocks,
)
from rehydrator.fs.place import cut

ordered = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=12).map(
    lambda pairs: [Extent(*pair) for pair in sorted(pairs)]
)


def members(extents: list[Extent]) -> set[int]:
    return {byte for extent in extents for byte in range(extent.offset, extent.end)}


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, CHUNK, CHUNK + 1])
def test_is_zero(size: int) -> None:
    assert is_zero(bytes(size))
    assert is_zero(memoryview(bytes(size)))
    for at in {0, size // 2, size - 1} if size else set():
        data = bytearray(size)
        data[at] = 1
        assert not is_zero(bytes(data))
        assert not is_zero(memoryview(data))


@given(st.lists(st.booleans(), max_size=9), st.integers(0, 3), st.integers(1, BLOCK))
def test_nonzero_blocks(blocks: list[bool], base: int, tail: int) -> None:
    parts = [(b"\0" * (BLOCK - 1) + b"x") if full else bytes(BLOCK) for full in blocks]
    data = b"".join(parts) + b"y" * tail
    found = list(nonzero_blocks(data, base * BLOCK))
    expected = {base + i for i, full in enumerate(blocks) if full} | {base + len(blocks)}
    assert {block for extent in found for block in range(extent.offset // BLOCK, -(-extent.end // BLOCK))} == expected
    assert found[-1].end == base * BLOCK + len(data)
    assert all(before.end < after.offset for before, after in pairwise(found))


@given(ordered)
def test_merge(extents: list[Extent]) -> None:
    merged = list(merge(extents))
    assert members(merged) == members(extents)
    assert all(before.end < after.offset for before, after in pairwise(merged))


@given(ordered, st.integers(1, 40))
def test_chunks(extents: list[Extent], limit: int) -> None:
    merged = list(merge(extents))
    pieces = list(chunks(merged, limit))
    assert members(pieces) == members(merged)
    assert sum(piece.length for piece in pieces) == sum(extent.length for extent in merged)
    assert all(0 < piece.length <= limit and piece.offset // limit == (piece.end - 1) // limit for piece in pieces)


@given(ordered, st.integers(0, 240), st.integers(0, 60))
def test_within_and_touches(extents: list[Extent], offset: int, length: int) -> None:
    found = ExtentMap(extents)
    naive = members(extents) & set(range(offset, offset + length))
    assert members(list(found.within(offset, length))) == naive
    assert found.touches(offset, length) == bool(naive)
    assert found.total == len(members(extents))


@pytest.mark.parametrize(
    ("extent", "size", "expected"),
    [
        (Extent(0, 1), 9000, Extent(0, 4096)),
        (Extent(4095, 2), 9000, Extent(0, 8192)),
        (Extent(4096, 4096), 9000, Extent(4096, 4096)),
        (Extent(8500, 10), 9000, Extent(8192, 808)),
    ],
)
def test_whole_blocks(extent: Extent, size: int, expected: Extent) -> None:
    assert whole_blocks(extent, size) == expected


def test_equality_is_that_of_the_set() -> None:
    assert ExtentMap([Extent(0, 2), Extent(2, 2)]) == ExtentMap([Extent(0, 4)])
    assert hash(ExtentMap([Extent(0, 4)])) == hash(ExtentMap([Extent(0, 1), Extent(1, 3)]))
    assert ExtentMap([Extent(0, 4)]) != ExtentMap([Extent(0, 5)])


@given(ordered, st.sets(st.integers(1, 200)), st.integers(0, 3))
def test_structures_are_cut_where_they_begin(ranges: list[Extent], borders: set[int], repeated: int) -> None:
    """Each byte of a range comes with the last structure that begins at or before it."""
    size = 180
    starts = sorted([0, *borders, *sorted(borders)[:repeated]])
    pieces = list(cut(ranges, starts, size))
    found = [(byte, piece.number) for piece in pieces for byte in range(piece.extent.offset, piece.extent.end)]
    assert found == [
        (byte, bisect_right(starts, byte) - 1)
        for extent in ranges
        for byte in range(extent.offset, min(extent.end, size))
    ]
    assert all(piece.extent.length for piece in pieces)
