"""The VHD layer on fixed disks that the real qemu-img wrote: exact both ways, damage named, other kinds refused."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.layers.c_vhd import Footer
from rehydrator.layers.table import format_of
from rehydrator.layers.vhd import VhdLayer
from rehydrator.layers.vhd_footer import sealed
from rehydrator.layers.vhd_record import VhdRecord
from tests.support.containers import check_complete, convert, exact, sparse_raw
from tests.support.disks import MIB, random_sparse

LAYER = VhdLayer()
PATH = Path("x.vhd")
RECORD = VhdRecord(848703365, str(uuid.UUID(int=7)))


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def fixed_image(need: Callable[..., None], tmp_path: Path, disk: bytes, options: str = "") -> Path:
    need("qemu-img")
    (tmp_path / "raw").write_bytes(disk)
    return convert(tmp_path / "raw", tmp_path / "vhd", "vpc", "-o", f"subformat=fixed{options}")


@pytest.mark.oracle
@pytest.mark.parametrize("size", [512, MIB, 5 * MIB + 512, 3 * MIB + 1024])
def test_real_images(need: Callable[..., None], tmp_path: Path, size: int) -> None:
    disk = random_sparse(size, size, 0.3)
    image = fixed_image(need, tmp_path, disk, ",force_size")
    with FileSource(image) as outer:
        found = format_of(outer)
        assert found is not None
        assert found.name == "vhd"
        record, inner = exact(LAYER, outer)
        assert content(inner) == disk
        assert inner.nonzero() == BytesSource(disk).nonzero()
    assert len(msgspec.json.encode(record)) < 120
    assert LAYER.describe(record) == "fixed vhd by qem2 5.3"


@pytest.mark.oracle
def test_a_size_by_geometry(need: Callable[..., None], tmp_path: Path) -> None:
    image = fixed_image(need, tmp_path, random_sparse(1, 3 * MIB, 0.3))
    with FileSource(image) as outer:
        record, inner = exact(LAYER, outer)
    assert record.creator_application == "qemu"
    cylinders, heads, sectors = record.geometry
    assert cylinders * heads * sectors * 512 == inner.size


@pytest.mark.oracle
def test_more_than_4_gib(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    raw = sparse_raw(tmp_path / "raw", 5 << 30, {(1 << 32) + 5: b"here"})
    image = convert(raw, tmp_path / "vhd", "vpc", "-o", "subformat=fixed,force_size")
    with FileSource(image) as outer:
        unwrapped = LAYER.unwrap(outer, PATH)
        assert bytes(unwrapped.inner.read((1 << 32) + 4, 6)) == b"\0here\0"
        wrapped = LAYER.wrap(unwrapped.inner, unwrapped.record)
        assert wrapped.size == (5 << 30) + 512
        assert bytes(wrapped.read(5 << 30, 512)) == bytes(outer.read(5 << 30, 512))
        assert wrapped.nonzero() == outer.nonzero()


@given(
    st.binary(max_size=3000),
    st.builds(
        VhdRecord,
        time_stamp=st.integers(0, 2**32 - 1),
        unique_id=st.uuids().map(str),
        creator_application=st.text("abcdef ", min_size=4, max_size=4),
        creator_version=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
        geometry=st.tuples(st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255)),
        features=st.integers(0, 2**32 - 1),
        original_size=st.none() | st.integers(4000, 2**64 - 1),
        saved_state=st.integers(0, 255),
    ),
)
def test_any_record(disk: bytes, record: VhdRecord) -> None:
    image = LAYER.wrap(BytesSource(disk), record)
    found, inner = exact(LAYER, image)
    assert found == record
    assert content(inner) == disk
    assert content(LAYER.wrap(inner, found)) == content(image)


def image(disk: bytes = b"x" * 1024) -> bytes:
    return content(LAYER.wrap(BytesSource(disk), RECORD))


def with_field(name: str, value: int | bytes, data: bytes, *, right_sum: bool = True) -> bytes:
    span = next(item for item in Footer.FIELDS if item.name == name)
    held = value if isinstance(value, bytes) else value.to_bytes(span.size, "big")
    at = len(data) - 512 + span.offset
    data = data[:at] + held + data[at + len(held) :]
    return data[:-512] + sealed(Footer, data[-512:]) if right_sum else data


LIES: dict[str, tuple[str, int | bytes, type[RehydratorError], str]] = {
    "cookie": ("cookie", b"conectiX", CorruptError, "cookie is wrong"),
    "disk_type": ("disk_type", 9, CorruptError, "disk_type is wrong"),
    "differencing": ("disk_type", 4, UnsupportedError, "differencing VHD"),
    "version": ("file_format_version", 0x20000, UnsupportedError, "unknown VHD version"),
    "current_size": ("current_size", 1 << 62, CorruptError, "current_size is wrong"),
    "data_offset": ("data_offset", 512, UnsupportedError, "would not be written back exactly"),
    "reserved": ("reserved", b"\1", UnsupportedError, "would not be written back exactly"),
    "creator": ("creator_application", b"\xff\xff\xff\xff", UnsupportedError, "no text"),
}


@pytest.mark.parametrize("case", LIES)
def test_lies_in_the_footer(case: str) -> None:
    name, value, kind, words = LIES[case]
    with pytest.raises(kind, match=words) as caught:
        LAYER.unwrap(BytesSource(with_field(name, value, image())), PATH)
    check_complete(caught.value, PATH)


def test_a_wrong_checksum() -> None:
    data = with_field("time_stamp", 5, image(), right_sum=False)
    with pytest.raises(CorruptError, match="checksum is wrong") as caught:
        LAYER.unwrap(BytesSource(data), PATH)
    assert caught.value.offset == 1024 + Footer.offset_of("checksum")


def test_truncated() -> None:
    for length in (0, 100, 511):
        assert format_of(BytesSource(image()[:length])) is None
        with pytest.raises(CorruptError, match="too short"):
            LAYER.unwrap(BytesSource(image()[:length]), PATH)
    with pytest.raises(CorruptError, match="current_size"):
        LAYER.unwrap(BytesSource(image()[512:]), PATH)


@pytest.mark.parametrize(
    "changes",
    [
        {"unique_id": "x"},
        {"time_stamp": -1},
        {"time_stamp": 1 << 32},
        {"creator_application": "ä"},
        {"creator_version": (0, 65536)},
        {"geometry": (0, 0, 256)},
        {"original_size": 1 << 64},
        {"saved_state": 256},
    ],
    ids=str,
)
def test_forged_records(changes: dict[str, object]) -> None:
    with pytest.raises(MismatchError):
        LAYER.wrap(BytesSource(b"x"), msgspec.structs.replace(RECORD, **changes))


def test_no_flip_gets_through() -> None:
    order = random.Random(1)
    outcomes = {"refused": 0, "exact": 0}
    for _ in range(3000):
        data = bytearray(image())
        for _ in range(order.choice([1, 1, 4])):
            data[1024 + order.randrange(order.choice([90, 512]))] = order.choice(
                [0, 1, 0x80, 0xFF, order.randrange(256)]
            )
        damaged = bytes(data)
        if order.random() < 0.8:
            damaged = with_field("cookie", damaged[1024:1032], damaged)
        try:
            exact(LAYER, BytesSource(damaged))
            outcomes["exact"] += 1
        except RehydratorError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes
