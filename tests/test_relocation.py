"""Relocation: what is found elsewhere and put together again is the file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import BLOCK, ExtentMap
from rehydrator.disk.gpt import read_table, whole_disk
from rehydrator.disk.source import BytesSource
from rehydrator.errors import StoreDamagedError
from rehydrator.relocation.finder import STEP, ContentIndex, find
from rehydrator.relocation.prefix import metadata_blocks, prefix_source
from rehydrator.relocation.segments import LITERAL, Segment, SegmentSource
from tests.support.disks import random_sparse, shuffled
from tests.support.tiny_disk import tiny_disk

REFERENCES = [random_sparse(31, 40 * BLOCK, 0.7), random_sparse(32, 33 * BLOCK + 99, 0.9)]

# a piece of a reference, literal bytes, or zeros
piece = st.one_of(
    st.tuples(st.integers(0, 1), st.integers(0, 40 * BLOCK), st.integers(1, 6 * BLOCK)),
    st.tuples(st.just(LITERAL), st.integers(0, 1000), st.sampled_from([1, 511, STEP, BLOCK, 3 * BLOCK])),
    st.tuples(st.just(-2), st.just(0), st.sampled_from([7, STEP, BLOCK, 5 * BLOCK])),
)


def build(pieces: list[tuple[int, int, int]]) -> bytes:
    parts = []
    for kind, at, length in pieces:
        if kind >= 0:
            parts.append(REFERENCES[kind][at : at + length])
        elif kind == LITERAL:
            parts.append(random.Random(at).randbytes(length))
        else:
            parts.append(bytes(length))
    return b"".join(parts)


def indexed(*references: bytes) -> ContentIndex:
    index = ContentIndex()
    for number, reference in enumerate(references):
        assert index.add(BytesSource(reference)) == number
    return index


def assembled(target: bytes, segments: list[Segment], references: list[bytes]) -> bytes:
    literals = b"".join(target[item.offset : item.end] for item in segments if item.reference == LITERAL)
    sources = [BytesSource(reference) for reference in references]
    source = SegmentSource(len(target), segments, sources, BytesSource(literals) if literals else None)
    whole = bytes(source.read(0, source.size))
    order = random.Random(len(target))
    for _ in range(5):
        at = order.randrange(len(target) + 1)
        length = order.randrange(len(target) - at + 1)
        assert bytes(source.read(at, length)) == whole[at : at + length]
    assert source.nonzero() == BytesSource(whole).nonzero()
    return whole


@given(st.lists(piece, max_size=8))
def test_find_and_assemble_is_identity(pieces: list[tuple[int, int, int]]) -> None:
    target = build(pieces)
    segments = find(BytesSource(target), indexed(*REFERENCES))
    assert assembled(target, segments, REFERENCES) == target


@pytest.mark.parametrize("shift", [0, STEP, 3 * STEP, BLOCK + STEP])
def test_content_at_sector_shifts_is_found(shift: int) -> None:
    middle = random.Random(1).randbytes(20 * BLOCK)
    target = b"h" * shift + middle
    segments = find(BytesSource(target), indexed(middle))
    assert [item for item in segments if item.reference == 0] == [Segment(shift, len(middle), 0, 0)]


def test_a_hit_grows_in_both_directions() -> None:
    reference = random.Random(2).randbytes(10 * BLOCK)
    target = b"a" * STEP + reference[3 * STEP : 9 * BLOCK + STEP] + b"b" * STEP
    segments = find(BytesSource(target), indexed(reference))
    assert [(item.reference, item.length) for item in segments] == [
        (LITERAL, STEP),
        (0, 9 * BLOCK - 2 * STEP),
        (LITERAL, STEP),
    ]


@pytest.mark.parametrize("size", [5 * BLOCK + 1, 5 * BLOCK + 511, 7 * BLOCK + 1000])
def test_files_of_any_size_do_not_hide_what_follows(size: int) -> None:
    """As on an ISO: a file ends anywhere, the next one begins at the next sector, or at once."""
    first, second = random.Random(7).randbytes(size), random.Random(8).randbytes(9 * BLOCK)
    for gap in (0, -size % 2048):
        target = first + b"p" * gap + second
        segments = find(BytesSource(target), indexed(first, second))
        assert {item.reference for item in segments} - {LITERAL} == {0, 1}
        assert sum(item.length for item in segments if item.reference == LITERAL) <= gap
        assert assembled(target, segments, [first, second]) == target


@pytest.mark.parametrize("shift", [1, 77, 4 * BLOCK + 5])
def test_files_that_begin_anywhere(shift: int) -> None:
    """As in an archive: a file of several pieces of a disk, behind others of any size, at no multiple of a sector."""
    reference = random.Random(9).randbytes(12 * BLOCK)
    file = reference[9 * BLOCK :] + reference[2 * BLOCK : 5 * BLOCK] + b"end"
    target = b"h" * shift + file + reference[: 2 * BLOCK]
    segments = find(BytesSource(target), indexed(reference), [0, shift, shift + len(file)])
    found = [(item.offset, item.length) for item in segments if item.reference == 0]
    assert found == [(shift, 3 * BLOCK), (shift + 3 * BLOCK, 3 * BLOCK), (shift + len(file), 2 * BLOCK)]
    assert assembled(target, segments, [reference]) == target


@given(st.lists(piece, max_size=8), st.sets(st.integers(0, 40 * BLOCK)))
def test_starts_change_nothing_in_the_result(pieces: list[tuple[int, int, int]], starts: set[int]) -> None:
    target = build(pieces)
    segments = find(BytesSource(target), indexed(*REFERENCES), sorted(starts))
    assert assembled(target, segments, REFERENCES) == target


def test_shuffled_blocks_are_all_found() -> None:
    target = shuffled(REFERENCES[0], 3)
    segments = find(BytesSource(target), indexed(REFERENCES[0]))
    assert LITERAL not in {item.reference for item in segments}
    assert assembled(target, segments, REFERENCES[:1]) == target


@pytest.mark.parametrize("target", [b"", b"x", bytes(BLOCK), b"y" * (BLOCK - 1), b"z" * (2 * BLOCK)])
def test_small_and_foreign_targets(target: bytes) -> None:
    segments = find(BytesSource(target), indexed(REFERENCES[0]))
    assert {item.reference for item in segments} <= {LITERAL}
    assert assembled(target, segments, REFERENCES[:1]) == target


@pytest.mark.parametrize(
    "segments",
    [
        [Segment(0, 0, 0, 0)],
        [Segment(0, -1, 0, 0)],
        [Segment(-1, 5, 0, 0)],
        [Segment(0, 10, 0, 95)],
        [Segment(0, 10, 0, -1)],
        [Segment(45, 10, 0, 0)],
        [Segment(0, 10, 1, 0)],
        [Segment(0, 10, -2, 0)],
        [Segment(0, 10, LITERAL, 5)],
        [Segment(0, 10, 0, 0), Segment(9, 5, 0, 0)],
        [Segment(20, 5, 0, 0), Segment(0, 5, 0, 0)],
        [Segment(0, 1 << 62, 0, 0)],
    ],
)
def test_impossible_tables(segments: list[Segment]) -> None:
    with pytest.raises(StoreDamagedError, match="impossible segment table"):
        SegmentSource(50, segments, [BytesSource(bytes(100))], BytesSource(bytes(10)))


def test_literals_that_are_missing() -> None:
    with pytest.raises(StoreDamagedError):
        SegmentSource(50, [Segment(0, 1, LITERAL, 0)], [], None)


def test_metadata_of_the_canonical_are_what_literals_refer_to(tmp_path: Path) -> None:
    """All blocks of ext4's inodes and directories, none of files; no more than asked for."""
    disk = BytesSource(tiny_disk(tmp_path))
    table = read_table(disk)
    blocks = metadata_blocks(disk, table, 1 << 20)
    boot = next(region.extent for region in table.regions if region.label == "boot")
    assert blocks.touches(boot.offset + 1024, 1), "the superblock"
    content = bytes(prefix_source(disk, blocks).read(0, blocks.total))
    assert b"loader" in content, "a directory entry"
    assert all(boot.offset <= item.offset and item.end <= boot.end for item in blocks)
    assert metadata_blocks(disk, table, 3 * BLOCK + 1).total <= 3 * BLOCK
    assert not metadata_blocks(BytesSource(REFERENCES[0]), whole_disk(BytesSource(REFERENCES[0])), 1 << 20)


def test_a_prefix_of_nothing() -> None:
    with pytest.raises(StoreDamagedError, match="no blocks"):
        prefix_source(BytesSource(bytes(BLOCK)), ExtentMap())
