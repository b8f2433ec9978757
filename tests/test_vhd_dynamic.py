"""Dynamic VHD: exact on what qemu-img writes, read alike by other readers, and damage told with its place."""

from __future__ import annotations

import importlib
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.c_vhd import DynamicHeader, Footer
from rehydrator.layers.vhd import VhdLayer
from rehydrator.layers.vhd_dynamic import TABLE_OFFSET
from rehydrator.layers.vhd_footer import sealed
from rehydrator.layers.vhd_record import DynamicVhd, VhdRecord
from rehydrator.layers.views import view_of
from tests.support.containers import check_complete, convert, exact, sparse_raw
from tests.support.disks import MIB, random_sparse

LAYER = VhdLayer()
PATH = Path("x.vhd")
BLOCK = 4096
STEP = 512 + BLOCK  # a block with its bitmap
RECORD = VhdRecord(848703365, str(uuid.UUID(int=7)), dynamic=DynamicVhd(BLOCK))


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def dynamic_image(raw: Path, options: str = "") -> Path:
    return convert(raw, raw.with_name("vhd"), "vpc", "-o", f"subformat=dynamic{options}")


@pytest.mark.oracle
@pytest.mark.parametrize("size", [512, 2 * MIB, 9 * MIB + 1536, 40 * MIB])
@pytest.mark.parametrize("fill", [0.0, 0.05, 1.0])
def test_real_images(need: Callable[..., None], tmp_path: Path, size: int, fill: float) -> None:
    need("qemu-img")
    (raw := tmp_path / "raw").write_bytes(disk := random_sparse(size, size, fill))
    image = dynamic_image(raw, ",force_size")
    with FileSource(image) as outer:
        record, inner = exact(LAYER, outer)
        assert content(inner) == disk
    assert record.dynamic == DynamicVhd()
    assert len(zstandard.compress(msgspec.json.encode(record))) <= 200
    assert LAYER.describe(record) == "dynamic vhd by qem2 5.3"


@pytest.mark.oracle
def test_a_size_by_geometry(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    (raw := tmp_path / "raw").write_bytes(random_sparse(1, 3 * MIB, 0.3))
    image = dynamic_image(raw)
    with FileSource(image) as outer:
        record, inner = exact(LAYER, outer)
    cylinders, heads, sectors = record.geometry
    assert cylinders * heads * sectors * 512 == inner.size


@pytest.mark.oracle
def test_more_than_4_gib(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    places = (7, (1 << 32) + 5, (5 << 30) - 4)
    raw = sparse_raw(tmp_path / "raw", 5 << 30, dict.fromkeys(places, b"here"))
    image = dynamic_image(raw, ",force_size")
    with FileSource(image) as outer:
        record, inner = exact(LAYER, outer)
        assert inner.size == 5 << 30
        assert bytes(inner.read((1 << 32) + 4, 6)) == b"\0here\0"
    assert record.dynamic == DynamicVhd()


@pytest.mark.oracle
def test_other_readers_agree(need: Callable[..., None], tmp_path: Path) -> None:
    """Blocks in any order, which qemu-img never writes."""
    need("qemu-img")
    pyvhdi = importlib.import_module("pyvhdi")
    raw, image = tmp_path / "raw", tmp_path / "vhd"
    raw.write_bytes(disk := random_sparse(3, 11 * MIB, 0.4))
    blocks = [BlockRun(4, 2), BlockRun(0, 4)]
    wrapped = LAYER.wrap(BytesSource(disk), msgspec.structs.replace(RECORD, dynamic=DynamicVhd(2 * MIB, blocks)))
    image.write_bytes(content(wrapped))
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "vpc", raw, image], check=True, capture_output=True)
    reader = pyvhdi.file()
    reader.open(str(image))
    assert reader.read_buffer_at_offset(len(disk), 0) == disk
    reader.close()


@settings(max_examples=40)
@given(st.data())
def test_any_record(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 40_000))
    block = data.draw(st.sampled_from([4096, 8192]))
    blocks = -(-size // block)
    order = data.draw(st.permutations(range(blocks)))[: data.draw(st.integers(0, blocks))]
    disk = bytearray(size)
    for number in order:
        if data.draw(st.booleans()):
            disk[min(number * block + 5, size - 1)] = 1
    dynamic = DynamicVhd(block, [BlockRun(number, 1) for number in order])
    image = LAYER.wrap(BytesSource(bytes(disk)), msgspec.structs.replace(RECORD, dynamic=dynamic))
    record, inner = exact(LAYER, image)
    assert content(inner) == disk
    assert content(LAYER.wrap(inner, record)) == content(image)


def image() -> bytes:
    """Blocks 0 and 2 of 4 hold data; the last reaches past the end of the disk."""
    disk = b"a" * BLOCK + bytes(BLOCK) + b"c" * BLOCK + bytes(100)
    return content(LAYER.wrap(BytesSource(disk), RECORD))


def with_bytes(data: bytes, at: int, held: bytes) -> bytes:
    return data[:at] + held + data[at + len(held) :]


def with_header(data: bytes, name: str, value: int, width: int) -> bytes:
    data = with_bytes(data, Footer.SIZE + DynamicHeader.offset_of(name), value.to_bytes(width, "big"))
    return with_bytes(data, Footer.SIZE, sealed(DynamicHeader, data[Footer.SIZE : Footer.SIZE + DynamicHeader.SIZE]))


def with_footer(data: bytes, name: str, value: int, width: int) -> bytes:
    at = len(data) - Footer.SIZE
    data = with_bytes(data, at + Footer.offset_of(name), value.to_bytes(width, "big"))
    return with_bytes(data, at, sealed(Footer, data[at:]))


def with_entry(data: bytes, block: int, sector: int) -> bytes:
    return with_bytes(data, TABLE_OFFSET + 4 * block, sector.to_bytes(4, "big"))


BLOCKS = TABLE_OFFSET + 512
END = BLOCKS + 2 * STEP  # of the blocks, where the footer begins
HEADER = Footer.SIZE

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], type[RehydratorError], str, int]] = {
    "cookie": (
        lambda data: with_bytes(data, HEADER, b"X"),
        CorruptError, "cookie is wrong", HEADER,
    ),
    "checksum": (
        lambda data: with_bytes(data, HEADER + DynamicHeader.offset_of("max_table_entries"), b"\1"),
        CorruptError, "checksum is wrong", HEADER + DynamicHeader.offset_of("checksum"),
    ),
    "header past the end": (
        lambda data: with_footer(data, "data_offset", 1 << 62, 8),
        CorruptError, "data_offset is wrong", END + Footer.offset_of("data_offset"),
    ),
    "huge disk": (
        lambda data: with_footer(data, "current_size", 1 << 62, 8),
        CorruptError, "current_size is wrong", END + Footer.offset_of("current_size"),
    ),
    "small table": (
        lambda data: with_header(data, "max_table_entries", 3, 4),
        CorruptError, "max_table_entries is wrong", HEADER + DynamicHeader.offset_of("max_table_entries"),
    ),
    "table past the end": (
        lambda data: with_header(data, "table_offset", 1 << 40, 8),
        CorruptError, "table_offset is wrong", HEADER + DynamicHeader.offset_of("table_offset"),
    ),
    "block size": (
        lambda data: with_header(data, "block_size", 4097, 4),
        CorruptError, "block_size is wrong", HEADER + DynamicHeader.offset_of("block_size"),
    ),
    "no block size": (
        lambda data: with_header(data, "block_size", 0, 4),
        CorruptError, "block_size is wrong", HEADER + DynamicHeader.offset_of("block_size"),
    ),
    "block past the end": (
        lambda data: with_entry(data, 1, 1 << 30),
        CorruptError, "entry of block 1 in the allocation table is wrong", TABLE_OFFSET + 4,
    ),
    "block that reaches into the footer": (
        lambda data: with_entry(data, 2, (END - STEP) // 512 + 1),
        CorruptError, "entry of block 2 in the allocation table is wrong", TABLE_OFFSET + 8,
    ),
    "block in the table": (
        lambda data: with_entry(data, 0, 3),
        CorruptError, "entry of block 0", TABLE_OFFSET,
    ),
    "block twice": (
        lambda data: with_entry(data, 1, BLOCKS // 512),
        CorruptError, "entry of block 1", TABLE_OFFSET + 4,
    ),
    "blocks that overlap": (
        lambda data: with_entry(data, 1, BLOCKS // 512 + 1),
        CorruptError, "entry of block 1", TABLE_OFFSET + 4,
    ),
    "absent sectors": (
        lambda data: with_bytes(data, BLOCKS + STEP, b"\x7f"),
        UnsupportedError, "sectors are absent", BLOCKS + STEP,
    ),
    "parent": (
        lambda data: with_header(data, "parent_time_stamp", 5, 4),
        UnsupportedError, "would not be written back exactly", HEADER + DynamicHeader.offset_of("checksum") + 3,
    ),
    "first footer": (
        lambda data: with_bytes(data, 20, b"X"),
        UnsupportedError, "would not be written back exactly", 20,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_told_with_its_place(case: str) -> None:
    damage, kind, words, offset = DAMAGES[case]
    exact(LAYER, BytesSource(image()))
    with pytest.raises(kind, match=words) as caught:
        LAYER.unwrap(BytesSource(damage(image())), PATH)
    check_complete(caught.value, PATH)
    assert caught.value.offset == offset


def test_data_past_the_end_of_the_disk() -> None:
    disk = b"a" * (BLOCK + 10)
    data = content(LAYER.wrap(BytesSource(disk), RECORD))
    at = len(data) - Footer.SIZE - 1
    with pytest.raises(UnsupportedError, match="would not be written back exactly") as caught:
        LAYER.unwrap(BytesSource(with_bytes(data, at, b"x")), PATH)
    assert caught.value.offset == at


@pytest.mark.parametrize(
    "dynamic",
    [
        DynamicVhd(0),
        DynamicVhd(-4096),
        DynamicVhd(1 << 70),
        DynamicVhd(5000),
        DynamicVhd(4096, [BlockRun(0, 1 << 60)]),
        DynamicVhd(4096, [BlockRun(-1, 1)]),
        DynamicVhd(4096, [BlockRun(3, 1)]),
        DynamicVhd(4096, [BlockRun(0, -1)]),
        DynamicVhd(4096, [BlockRun(0, 1), BlockRun(0, 1)]),
    ],
    ids=str,
)
def test_forged_records(dynamic: DynamicVhd) -> None:
    with pytest.raises(MismatchError):
        LAYER.wrap(BytesSource(bytes(3 * BLOCK)), msgspec.structs.replace(RECORD, dynamic=dynamic))


def test_explain_tells_fixed_from_dynamic() -> None:
    fixed = view_of(msgspec.structs.replace(RECORD, dynamic=None))
    dynamic = view_of(RECORD)
    assert {name: dynamic[name] for name in dynamic if dynamic[name] != fixed.get(name)} == {
        "disk_type": "dynamic",
        "block_size": BLOCK,
        "blocks": "nonzero",
    }
