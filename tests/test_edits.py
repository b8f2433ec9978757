"""Edits: what is recognised, applied to the base, is the disk again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import BLOCK, Extent
from rehydrator.disk.gpt import PartitionTable, Region, read_table
from rehydrator.disk.source import BytesSource, Padded, Source
from rehydrator.edits.blocks import Blocks, ByteRun, OwnedRun, differing_blocks, differing_runs, recognise
from rehydrator.edits.grow import Grow
from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError
from tests.support.disks import random_sparse

SIZE = 12 * BLOCK + 777
BASE = random_sparse(17, SIZE, 0.5)
TABLE = PartitionTable(
    512,
    (
        Region("gpt", Extent(0, 5000)),
        Region("p1 boot", Extent(5000, 3 * BLOCK)),
        Region("p2 root", Extent(5000 + 3 * BLOCK, SIZE - 5000 - 3 * BLOCK)),
    ),
)


class Memory:
    """Blobs in memory."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, content: bytes) -> str:
        name = f"blob{len(self.held)}"
        self.held[name] = content
        return name

    def blob(self, name: str) -> bytes:
        return self.held[name]


def recognised(base: Source, disk: Source, table: PartitionTable = TABLE) -> tuple[list[Blocks], Memory]:
    blobs = Memory()
    runs = differing_runs(base, disk, differing_blocks(base, disk))
    owned = (OwnedRun(region.name, region.extent.offset, part) for run in runs for region, part in table.split(run))
    return list(recognise(disk, owned, blobs)), blobs


changes = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.one_of(st.binary(max_size=30), st.integers(0, 9000).map(bytes))), max_size=10
)


@given(changes, st.integers(0, 2 * BLOCK))
def test_recognise_and_apply_is_identity(patches: list[tuple[int, bytes]], more: int) -> None:
    disk = bytearray(BASE + bytes(more))
    for offset, data in patches:
        disk[offset : offset + len(data)] = data[: len(disk) - offset]
    base = Grow(len(disk)).grown(BytesSource(BASE))
    edits, blobs = recognised(base, BytesSource(bytes(disk)))
    replay = Replay(base, blobs=blobs.blob)
    for edit in edits:
        edit.apply(replay)
    assert bytes(replay.disk.read(0, replay.disk.size)) == bytes(disk)
    for edit in edits:
        assert all(before.offset + before.length < after.offset for before, after in pairwise(edit.runs))
        assert all(run.offset >= 0 and run.length > 0 for run in edit.runs)


@given(changes)
def test_blocks_that_differ(patches: list[tuple[int, bytes]]) -> None:
    disk = bytearray(BASE)
    for offset, data in patches:
        disk[offset : offset + len(data)] = data[: len(disk) - offset]
    naive = [at for at in range(0, SIZE, BLOCK) if disk[at : at + BLOCK] != BASE[at : at + BLOCK]]
    assert [block.offset for block in differing_blocks(BytesSource(BASE), BytesSource(bytes(disk)))] == naive


def changed(*places: int) -> BytesSource:
    disk = bytearray(BASE)
    for at in places:
        disk[at] ^= 0x55
    return BytesSource(bytes(disk))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((), []),
        ((100,), [("gpt", 0, [(100, 1)])]),
        ((100, 102, 107), [("gpt", 0, [(100, 8)])]),  # joined: close together
        ((100, 120), [("gpt", 0, [(100, 1), (120, 1)])]),
        ((4095, 4096), [("gpt", 0, [(4095, 2)])]),  # joined across blocks
        ((4999, 5000), [("gpt", 0, [(4999, 1)]), ("p1 boot", 5000, [(0, 1)])]),  # split at the region's border
        ((SIZE - 1,), [("p2 root", 5000 + 3 * BLOCK, [(SIZE - 1 - 5000 - 3 * BLOCK, 1)])]),
    ],
)
def test_runs_are_joined_and_split(
    places: tuple[int, ...], expected: list[tuple[str, int, list[tuple[int, int]]]]
) -> None:
    edits, _ = recognised(BytesSource(BASE), changed(*places))
    assert [(edit.owner, edit.start, [(run.offset, run.length) for run in edit.runs]) for edit in edits] == expected


def test_describe() -> None:
    edits, _ = recognised(BytesSource(BASE), changed(100, 120))
    assert edits[0].describe() == "gpt: 2 literal bytes in 2 runs"
    assert edits[0].literal_bytes() == 2
    assert Grow(7).describe() == "disk grown to 7 bytes"
    assert Grow(7).literal_bytes() == 0


def test_a_blob_of_another_length_is_damage() -> None:
    edit = Blocks("gpt", 0, [ByteRun(0, 4)], "name")
    with pytest.raises(StoreDamagedError, match="does not fill its runs"):
        edit.apply(Replay(BytesSource(bytes(10)), blobs=lambda _name: b"12345"))


@pytest.mark.parametrize("size", [SIZE, SIZE + 1, SIZE + 10 * BLOCK])
def test_grow(size: int) -> None:
    grown = Grow(size).grown(BytesSource(BASE))
    assert bytes(grown.read(0, size)) == BASE + bytes(size - SIZE)
    with pytest.raises(ValueError, match="smaller"):
        Padded(BytesSource(BASE), SIZE - 1)


def test_a_disk_without_a_table_is_one_region() -> None:
    edits, _ = recognised(BytesSource(BASE), changed(1), read_table(BytesSource(BASE)))
    assert [edit.owner for edit in edits] == ["disk"]
