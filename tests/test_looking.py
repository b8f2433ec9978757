"""Containers opened for reading only: the right disk, no encoder, and no more decompressed than is read."""

from __future__ import annotations

import lzma
import os
import random
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.on_demand import OnDemand, Section
from rehydrator.disk.source import FileSource
from rehydrator.errors import CorruptError
from rehydrator.explain.peel import opened
from rehydrator.layers.table import format_of
from rehydrator.layers.vmdk import VmdkLayer
from tests.support.disks import MIB, metal_disk
from tests.support.explaining import compare_files

QEMU_IMG: dict[str, tuple[str, ...]] = {
    "qcow2": ("-O", "qcow2"),
    "compressed.qcow2": ("-c", "-O", "qcow2"),
    "vmdk": ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    "vhd": ("-O", "vpc", "-o", "subformat=fixed,force_size"),
    "dynamic.vhd": ("-O", "vpc", "-o", "force_size"),
    "vhdx": ("-O", "vhdx", "-o", "block_size=1M"),
}
COMPRESSORS = {"gz": ["gzip", "-6"], "xz": ["xz", "-0"], "zip": ["zip", "-q", "-6", "-", "-"]}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("looking") / "disk.raw"
    path.write_bytes(metal_disk())
    return path


@pytest.fixture
def no_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something looked for an encoder")

    for name in ("gzip.matching", "zip.matching", "xz.lzma2.encoder", "vmdk.find_encoder", "qcow2.find_encoder"):
        monkeypatch.setattr(f"rehydrator.layers.{name}", refuse)


def check_content(path: Path, disk: Path) -> None:
    with opened(path) as side:
        assert side.obstacle is None
        assert bytes(side.disk.read(0, side.disk.size)) == disk.read_bytes()


@pytest.mark.oracle
@pytest.mark.parametrize("kind", QEMU_IMG)
def test_containers(need: Callable[..., None], no_encoders: None, disk: Path, tmp_path: Path, kind: str) -> None:
    need("qemu-img")
    image = tmp_path / f"disk.{kind}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", *QEMU_IMG[kind], disk, image], check=True)
    check_content(image, disk)


@pytest.mark.oracle
@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressions(need: Callable[..., None], no_encoders: None, disk: Path, tmp_path: Path, suffix: str) -> None:
    need(COMPRESSORS[suffix][0])
    image = tmp_path / f"disk.raw.{suffix}"
    done = subprocess.run(COMPRESSORS[suffix], input=disk.read_bytes(), check=True, capture_output=True)
    image.write_bytes(done.stdout)
    check_content(image, disk)
    inner = tmp_path / "inner.tar"  # the same as a container below another one
    subprocess.run(["tar", "-cf", inner, "-C", tmp_path, image.name], check=True)
    check_content(inner, disk)


@pytest.mark.oracle
def test_blocks_of_a_size_that_is_no_multiple_of_4096(need: Callable[..., None], disk: Path, tmp_path: Path) -> None:
    need("xz")
    content = disk.read_bytes()
    for size in (1_000_001, MIB):
        image = tmp_path / f"{size}.raw.xz"
        done = subprocess.run(
            ["xz", "-0c", f"--block-size={size}"], input=content, check=True, capture_output=True
        ).stdout
        image.write_bytes(done)
        check_content(image, disk)


def test_streams_one_behind_the_other(disk: Path, tmp_path: Path) -> None:
    image, content = tmp_path / "two.raw.xz", disk.read_bytes()
    image.write_bytes(lzma.compress(content[:CHUNK]) + lzma.compress(content[CHUNK:]))
    check_content(image, disk)


@pytest.mark.oracle
def test_explain_finds_the_encoder_only_where_it_is_compared(
    need: Callable[..., None], monkeypatch: pytest.MonkeyPatch, disk: Path, tmp_path: Path
) -> None:
    need("qemu-img")
    image, again = tmp_path / "one.vmdk", tmp_path / "two.vmdk"
    subprocess.run(["qemu-img", "convert", *QEMU_IMG["vmdk"], disk, image], check=True)
    again.write_bytes(image.read_bytes())
    proven: list[Path] = []
    unwrap = VmdkLayer.unwrap

    def counted(layer: VmdkLayer, outer: FileSource, path: Path) -> object:
        proven.append(path)
        return unwrap(layer, outer, path)

    monkeypatch.setattr(VmdkLayer, "unwrap", counted)
    assert compare_files(disk, image).identical
    assert not proven
    assert compare_files(image, again).identical
    assert len(proven) == 2


# -- content that is made on demand


class Counted:
    """Sections of 2 MiB; ``made`` counts the pieces of each."""

    def __init__(self, count: int, broken: int = -1) -> None:
        self.made = [0] * count
        self.content = OnDemand([self._section(number, broken) for number in range(count)], "x")

    def _section(self, number: int, broken: int) -> Section:
        def pieces() -> Iterator[Data]:
            for _ in range(2):
                if number == broken and self.made[number]:
                    raise CorruptError("broken")
                self.made[number] += 1
                yield bytes([number]) * MIB

        return Section(number * 2 * MIB, 2 * MIB, pieces)


@pytest.fixture
def processors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many processors the program believes to have."""
    count: int = request.param
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(count)))
    return count


ALONE = pytest.mark.parametrize("processors", [1], indirect=True)
TOGETHER = pytest.mark.parametrize("processors", [2], indirect=True)


@ALONE
@pytest.mark.usefixtures("processors")
def test_only_what_is_read_is_made() -> None:
    counted = Counted(4)
    assert counted.content.read(5 * MIB, 10) == b"\2" * 10
    assert counted.made == [0, 0, 2, 0]
    assert counted.content.read(2 * MIB - 3, 6) == b"\0\0\0\1\1\1"
    assert counted.made == [2, 1, 2, 0]


@ALONE
@pytest.mark.usefixtures("processors")
def test_no_more_than_two_sections_are_left_half_made() -> None:
    counted = Counted(5)
    for number in range(5):
        counted.content.read(number * 2 * MIB, 1)
    assert counted.made == [2, 2, 2, 1, 1]


def made_ahead(counted: Counted) -> list[int]:
    """What was made when nothing is left that was begun."""
    if counted.content._ahead is not None:
        counted.content._ahead.join()
    return counted.made


@TOGETHER
@pytest.mark.usefixtures("processors")
def test_what_was_begun_is_made_ahead() -> None:
    counted = Counted(4)
    assert counted.content.read(4 * MIB, 10) == b"\2" * 10
    assert made_ahead(counted) == [0, 0, 2, 0]
    assert counted.content.read(2 * MIB - 3, 6) == b"\0\0\0\1\1\1"
    assert made_ahead(counted) == [2, 2, 2, 0]
    assert counted.content.nonzero().total == 6 * MIB
    assert counted.made == [2, 2, 2, 2], "each piece once"


@TOGETHER
@pytest.mark.usefixtures("processors")
def test_damage_that_was_made_ahead_is_told_to_who_reads_it() -> None:
    counted = Counted(3, broken=1)
    assert counted.content.read(2 * MIB, 10) == b"\1" * 10
    assert made_ahead(counted) == [0, 1, 0]
    assert counted.content.read(2 * MIB, MIB) == b"\1" * MIB
    with pytest.raises(CorruptError, match="broken"):
        counted.content.read(3 * MIB, 1)
    with pytest.raises(CorruptError, match="broken"):
        counted.content.nonzero()


@TOGETHER
@pytest.mark.usefixtures("processors")
def test_nothing_is_made_for_nobody() -> None:
    going_on = threading.Event()
    ended: list[bool] = []

    def pieces() -> Iterator[Data]:
        for number in range(1000):
            yield bytes(MIB)
            if number:
                going_on.set()

    content = OnDemand([Section(0, 1000 * MIB, pieces)], "x")
    content.read(0, 1)
    thread = content._ahead
    assert thread is not None
    assert going_on.wait(60)
    ended.append(thread.is_alive())
    content.close()
    assert not thread.is_alive()
    content = OnDemand([Section(0, 1000 * MIB, pieces)], "x")
    content.read(0, 1)
    thread = content._ahead
    assert thread is not None
    del content
    thread.join(60)
    assert not thread.is_alive()
    assert ended == [True]


@TOGETHER
@pytest.mark.usefixtures("processors")
def test_what_is_being_read_is_left_to_its_reader() -> None:
    """The thread would take the section's lock again and again, and the reader would wait until all of it is made."""
    left: list[bool] = []

    def pieces() -> Iterator[Data]:
        other = threading.Thread(target=lambda: left.append(content.one_step_ahead()), daemon=True)
        other.start()
        other.join(5)  # or for ever, where it waits for this very piece
        yield bytes(2 * MIB)

    content = OnDemand([Section(0, 2 * MIB, pieces)], "x")
    assert content.read(0, 1) == b"\0"
    assert left == [False]
    content.close()


@TOGETHER
@pytest.mark.usefixtures("processors")
def test_several_readers() -> None:
    counted = Counted(6)
    order = random.Random(3)
    places = [order.randrange(12 * MIB - 9) for _ in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda at: counted.content.read(at, 9), places))
    assert found == [bytes((at + step) // (2 * MIB) for step in range(9)) for at in places]
    assert max(counted.made) == 2


def test_damage_is_told_each_time() -> None:
    counted = Counted(3, broken=1)
    assert counted.content.read(2 * MIB, MIB) == b"\1" * MIB
    for _ in range(2):
        with pytest.raises(CorruptError, match="broken"):
            counted.content.read(3 * MIB, 1)
    assert counted.content.read(4 * MIB, 1) == b"\2"


@pytest.mark.parametrize("size", [MIB, 3 * MIB])
def test_headers_that_lie_about_the_size(size: int) -> None:
    content = OnDemand([Section(0, 2 * MIB, lambda: iter([b"x" * size]))], "x")
    with pytest.raises(CorruptError, match="than its headers say"):
        content.read(0, 2 * MIB)


def test_the_map_is_that_of_the_content() -> None:
    content = Counted(3).content
    assert [tuple(extent) for extent in content.extents()] == [(2 * MIB, 4 * MIB)]


def test_a_layer_looks_at_what_it_could_not_write(tmp_path: Path) -> None:
    """One deflate stream that no encoder writes: all of it in stored blocks of one byte."""
    packed = b"".join(b"\0\1\0\xfe\xff" + bytes([byte]) for byte in b"some content") + b"\3\0"
    image = tmp_path / "x.gz"
    crc_and_size = zlib.crc32(b"some content").to_bytes(4, "little") + (12).to_bytes(4, "little")
    image.write_bytes(bytes.fromhex("1f8b0800000000000003") + packed + crc_and_size)
    with FileSource(image) as outer:
        found = format_of(outer)
        assert found is not None
        looked = found.layer.look(outer, image)
        assert bytes(looked.inner.read(0, looked.inner.size)) == b"some content"
        assert found.layer.describe(looked.record) == "gzip"
