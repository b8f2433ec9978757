"""Tables of compressed sizes: kept where they save much time for their bytes; without one a file comes back as well."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard

from rehydrator.codecs import deflate, zstd
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.layers import size_table
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.vmdk import VmdkLayer
from tests.support.cli import fine
from tests.support.compressible import compressible
from tests.support.containers import convert
from tests.support.disks import MIB, metal_disk, sibling
from tests.support.releases import ReleaseMaker

VMDK = ("vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic,compat6")
# words for qemu-img, and whether the table is kept
KINDS: dict[str, tuple[VmdkLayer | Qcow2Layer, tuple[str, ...], bool]] = {
    "vmdk": (VmdkLayer(), VMDK, True),
    "qcow2": (Qcow2Layer(), ("qcow2", "-c"), True),
    "qcow2 of 4 KiB": (Qcow2Layer(), ("qcow2", "-c", "-o", "cluster_size=4k"), False),
}


def test_a_second_is_worth_so_many_bytes() -> None:
    table = random.Random(1).randbytes(100_000)
    size = len(zstandard.ZstdCompressor(level=19).compress(table))
    seconds = size / size_table.BYTES_PER_SECOND
    assert size_table.is_worth_keeping(table, seconds)
    assert not size_table.is_worth_keeping(table, seconds * 0.99)
    assert not size_table.is_worth_keeping(b"", 0)


def test_what_compressing_takes_is_the_same_on_every_machine() -> None:
    speeds = [deflate.parse(name).speed for name in ("zlib-6", "zlib-ng-2.3-6")] + [zstd.encoder(zstd.DEFAULT).speed]
    assert speeds == sorted(speeds)
    assert 10 < speeds[0] < speeds[-1] < 1000


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_the_choice(need: Callable[..., None], tmp_path: Path, kind: str) -> None:
    """Both ways the file comes back; the record without a table is small."""
    need("qemu-img")
    layer, words, kept = KINDS[kind]
    disk = compressible(1, 12 * MIB)
    (tmp_path / "raw").write_bytes(disk)
    image = convert(tmp_path / "raw", tmp_path / "image", *words)
    with FileSource(image) as outer:
        unwrapped = layer.unwrap(outer, image)
    assert len(unwrapped.tables) == kept
    tables: tuple[bytes, ...]
    for tables in {unwrapped.tables, ()}:
        again = layer.wrap(BytesSource(disk), unwrapped.record, tables)
        assert bytes(again.read(0, again.size)) == image.read_bytes()
    assert len(zstandard.ZstdCompressor(level=19).compress(msgspec.json.encode(unwrapped.record))) <= 2 << 10
    told = msgspec.structs.replace(unwrapped.record, tables=["x"] * len(unwrapped.tables))
    assert layer.describe(told).endswith("their sizes in a table" if kept else "their sizes by compressing first")


@pytest.mark.oracle
@pytest.mark.parametrize("worth", [0, 1 << 30])
def test_info_tells_which(
    need: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worth: int
) -> None:
    """A store without a table rehydrates to a pipe as well."""
    need("qemu-img")
    monkeypatch.setattr(size_table, "BYTES_PER_SECOND", worth)
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal_disk())
    (tmp_path / "raw").write_bytes(sibling(metal_disk(), 3))
    image = convert(tmp_path / "raw", tmp_path / "image", *VMDK).read_bytes()
    maker.add("aws", "vmdk.xz", image)
    fine("build", "dehydrate", maker.finish(), tmp_path / "store", "--level", "1")
    words = "their sizes in a table" if worth else "their sizes by compressing first"
    assert words in " ".join(fine("info", "aws", "--store", tmp_path / "store").text.split())
    assert fine("rehydrate", "-", "--disk", "aws", "--store", tmp_path / "store").out == image


@pytest.mark.parametrize("width", [1, 2, 3])
def test_tables_come_back(width: int) -> None:
    source = random.Random(width)
    sizes = array("I", (source.randrange(1 << 8 * width) for _ in range(1000)))
    table = size_table.pack(sizes, width)
    assert len(table) == 1000 * width
    assert size_table.parse(table, 1000, width) == sizes
