"""The gzip layer on files that the real gzip and zlib wrote: exact both ways, damage named."""

from __future__ import annotations

import gzip
import random
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.codecs import deflate_stream
from rehydrator.disk.extents import Data
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, StoreDamagedError, UnsupportedError
from rehydrator.layers.gzip import GzipFile, GzipLayer
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.table import format_of
from tests.support.compressible import compressible
from tests.support.containers import check_complete
from tests.support.disks import MIB, random_sparse
from tests.test_deflate import text

LAYER = GzipLayer()
PATH = Path("x.gz")


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def by_program(data: bytes, *options: str) -> bytes:
    return subprocess.run(["gzip", "-c", *options], input=data, check=True, capture_output=True).stdout


def exact(data: bytes) -> tuple[GzipRecord, Source]:
    found = format_of(BytesSource(data))
    assert found is not None
    assert found.name == "gzip"
    unwrapped = LAYER.unwrap(BytesSource(data), PATH)
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=GzipRecord)
    wrapped = LAYER.wrap(BytesSource(content(unwrapped.inner)), record)
    assert content(wrapped) == data
    return record, unwrapped.inner


@pytest.mark.oracle
@pytest.mark.parametrize("options", [["-n9"], ["-n6"], ["-n1"], ["-6"], ["-n4"]], ids=str)
def test_files_of_gnu_gzip(options: list[str]) -> None:
    disk = text(1, 900_000) + random_sparse(1, 3 * MIB + 77, 0.2)
    record, inner = exact(by_program(disk, *options))
    assert content(inner) == disk
    assert inner.nonzero() == BytesSource(disk).nonzero()
    assert record.deflate == f"gzip-{options[0][-1]}"


@pytest.mark.oracle
def test_a_name_and_a_time(tmp_path: Path) -> None:
    (tmp_path / "layer.tar").write_bytes(text(2, 900_000))
    subprocess.run(["gzip", "-k", tmp_path / "layer.tar"], check=True)
    data = (tmp_path / "layer.tar.gz").read_bytes()
    record, _ = exact(data)
    assert record.name == "layer.tar"
    assert record.deflate == "gzip-6"
    assert record.mtime == int((tmp_path / "layer.tar").stat().st_mtime)
    assert LAYER.describe(record) == "gzip by gzip-6, name layer.tar"
    assert len(msgspec.json.encode(record)) < 100


@pytest.mark.parametrize("level", [1, 6, 9])
def test_files_of_zlib(level: int) -> None:
    data = gzip.compress(text(3, 300_000), level, mtime=7)
    record, _ = exact(data)
    assert (record.deflate, record.mtime) == (f"zlib-{level}", 7)


@pytest.mark.parametrize(("level", "mem_level"), [(6, 9), (9, 1), (1, 4)])
def test_memory_levels(level: int, mem_level: int) -> None:
    stream = zlib.compressobj(level, zlib.DEFLATED, 31, mem_level)
    record, _ = exact(stream.compress(compressible(3, 700_000)) + stream.flush())
    assert record.deflate == f"zlib-{level}-mem{mem_level}"


@pytest.mark.oracle
@pytest.mark.parametrize("options", [["-6", "-p2"], ["-9", "-p2"], ["-1", "-p1"], ["-i"], ["-9", "-i", "-p1"]], ids=str)
def test_files_of_pigz(need: Callable[..., None], options: list[str]) -> None:
    """Blocks side by side or one stream, each knowing what comes before or not; many ends of blocks, one byte more."""
    need("pigz")
    disk = compressible(3, 2 * MIB + 1)
    data = subprocess.run(["pigz", "-c", *options], input=disk, check=True, capture_output=True).stdout
    record, inner = exact(data)
    assert content(inner) == disk
    level = next((word for word in options if word[1:].isdigit()), "-6")
    way = {"-i": "-i", "-p1": "-p1"}.get(next((word for word in options if word in ("-i", "-p1")), ""), "")
    assert record.deflate == f"pigz{level}{way}"


@settings(max_examples=20)
@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1))
def test_any_content(held: bytes, mtime: int) -> None:
    record, inner = exact(gzip.compress(held, 9, mtime=mtime))
    assert content(inner) == held
    assert record.mtime == mtime


def test_reads_of_any_piece() -> None:
    disk = text(4, 200_000) + bytes(30 * MIB) + text(5, 2 * MIB) + bytes(5 * MIB) + b"end"
    data = gzip.compress(disk, 1)
    record, inner = exact(data)
    wrapped = LAYER.wrap(BytesSource(disk), record)
    order = random.Random(1)
    for _ in range(40):
        for source, expected in ((inner, disk), (wrapped, data)):
            at = order.randrange(len(expected))
            length = min(order.choice([1, 100, 5000, 300_000]), len(expected) - at)
            assert bytes(source.read(at, length)) == expected[at : at + length]


def test_unknown_encoders_are_refused_by_name() -> None:
    held = text(6)
    stream = zlib.compressobj(0, zlib.DEFLATED, 31)
    with pytest.raises(UnsupportedError, match="unknown deflate encoder") as caught:
        LAYER.unwrap(BytesSource(stream.compress(held) + stream.flush()), PATH)
    check_complete(caught.value, PATH)
    assert "bytes" in str(caught.value.actual)


def test_damage_is_named() -> None:
    good = gzip.compress(text(7), 9)
    cases: list[tuple[bytes, type[RehydratorError], str]] = [
        (good[:5], CorruptError, "cut short"),
        (b"\x1f\x8c" + good[2:], CorruptError, "wrong magic"),
        (good[:3] + b"\4" + good[4:], UnsupportedError, "optional parts"),
        (good[:3] + b"\x08" + good[4:10] + b"name", CorruptError, "name without an end"),
        (good[:10] + b"\xff" + good[11:], CorruptError, "stream is damaged"),
        (good[:9000], CorruptError, "stream is truncated"),
        (good[:-3], CorruptError, "cut short"),
        (good[:-8] + b"\0" + good[-7:], CorruptError, "CRC32 is wrong"),
        (good[:-4] + b"\0" + good[-3:], CorruptError, "ISIZE is wrong"),
        (good + b"x", UnsupportedError, "after its first member"),
        (good + good, UnsupportedError, "after its first member"),
    ]
    for data, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            LAYER.unwrap(BytesSource(data), PATH)
        check_complete(caught.value, PATH)


@pytest.mark.parametrize(
    "changes",
    [{"file_size": -1}, {"mtime": 1 << 32}, {"xfl": 256}, {"os": -1}, {"name": "a\0b"}, {"name": "\u4e2d"}],
    ids=str,
)
def test_forged_records(changes: dict[str, object]) -> None:
    record = msgspec.structs.replace(GzipRecord(100, "zlib-6"), **changes)
    with pytest.raises(MismatchError):
        LAYER.wrap(BytesSource(b"x"), record)


@pytest.mark.parametrize("name", ["gzip-9", "zlib-6"])
@pytest.mark.parametrize("change", [-50, -1, 1, 50, 5_000_000])
def test_a_content_that_does_not_belong_to_the_record(name: str, change: int) -> None:
    data = by_program(text(8, 900_000), "-n9") if name == "gzip-9" else gzip.compress(text(8), 6, mtime=0)
    record, inner = exact(data)
    forged = msgspec.structs.replace(record, file_size=record.file_size + change)
    with pytest.raises(MismatchError, match="recorded size"):
        content(LAYER.wrap(inner, forged))


@pytest.mark.parametrize("name", ["", "gzip", "gzip-0", "gzip-10", "pigz", "pigz-0", "pigz-6-p2", "zlib-ng-6"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="unknown deflate encoder"):
        LAYER.wrap(BytesSource(b"x"), GzipRecord(100, name))


@pytest.fixture
def _no_cache() -> Iterator[None]:
    deflate_stream.stream_encoder.cache_clear()
    yield
    deflate_stream.stream_encoder.cache_clear()


@pytest.mark.usefixtures("_no_cache")
def test_without_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = by_program(text(9, 900_000), "-n9")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="unknown deflate encoder") as caught:
        LAYER.unwrap(BytesSource(data), PATH)
    assert "are the program GNU gzip. Install the package gzip" in str(caught.value.hint)
    record = GzipRecord(len(data), "gzip-9")
    with pytest.raises(UnsupportedError, match="are the program GNU gzip"):
        LAYER.wrap(BytesSource(b""), record)


@pytest.mark.usefixtures("_no_cache")
def test_another_program_of_that_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "gzip"
    other.write_text("#!/bin/sh\nexec /usr/bin/env -u X cat\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnsupportedError, match="compresses otherwise"):
        deflate_stream.stream_encoder("gzip-6")


def test_options_in_the_environment_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = by_program(text(9, 900_000), "-n9")
    monkeypatch.setenv("GZIP", "-1")
    exact(data)


def test_an_error_while_feeding_reaches_the_reader() -> None:
    def pieces() -> Iterator[Data]:
        yield text(1)
        raise StoreDamagedError("here")

    with pytest.raises(StoreDamagedError, match="here"):
        list(deflate_stream.stream_encoder("gzip-6")(pieces()))


def test_a_reader_that_stops_leaves_nothing_behind() -> None:
    before = threading.active_count()
    record = GzipRecord(1 << 30, "gzip-6")
    source = GzipFile(BytesSource(random.Random(1).randbytes(8 * MIB)), record)
    source.read(0, 2 * MIB)
    assert threading.active_count() > before
    source.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("seed", range(2))
def test_no_flip_gets_through(seed: int) -> None:
    original = gzip.compress(text(seed, 600) + bytes(5000), 9)
    order = random.Random(seed)
    outcomes = {"refused": 0, "exact": 0}
    for _ in range(1000):
        data = bytearray(original)
        at = order.choice([order.randrange(10), order.randrange(len(data))])
        data[at] = order.choice([0, 0xFF, data[at] ^ 1 << order.randrange(8)])
        try:
            unwrapped = LAYER.unwrap(BytesSource(bytes(data)), PATH)
            assert content(LAYER.wrap(unwrapped.inner, unwrapped.record)) == data
            outcomes["exact"] += 1
        except RehydratorError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30, outcomes
