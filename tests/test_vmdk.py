"""The VMDK layer on files that the real qemu-img wrote: exact both ways, or refused by name."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.codecs.deflate import encoder
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.c_vmdk import SECTOR
from rehydrator.layers.table import format_of
from rehydrator.layers.vmdk import VmdkLayer
from rehydrator.layers.vmdk_record import VmdkRecord
from tests.support.disks import MIB, random_sparse

LAYER = VmdkLayer()
GRAIN = 65536
COMPAT6 = ["-o", "adapter_type=lsilogic,compat6"]


def convert(raw: Path, image: Path, *options: str) -> None:
    kind = ["-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run(["qemu-img", "convert", *kind, *options, raw, image], check=True, capture_output=True)


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def round_trip(path: Path) -> tuple[VmdkRecord, bytes]:
    """Unwrap and wrap the image at ``path``, through the record's JSON; compare; return record and disk."""
    with FileSource(path) as outer:
        found = format_of(outer)
        assert found is not None
        assert found.name == "vmdk"
        unwrapped = LAYER.unwrap(outer, path)
        record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=VmdkRecord)
        disk = content(unwrapped.inner)
        wrapped = LAYER.wrap(BytesSource(disk), record, unwrapped.tables)
        assert content(wrapped) == path.read_bytes()
        without_sizes = unwrapped.tables[1:]
        assert content(LAYER.wrap(BytesSource(disk), record, without_sizes)) == path.read_bytes()
        assert unwrapped.inner.nonzero() == BytesSource(disk).nonzero()
    return record, disk


CASES: dict[str, tuple[int, float, list[str]]] = {
    # name: disk size, share of blocks with data, options of qemu-img convert
    "plain": (9 * MIB, 0.05, []),
    "lsilogic compat6": (9 * MIB, 0.05, COMPAT6),
    "empty": (3 * MIB, 0.0, []),
    "full": (3 * MIB, 1.0, COMPAT6),
    "odd size": (3 * MIB + 1536, 0.9, []),
    "one sector": (512, 1.0, []),
    "one grain": (GRAIN, 1.0, []),
    "several tables": (70 * MIB, 0.01, COMPAT6),
    "zeros allocated": (5 * MIB, 0.1, ["-S", "0"]),
}


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_real_images(need: Callable[..., None], tmp_path: Path, case: str) -> None:
    need("qemu-img")
    size, density, options = CASES[case]
    raw, image = tmp_path / "raw", tmp_path / "vmdk"
    raw.write_bytes(random_sparse(len(case), size, density))
    convert(raw, image, *options)
    record, disk = round_trip(image)
    assert disk == raw.read_bytes()
    assert record.deflate == "zlib-6"
    assert record.gd_offset == "after_rgd"
    assert record.overhead == "aligned"
    assert record.padding == "whole_grain"


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(3))
def test_compressible_images(need: Callable[..., None], tmp_path: Path, seed: int) -> None:
    need("qemu-img")
    raw, image = tmp_path / "raw", tmp_path / "vmdk"
    source = random.Random(seed)
    words = [source.randbytes(source.randrange(2, 30)) for _ in range(300)]
    disk = bytearray(6 * MIB + 512 * seed)
    for _ in range(6):
        at = source.randrange(5 * MIB)
        piece = b"".join(source.choices(words, k=source.randrange(20_000)))
        disk[at : at + len(piece)] = piece[: len(disk) - at]
    raw.write_bytes(disk)
    convert(raw, image, *(COMPAT6 if seed else []))
    record, found = round_trip(image)
    assert found == disk
    assert record.grains == "nonzero"
    assert len(msgspec.json.encode(record)) < 600


@pytest.mark.oracle
def test_more_than_4_gib(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    raw, image = tmp_path / "raw", tmp_path / "vmdk"
    with raw.open("wb") as stream:
        for at in (0, 1 << 31, (1 << 32) - 512, (5 << 30) - 70_000):
            stream.seek(at)
            stream.write(random.Random(at).randbytes(70_000))
    convert(raw, image, *COMPAT6)
    with FileSource(image) as outer, FileSource(raw) as disk:
        unwrapped = LAYER.unwrap(outer, image)
        assert unwrapped.inner.size == 5 << 30
        assert content(LAYER.wrap(disk, unwrapped.record, unwrapped.tables)) == image.read_bytes()
        assert unwrapped.record.grains == "nonzero"
    assert len(unwrapped.tables[0]) == 9


@pytest.mark.oracle
def test_grains_out_of_order(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    raw, image = tmp_path / "raw", tmp_path / "vmdk"
    raw.write_bytes(random_sparse(21, 24 * MIB, 0.3, GRAIN))
    convert(raw, image, "-W", "-m", "8")
    assert round_trip(image)[1] == raw.read_bytes()


def made(disk: bytes, **changes: object) -> bytes:
    """Return a VMDK made by this program, with the sizes that its grains need."""
    record = msgspec.structs.replace(VmdkRecord(["# made by a test", ""], "zlib-6"), **changes)
    grains: list[int] = []
    if record.grains == "nonzero":
        grains = [at // GRAIN for at in range(0, len(disk), GRAIN) if any(disk[at : at + GRAIN])]
    else:
        grains = [at for run in record.grains for at in range(run.start, run.start + run.count)]
    packed = [encoder(record.deflate).compress(disk[at * GRAIN : (at + 1) * GRAIN]) or b"" for at in grains]
    table = bytes(-(-(12 + len(item)) // SECTOR) for item in packed)
    return content(LAYER.wrap(BytesSource(disk), record, [table]))


def exact(data: bytes) -> VmdkRecord:
    unwrapped = LAYER.unwrap(BytesSource(data), Path("x.vmdk"))
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=VmdkRecord)
    assert content(LAYER.wrap(BytesSource(content(unwrapped.inner)), record, unwrapped.tables)) == data
    return record


@settings(max_examples=25)
@given(st.integers(0, 1 << 30), st.integers(0, 20 * GRAIN // SECTOR), st.sampled_from(["zlib-1", "zlib-6", "zlib-9"]))
def test_any_disk(seed: int, sectors: int, name: str) -> None:
    disk = random_sparse(seed, sectors * SECTOR, 0.1, 4096)
    data = made(disk, deflate=name)
    assert exact(data).grains == "nonzero"


def test_unusual_but_possible_layouts() -> None:
    disk = random_sparse(5, 5 * GRAIN, 1.0)
    unusual = made(
        disk,
        descriptor=["# a", "äöü"],
        version=1,
        descriptor_size=30,
        rgd_offset=40,
        gd_offset=60,
        overhead=70,
        unclean_shutdown=1,
        padding=3,
        grains=[BlockRun(2, 3), BlockRun(0, 2)],
    )
    record = exact(unusual)
    assert (record.gd_offset, record.overhead, record.padding) == (60, 70, 3)
    assert record.grains == [BlockRun(2, 3), BlockRun(0, 2)]
    assert record.descriptor == ["# a", "äöü"]


def test_reads_of_any_piece_of_the_wrapped_file() -> None:
    disk = random_sparse(3, 40 * GRAIN + 1024, 0.2)
    data = made(disk)
    unwrapped = LAYER.unwrap(BytesSource(data), Path("x"))
    wrapped = LAYER.wrap(BytesSource(disk), unwrapped.record, unwrapped.tables)
    order = random.Random(1)
    for _ in range(100):
        at = order.randrange(len(data))
        length = min(order.choice([1, 100, 5000, 300_000]), len(data) - at)
        assert bytes(wrapped.read(at, length)) == data[at : at + length]
        at = order.randrange(len(disk))
        length = min(order.choice([1, 100, 5000, 300_000]), len(disk) - at)
        assert bytes(unwrapped.inner.read(at, length)) == disk[at : at + length]


def test_a_disk_that_does_not_belong_to_the_record() -> None:
    disk = random_sparse(3, 4 * GRAIN, 1.0)
    unwrapped = LAYER.unwrap(BytesSource(made(disk)), Path("x"))
    with pytest.raises(MismatchError, match="does not fit"):
        LAYER.wrap(BytesSource(bytes(GRAIN) + disk[GRAIN:]), unwrapped.record, unwrapped.tables)
    with pytest.raises(MismatchError, match="disk of this size"):
        LAYER.wrap(BytesSource(disk + b"x"), unwrapped.record, unwrapped.tables)
    wrapped = LAYER.wrap(BytesSource(b"a" * len(disk)), unwrapped.record, unwrapped.tables)
    with pytest.raises(MismatchError, match="grain 0 compresses to another size"):
        content(wrapped)


@pytest.mark.parametrize(
    "changes",
    [
        {"rgd_offset": 1 << 40},
        {"rgd_offset": 2},
        {"gd_offset": 21},
        {"gd_offset": -1},
        {"overhead": 1 << 31},
        {"overhead": 20},
        {"descriptor_offset": 0},
        {"descriptor_size": 0},
        {"descriptor_size": -1},
        {"grain_size": 0},
        {"grain_size": 1 << 20},
        {"padding": -1},
        {"padding": 1 << 40},
        {"version": 1 << 32},
        {"flags": -1},
        {"unclean_shutdown": 256},
        {"descriptor": ["x" * 20 * 512, ""]},
        {"grains": [BlockRun(0, 5)]},
        {"grains": [BlockRun(-1, 4)]},
        {"grains": [BlockRun(0, 3), BlockRun(2, 1)]},
        {"grains": [BlockRun(0, 1 << 60)]},
        {"grains": []},
    ],
    ids=str,
)
def test_forged_records(changes: dict[str, object]) -> None:
    disk = random_sparse(3, 4 * GRAIN, 1.0)
    unwrapped = LAYER.unwrap(BytesSource(made(disk)), Path("x"))
    forged = msgspec.structs.replace(unwrapped.record, **changes)
    with pytest.raises(MismatchError):
        LAYER.wrap(BytesSource(disk), forged, unwrapped.tables)
    for tables in ([b""], [b"\0\0\0\0"], [b"\1" * 9]):
        with pytest.raises(MismatchError):
            LAYER.wrap(BytesSource(disk), unwrapped.record, tables)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("subformat", "words"), [("monolithicSparse", "sparse, not streamOptimized"), ("streamOptimized", "")]
)
def test_other_subformats_are_refused_by_name(
    need: Callable[..., None], tmp_path: Path, subformat: str, words: str
) -> None:
    need("qemu-img")
    raw, image = tmp_path / "raw", tmp_path / "vmdk"
    raw.write_bytes(random_sparse(3, 4 * MIB, 0.3))
    convert(raw, image, "-o", f"subformat={subformat}")
    if not words:
        round_trip(image)
        return
    with FileSource(image) as outer, pytest.raises(UnsupportedError, match=words) as caught:
        LAYER.unwrap(outer, image)
    assert caught.value.path == str(image)


def test_description() -> None:
    assert LAYER.describe(VmdkRecord([], "zlib-6")) == (
        "streamOptimized vmdk, 64 KiB grains, grains in guest order, grains by zlib-6, their sizes by compressing first"
    )
