"""VMDKs that were written as a stream, with their directory at the end: read, not written again."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from container_fuzz.vmdk_stream import GRAIN, SECTOR, write_stream
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.explain.peel import take_off
from rehydrator.layers.table import format_of
from rehydrator.layers.vmdk import VmdkLayer
from tests.support.cli import run
from tests.support.containers import check_complete

SIZE = 1100 * GRAIN  # three tables, the one in the middle without grains


@pytest.fixture(scope="module")
def disk() -> bytes:
    choice = random.Random(1)
    content = bytearray(SIZE)
    for grain in (0, 1, 7, 511, 1024, 1099):
        content[grain * GRAIN : (grain + 1) * GRAIN] = choice.randbytes(GRAIN // 2) + bytes(GRAIN // 2)
    return bytes(content)


@pytest.fixture(scope="module")
def stream(disk: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "disk.vmdk"
    write_stream(disk, path)
    return path


def test_the_disk_is_read(stream: Path, disk: bytes) -> None:
    with FileSource(stream) as outer:
        bare = take_off(outer, stream)
        assert bare.obstacle is None
        assert [item.text for item in bare.containers] == [
            "streamOptimized vmdk, 64 KiB grains, grains in guest order, its tables at the end"
        ]
        assert bytes(bare.source.read(0, bare.source.size)) == disk


@pytest.mark.oracle
def test_qemu_reads_the_same(stream: Path, disk: bytes, tmp_path: Path, need: Callable[..., None]) -> None:
    need("qemu-img")
    (tmp_path / "raw").write_bytes(disk)
    subprocess.run(["qemu-img", "compare", "-F", "vmdk", tmp_path / "raw", stream], check=True)


def test_explain_looks_into_it(stream: Path, disk: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(disk)
    done = run("explain", tmp_path / "disk.raw", stream)
    assert done.code == 0, done.out
    assert "hold the same disk; only the container differs" in done.text


def test_the_layer_still_refuses_it(stream: Path) -> None:
    with FileSource(stream) as outer:
        assert format_of(outer) is not None
        with pytest.raises(UnsupportedError, match="which can only be read"):
            VmdkLayer().unwrap(outer, stream)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (-SECTOR, b"\1", "does not end in a footer"),
        (-3 * SECTOR + 12, b"\2", "does not end in a footer"),
        (-2 * SECTOR + 12, b"\0\0\0\1", "VMDK capacity of the footer is another"),
        (-2 * SECTOR + 56, b"\xff\xff\xff\0", "VMDK gdOffset is impossible"),
        (-5 * SECTOR + 512, b"\xff\xff\xff\0", "grain table reaches past the end"),
        (128 * SECTOR, b"\7", "grain marker is of another grain"),
        (128 * SECTOR + 8, b"\0\0\0\0", "grain has an impossible size"),
    ],
    ids=["no end", "no footer", "another capacity", "directory", "table", "marker", "size"],
)
def test_damage_is_told(offset: int, data: bytes, message: str, stream: Path) -> None:
    damaged = bytearray(stream.read_bytes())
    at = offset % len(damaged)
    damaged[at : at + len(data)] = data
    with pytest.raises(CorruptError, match=message) as caught:
        VmdkLayer().look(BytesSource(bytes(damaged)), stream)
    check_complete(caught.value, stream)


@pytest.mark.parametrize("kept", [0, 512, 1024, 5000, 70_000, -512, -1])
def test_a_truncated_file_is_told(kept: int, stream: Path) -> None:
    whole = stream.read_bytes()
    with pytest.raises((CorruptError, UnsupportedError)):
        VmdkLayer().look(BytesSource(whole[:kept]), stream)


def test_flipped_bytes_are_told_or_change_nothing_but_content(stream: Path) -> None:
    whole = stream.read_bytes()
    choice = random.Random(2)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[choice.choice([choice.randrange(4096), choice.randrange(len(whole))])] ^= 1 << choice.randrange(8)
        try:
            inner = VmdkLayer().look(BytesSource(bytes(damaged)), stream).inner
            inner.read(0, 8 * GRAIN)
        except (CorruptError, UnsupportedError):
            continue
        assert inner.size == SIZE
