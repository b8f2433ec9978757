"""The qcow2 layer on files that the real qemu-img wrote: exact both ways, or refused by name."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import UnsupportedError
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.qcow2_record import Qcow2Record
from tests.support.disks import MIB, random_sparse

pytestmark = pytest.mark.oracle
LAYER = Qcow2Layer()


@pytest.fixture(autouse=True)
def _qemu_img(need: Callable[..., None]) -> None:
    need("qemu-img", "qemu-io")


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def round_trip(path: Path) -> tuple[Qcow2Record, bytes]:
    """Unwrap and wrap the image at ``path``, through the record's JSON; compare; return record and disk."""
    with FileSource(path) as outer:
        unwrapped = LAYER.unwrap(outer, path)
        record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=Qcow2Record)
        disk = bytes(unwrapped.inner.read(0, unwrapped.inner.size))
        wrapped = LAYER.wrap(BytesSource(disk), record)
        assert wrapped.size == outer.size
        assert bytes(wrapped.read(0, wrapped.size)) == path.read_bytes()
        assert [(e.offset, e.end) for e in unwrapped.inner.nonzero()] == [
            (e.offset, e.end) for e in BytesSource(disk).nonzero()
        ]
    return record, disk


CASES: dict[str, tuple[int, float, list[str], bool]] = {
    # name: disk size, density, options of qemu-img convert, whether the compact record is enough
    "defaults": (9 * MIB, 0.05, [], True),
    "v2": (9 * MIB, 0.05, ["-o", "compat=0.10"], True),
    "empty": (3 * MIB, 0.0, [], True),
    "size zero": (0, 0.0, [], True),
    "full": (3 * MIB, 1.0, [], True),
    "odd size": (3 * MIB + 512, 0.3, [], True),
    "one sector": (512, 1.0, [], True),
    "many L2 tables": (24 * MIB, 0.1, ["-o", "cluster_size=4k"], True),
    "many refcount blocks": (24 * MIB, 1.0, ["-o", "cluster_size=4k"], True),
    "smallest clusters": (4 * MIB, 0.5, ["-o", "cluster_size=512"], True),
    "smallest clusters, v2": (4 * MIB, 0.5, ["-o", "cluster_size=512,compat=0.10"], True),
    "largest clusters": (24 * MIB, 0.002, ["-o", "cluster_size=2M"], True),
    "zeros allocated": (5 * MIB, 0.1, ["-S", "0"], True),
    "other sparse granularity": (5 * MIB, 0.1, ["-S", "64k"], True),
    "lazy refcounts": (5 * MIB, 0.1, ["-o", "lazy_refcounts=on"], True),
    "preallocated metadata": (5 * MIB, 0.1, ["-o", "preallocation=metadata"], False),
    "no copy offloading": (5 * MIB, 0.1, ["-T", "writeback", "-t", "writeback"], True),
}


@pytest.mark.parametrize("case", CASES)
def test_real_images(tmp_path: Path, case: str) -> None:
    size, density, options, compact = CASES[case]
    raw, image, again = tmp_path / "raw", tmp_path / "qcow2", tmp_path / "again"
    raw.write_bytes(random_sparse(len(case), size, density))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, raw, image)
    record, disk = round_trip(image)
    assert disk == raw.read_bytes()
    if compact:
        assert record.placement == "sequential", record
    again.write_bytes(disk)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", image, again)


@pytest.mark.parametrize("seed", range(4))
def test_clusters_out_of_order(tmp_path: Path, seed: int) -> None:
    """Images that were written to in random order, as a running machine does."""
    image, raw = tmp_path / "qcow2", tmp_path / "raw"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", image, "8M")
    order = random.Random(seed)
    writes = [f"write -q -P {order.randrange(1, 256)} {order.randrange(2000) * 4096} 4096" for _ in range(60)]
    subprocess.run(
        ["qemu-io", "-f", "qcow2", *(word for line in writes for word in ("-c", line)), image],
        check=True,
        capture_output=True,
    )
    record, disk = round_trip(image)
    assert "explicit cluster order" in LAYER.describe(record)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, raw)
    assert disk == raw.read_bytes()


def test_convert_out_of_order(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(random_sparse(21, 64 * MIB, 0.3, 65536))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-W", "-m", "8", raw, image)
    assert round_trip(image)[1] == raw.read_bytes()


def test_reads_of_any_piece_of_the_wrapped_file(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(random_sparse(3, 6 * MIB + 1024, 0.2))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", raw, image)
    expected = image.read_bytes()
    with FileSource(image) as outer:
        unwrapped = LAYER.unwrap(outer, image)
        wrapped = LAYER.wrap(unwrapped.inner, unwrapped.record)
        order = random.Random(1)
        for _ in range(300):
            at = order.randrange(len(expected))
            length = min(order.choice([1, 100, 5000, 300_000]), len(expected) - at)
            assert bytes(wrapped.read(at, length)) == expected[at : at + length]


def test_the_record_of_a_plain_image_is_small(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(random_sparse(3, 32 * MIB, 0.2))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, image)
    record, _ = round_trip(image)
    assert len(msgspec.json.encode(record)) < 600
    assert LAYER.describe(record) == "qcow2 v3, 64 KiB clusters, clusters in guest order"


SECRET = ["--object", "secret,id=s,data=geheim"]
REFUSED: dict[str, tuple[list[list[str]], str]] = {
    "backing file": ([["create", "-f", "qcow2", "-b", "RAW", "-F", "raw", "IMAGE"]], "backing file"),
    "snapshot": ([["convert", "-O", "qcow2", "RAW", "IMAGE"], ["snapshot", "-c", "one", "IMAGE"]], "snapshots"),
    # LUKS would do, but qemu-img measures how fast the processor is for it, and gives up on a busy one.
    "encryption": (
        [["create", "-f", "qcow2", *SECRET, "-o", "encrypt.format=aes,encrypt.key-secret=s", "IMAGE", "4M"]],
        "encryption",
    ),
    "extended L2": ([["convert", "-O", "qcow2", "-o", "extended_l2=on", "RAW", "IMAGE"]], "EXTENDED_L2"),
    "external data": ([["create", "-f", "qcow2", "-o", "data_file=RAW.data", "IMAGE", "4M"]], "EXTERNAL_DATA_FILE"),
    "refcount bits": ([["convert", "-O", "qcow2", "-o", "refcount_bits=1", "RAW", "IMAGE"]], "reference counts"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    commands, words = REFUSED[case]
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(random_sparse(3, 4 * MIB, 0.3))
    for command in commands:
        qemu_img(*(word.replace("RAW", str(raw)).replace("IMAGE", str(image)) for word in command))
    with FileSource(image) as outer, pytest.raises(UnsupportedError, match=words) as caught:
        LAYER.unwrap(outer, image)
    assert caught.value.path == str(image)


def test_zero_clusters_are_refused_by_name(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(random_sparse(3, 4 * MIB, 1.0))
    qemu_img("convert", "-O", "qcow2", raw, image)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -z 1M 1M", image], check=True, capture_output=True)
    with FileSource(image) as outer, pytest.raises(UnsupportedError, match="zero clusters") as caught:
        LAYER.unwrap(outer, image)
    assert caught.value.offset is not None
