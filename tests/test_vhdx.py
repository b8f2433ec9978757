"""The VHDX layer on files that the real qemu-img wrote: exact both ways, read by others, damage named, lies refused."""

from __future__ import annotations

import importlib
import random
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.layers import c_vhdx as c
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.table import format_of
from rehydrator.layers.vhdx import VhdxLayer
from rehydrator.layers.vhdx_record import LOG_REST, Geometry, LogRest, VhdxHeader, VhdxRecord
from rehydrator.layers.vhdx_tables import sealed
from tests.support.containers import PATH, check_complete, convert, exact, patched, same, sparse_raw, write_source
from tests.support.disks import MIB, random_sparse

LAYER = VhdxLayer()
GUID = str(uuid.UUID(int=7))


def record_of(allocated: int, **changes: object) -> VhdxRecord:
    """A record for a disk with that many allocated blocks of 1 MiB."""
    log = [str(uuid.UUID(int=number)) for number in range(allocated)]
    headers = (VhdxHeader(4, GUID, GUID), VhdxHeader(5, GUID, str(uuid.UUID(int=8))))
    record = VhdxRecord("a test", headers, GUID, log, block_size=MIB)
    return msgspec.structs.replace(record, **changes)


# size of the disk, number of scattered pieces, options of qemu-img
CASES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "one-sector": (512, 1, ()),
    "odd-size": (300 * MIB + 3584, 40, ()),
    "two-gib": (2049 * MIB, 20, ()),
    "large-blocks": ((101 << 30) + 512, 5, ()),
    "full-ring": (300 * MIB, 2000, ("-o", "block_size=1M")),
    "several-pages": (1500 * MIB, 700, ("-o", "block_size=1M,log_size=2M")),
    "not-present": (50 * MIB, 3, ("-o", "block_size=1M,block_state_zero=off")),
    "all-allocated": (50 * MIB, 3, ("-S", "0")),
}


def real_image(tmp_path: Path, case: str) -> tuple[Path, Path]:
    size, count, options = CASES[case]
    order = random.Random(case)
    pieces = {order.randrange(size // 512) * 512: order.randbytes(512) for _ in range(count)}
    raw = sparse_raw(tmp_path / "raw", size, pieces)
    return raw, convert(raw, tmp_path / "image.vhdx", "vhdx", *options)


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_real_images(need: Callable[..., None], tmp_path: Path, case: str) -> None:
    need("qemu-img")
    raw, image = real_image(tmp_path, case)
    with FileSource(image) as outer, FileSource(raw) as disk:
        found = format_of(outer)
        assert found is not None
        assert found.name == "vhdx"
        record, inner = exact(LAYER, outer)
        assert same(inner, disk)
        assert inner.nonzero() == disk.nonzero()
    assert record.log_order == record.log_ends == []
    if case not in ("one-sector", "all-allocated"):
        assert record.blocks == "nonzero"
    # some 19 bytes for each GUID, of which 16 are random
    assert len(zstandard.compress(msgspec.json.encode(record), 19)) < 300 + 20 * len(record.log)
    assert LAYER.describe(record).startswith(f"vhdx, {record.block_size // MIB} MiB blocks, ")


@pytest.mark.oracle
def test_out_of_order_writes(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    order = random.Random(5)
    raw = sparse_raw(tmp_path / "raw", 400 * MIB, {at * MIB: order.randbytes(9000) for at in range(0, 400, 2)})
    image = convert(raw, tmp_path / "image.vhdx", "vhdx", "-W", "-m", "16", "-o", "block_size=1M")
    with FileSource(image) as outer, FileSource(raw) as disk:
        record, inner = exact(LAYER, outer)
        assert same(inner, disk)
    if record.blocks != "nonzero":  # as threads happened to run
        assert "explicit block order" in LAYER.describe(record)


@pytest.mark.oracle
def test_other_readers_agree(need: Callable[..., None], tmp_path: Path) -> None:
    need("qemu-img")
    pyvhdi = importlib.import_module("pyvhdi")
    disk = random_sparse(3, 70 * MIB, 0.01, MIB)
    wrapped = LAYER.wrap(BytesSource(disk), record_of(len(disk) // MIB - disk_zeros(disk)))
    image, raw = write_source(wrapped, tmp_path / "image.vhdx"), tmp_path / "raw"
    raw.write_bytes(disk)
    subprocess.run(["qemu-img", "check", image], check=True, capture_output=True)
    subprocess.run(["qemu-img", "compare", raw, image], check=True, capture_output=True)
    reader = pyvhdi.file()
    reader.open(str(image))
    assert reader.get_media_size() == len(disk)
    assert reader.read_buffer_at_offset(len(disk), 0) == disk
    reader.close()


def disk_zeros(disk: bytes) -> int:
    return sum(not any(disk[at : at + MIB]) for at in range(0, len(disk), MIB))


@settings(max_examples=25)
@given(st.data())
def test_any_record(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12 * MIB))
    blocks = -(-size // MIB)
    chosen = data.draw(st.lists(st.integers(0, blocks - 1), min_size=1, unique=True))
    pieces = {number * MIB + data.draw(st.integers(0, MIB - 1)) for number in chosen}
    disk = Overlay(BytesSource(bytes(size)))
    for at in pieces:
        disk.write(min(at, size - 1), b"x")
    order = data.draw(st.permutations(range(len(chosen))))
    record = record_of(
        len(chosen),
        creator=data.draw(st.text("abc äλ", max_size=20)),
        blocks=[BlockRun(number, 1) for number in chosen],
        log_order=order,
        log_ends=data.draw(st.lists(st.integers(0, blocks), min_size=len(chosen), max_size=len(chosen))),
        absent_state=data.draw(st.sampled_from([0, 1, 2, 3, 5])) if len(chosen) < blocks else 2,
        log_length=data.draw(st.sampled_from([MIB, 3 * MIB])),
        logical_sector_size=data.draw(st.sampled_from([512, 4096])),
    )
    wrapped = LAYER.wrap(disk, record)
    found, inner = exact(LAYER, wrapped)
    assert found.log == record.log
    assert found.absent_state == record.absent_state
    assert same(inner, disk)


# -- damage

DISK = b"x" * MIB + bytes(2 * MIB) + b"y" * 1000
IMAGE = LAYER.wrap(BytesSource(DISK), record_of(2))
GEOMETRY = Geometry(record_of(2), len(DISK))
BAT, METADATA = GEOMETRY.bat_offset, GEOMETRY.metadata_offset
HEADER_1, HEADER_2 = c.HEADER_OFFSETS
ITEMS = METADATA + c.METADATA_TABLE_SIZE
BLOCK_1 = GEOMETRY.block_offset(1)


def resealed(offset: int, length: int, at: int, patch: bytes) -> Overlay:
    """The image with other bytes in a structure and a right checksum on top."""
    data = bytearray(IMAGE.read(offset, length))
    data[at : at + len(patch)] = patch
    return patched(IMAGE, offset, sealed(bytes(data)))


def in_header(name: str, patch: bytes) -> Overlay:
    return resealed(HEADER_1, c.HEADER_SIZE, c.Header.offset_of(name), patch)


def in_regions(entry: int, name: str, patch: bytes) -> Overlay:
    at = c.RegionTableHeader.SIZE + entry * c.RegionTableEntry.SIZE + c.RegionTableEntry.offset_of(name)
    image = resealed(c.REGION_TABLE_OFFSETS[0], c.REGION_TABLE_SIZE, at, patch)
    image.write(c.REGION_TABLE_OFFSETS[1], bytes(image.read(c.REGION_TABLE_OFFSETS[0], c.REGION_TABLE_SIZE)))
    return image


def in_items(entry: int, name: str, patch: bytes) -> Overlay:
    at = c.MetadataTableHeader.SIZE + entry * c.MetadataTableEntry.SIZE + c.MetadataTableEntry.offset_of(name)
    return patched(IMAGE, METADATA + at, patch)


def bat(index: int, value: int) -> Overlay:
    return patched(IMAGE, BAT + index * c.BAT_ENTRY_SIZE, value.to_bytes(8, "little"))


DAMAGE: dict[str, tuple[Callable[[], Source], type[RehydratorError], str, int | None]] = {
    "signature": (lambda: patched(IMAGE, 0, b"vhdxfilE"), CorruptError, "VHDX Signature", 0),
    "header signature": (lambda: patched(IMAGE, HEADER_2, b"HEAD"), CorruptError, "header 2 Signature", HEADER_2),
    "header checksum": (lambda: patched(IMAGE, HEADER_1 + 99, b"!"), CorruptError, "header 1 Checksum", HEADER_1 + 4),
    "version": (lambda: in_header("Version", b"\2\0"), UnsupportedError, "unknown VHDX version", HEADER_1 + 66),
    "dirty log": (lambda: in_header("LogGuid", b"\1"), UnsupportedError, "must be replayed", HEADER_1 + 48),
    "log length": (lambda: in_header("LogLength", b"\1"), CorruptError, "header 1 LogOffset", HEADER_1 + 72),
    "log past the end": (lambda: in_header("LogOffset", b"\0\0\0\1"), CorruptError, "LogOffset", HEADER_1 + 72),
    "region checksum": (lambda: patched(IMAGE, 256 * 1024 + 40, b"!"), CorruptError, "region table Checksum", 0x40004),
    "unknown region": (lambda: in_regions(0, "Guid", b"!"), UnsupportedError, "unknown region", 0x30010),
    "region past the end": (
        lambda: in_regions(0, "FileOffset", b"\0\0\0\1"),
        CorruptError,
        "region FileOffset",
        0x30020,
    ),
    "regions overlap": (
        lambda: in_regions(1, "FileOffset", BAT.to_bytes(8, "little")),
        CorruptError,
        "regions overlap",
        BAT,
    ),
    "region on the log": (
        lambda: in_regions(1, "FileOffset", MIB.to_bytes(8, "little")),
        CorruptError,
        "regions overlap",
        MIB,
    ),
    "no metadata": (lambda: in_regions(1, "Guid", c.BAT_REGION.bytes_le), CorruptError, "region table", 0x30000),
    "metadata": (lambda: patched(IMAGE, METADATA, b"M"), CorruptError, "metadata Signature", METADATA),
    "item count": (lambda: patched(IMAGE, METADATA + 10, b"\xff\xff"), CorruptError, "EntryCount", METADATA + 10),
    "parent": (lambda: in_items(4, "ItemId", c.PARENT_LOCATOR.bytes_le), UnsupportedError, "with a parent", None),
    "has parent": (lambda: patched(IMAGE, ITEMS + 4, b"\2"), UnsupportedError, "with a parent", ITEMS + 4),
    "fixed": (lambda: patched(IMAGE, ITEMS + 4, b"\1"), UnsupportedError, "fixed VHDX", ITEMS + 4),
    "item past the end": (
        lambda: in_items(1, "Offset", b"\xff\xff\xff\xff"),
        CorruptError,
        "metadata item Offset",
        METADATA + 80,
    ),
    "item too long": (lambda: in_items(2, "Length", b"\x20"), CorruptError, "metadata item beca12ab", METADATA),
    "block size": (lambda: patched(IMAGE, ITEMS, b"\1"), CorruptError, "BlockSize", ITEMS),
    "disk size": (lambda: patched(IMAGE, ITEMS + 8 + 7, b"\1"), CorruptError, "VirtualDiskSize", ITEMS + 8),
    "larger disk": (
        lambda: patched(IMAGE, ITEMS + 8, (1 << 43).to_bytes(8, "little")),
        UnsupportedError,
        "huge block alloc",
        None,
    ),
    "table too small": (
        lambda: patched(IMAGE, ITEMS + 8, (1 << 38).to_bytes(8, "little")),
        CorruptError,
        "BAT region Length",
        BAT,
    ),
    "sector size": (lambda: patched(IMAGE, ITEMS + 32, b"\1"), CorruptError, "LogicalSectorSize", ITEMS + 32),
    "block in the header": (lambda: bat(0, 6), CorruptError, "BAT entry", BAT),
    "block past the end": (lambda: bat(0, 1 << 40 | 6), CorruptError, "BAT entry", BAT),
    "block used twice": (lambda: bat(0, BLOCK_1 | 6), CorruptError, "BAT entry", None),
    "partially present": (lambda: bat(1, 7), UnsupportedError, "partially present", BAT + 8),
    "several states": (lambda: bat(1, 3), UnsupportedError, "several kinds of absent", None),
    "reserved bits": (lambda: bat(1, 2 | 1 << 10), UnsupportedError, "not be written back exactly", BAT + 9),
    "log checksum": (lambda: patched(IMAGE, MIB + 100, b"!"), CorruptError, "log entry Checksum", MIB + 4),
    "lost entry": (lambda: patched(IMAGE, MIB, bytes(4)), UnsupportedError, "one per block|written back", None),
    "foreign entry": (
        lambda: resealed(MIB, 8192, 16, b"\x09"),
        UnsupportedError,
        "other entries than one per block",
        MIB,
    ),
    "entry about nothing": (
        lambda: resealed(MIB + 8192, 8192, 4096 + 24, bytes(8)),
        UnsupportedError,
        "not about one block",
        MIB + 8192,
    ),
    "garbage in a gap": (lambda: patched(IMAGE, METADATA + 2 * MIB, b"!"), UnsupportedError, "written back", None),
    "data past the disk": (
        lambda: patched(IMAGE, BLOCK_1 + 1000, b"!"),
        UnsupportedError,
        "written back",
        BLOCK_1 + 1000,
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str) -> None:
    make, kind, words, offset = DAMAGE[case]
    with pytest.raises(kind, match=words) as caught:
        LAYER.unwrap(make(), PATH)
    check_complete(caught.value, PATH)
    if offset is not None:
        assert caught.value.offset == offset


@pytest.mark.parametrize("size", [8, 65536, MIB, 2 * MIB, 8 * MIB, 9 * MIB])
def test_truncated(size: int) -> None:
    data = bytes(IMAGE.read(0, size))
    with pytest.raises(CorruptError):
        LAYER.unwrap(BytesSource(data), PATH)


FORGERIES: dict[str, dict[str, Any]] = {
    "block size": {"block_size": MIB + 1},
    "no block size": {"block_size": 0},
    "tiny blocks": {"block_size": 512},
    "log length": {"log_length": 1},
    "huge log": {"log_length": 1 << 40},
    "sector size": {"logical_sector_size": 0},
    "blocks past the end": {"blocks": [BlockRun(0, 1), BlockRun(4, 1)]},
    "huge run": {"blocks": [BlockRun(0, 1 << 60)]},
    "negative run": {"blocks": [BlockRun(-1, 1)]},
    "block twice": {"blocks": [BlockRun(0, 1), BlockRun(0, 1)]},
    "too few blocks": {"blocks": [BlockRun(0, 1)]},
    "log of others": {"log_order": [0, 7]},
    "log of one": {"log_order": [1, 1]},
    "ends": {"log_ends": [0, 1 << 70]},
    "short ends": {"log_ends": [1]},
    "rest of another entry": {"log_rest": [LogRest(2, b"x")]},
    "long rest": {"log_rest": [LogRest(0, bytes(LOG_REST + 1))]},
    "state": {"absent_state": 9},
    "guid": {"virtual_disk_id": "x"},
    "log guid": {"log": ["x", "y"]},
    "sequence": {"headers": (VhdxHeader(-1, GUID, GUID), VhdxHeader(0, GUID, GUID))},
    "header guid": {"headers": (VhdxHeader(1, "?", GUID), VhdxHeader(0, GUID, GUID))},
    "creator": {"creator": "x" * 300},
    "creator surrogate": {"creator": "\ud800"},
    "physical": {"physical_sector_size": 1 << 32},
}


@pytest.mark.parametrize("rest", [b"\x21", bytes(LOG_REST - 1) + b"x"])
def test_what_qemu_leaves_behind_a_descriptor_comes_back(rest: bytes) -> None:
    """Its buffer is not cleared, so that a sector of the log may end in whatever the memory held before."""
    record = msgspec.structs.replace(record_of(2), log_rest=[LogRest(1, rest)])
    wrapped = LAYER.wrap(BytesSource(DISK), record)
    data = bytes(wrapped.read(0, wrapped.size))
    assert rest in data
    assert LAYER.unwrap(BytesSource(data), Path("x")).record.log_rest == record.log_rest
    assert LAYER.describe(record).endswith(f", {len(rest):,} literal bytes in its log")


@pytest.mark.parametrize("case", FORGERIES)
def test_forged_records(case: str) -> None:
    with pytest.raises(MismatchError):
        LAYER.wrap(BytesSource(DISK), msgspec.structs.replace(record_of(2), **FORGERIES[case]))
