"""qcow2 files with compressed clusters, as the real qemu-img writes them: exact both ways, with sizes or without."""

from __future__ import annotations

import random
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator.codecs import zstd
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.layers import qcow2
from rehydrator.layers.base import Unwrapped
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.c_qcow2 import OFFSET_MASK, OFLAG_COMPRESSED, CompressedDescriptor, Header
from rehydrator.layers.packed_record import Patched
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.qcow2_record import Qcow2Record
from tests.support.cli import fine
from tests.support.compressible import compressible
from tests.support.containers import check_complete
from tests.support.disks import MIB, metal_disk, sibling
from tests.support.releases import ReleaseMaker

pytestmark = pytest.mark.oracle
LAYER = Qcow2Layer()
PATH = Path("compressed.qcow2")
CLUSTER = 65536


@pytest.fixture(autouse=True)
def _qemu_img(need: Callable[..., None]) -> None:
    need("qemu-img")


def convert(raw: Path, image: Path, *options: str) -> None:
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", *options, raw, image], check=True)


def wrapped(disk: bytes, record: Qcow2Record, tables: tuple[bytes, ...]) -> bytes:
    again = LAYER.wrap(BytesSource(disk), record, tables)
    return bytes(again.read(0, again.size))


def round_trip(path: Path, disk: bytes) -> Unwrapped:
    """Unwrap the image at ``path`` and wrap it through the record's JSON, with the table of sizes and without."""
    with FileSource(path) as outer:
        unwrapped = LAYER.unwrap(outer, path)
        record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=Qcow2Record)
        assert bytes(unwrapped.inner.read(0, unwrapped.inner.size)) == disk
        assert unwrapped.inner.nonzero() == BytesSource(disk).nonzero()
    assert wrapped(disk, record, unwrapped.tables) == path.read_bytes()
    assert wrapped(disk, record, unwrapped.tables[1:]) == path.read_bytes()
    return unwrapped


CASES: dict[str, tuple[bytes, list[str]]] = {
    "defaults": (compressible(1, 9 * MIB), []),
    "v2": (compressible(2, 5 * MIB), ["-o", "compat=0.10"]),
    "odd size": (compressible(3, 3 * MIB + 512), []),
    "one sector": (b"a" * 512, []),
    "empty": (bytes(MIB), []),
    "size zero": (b"", []),
    "nothing compresses": (random.Random(1).randbytes(3 * MIB), []),
    "full": (compressible(4, 3 * MIB, holes=0), []),
    "many L2 tables": (compressible(5, 12 * MIB), ["-o", "cluster_size=4k"]),
    "many refcount blocks": (compressible(6, 2 * MIB, 0.3, 0.1), ["-o", "cluster_size=512"]),
    "refcount blocks, little noise": (compressible(7, 2 * MIB, 0.02, 0.1), ["-o", "cluster_size=1k"]),
    "largest clusters": (compressible(8, 9 * MIB), ["-o", "cluster_size=2M"]),
    "zeros allocated": (compressible(9, 5 * MIB), ["-S", "0"]),
    "no copy offloading": (compressible(10, 5 * MIB), ["-T", "writeback", "-t", "writeback"]),
}


@pytest.mark.parametrize("case", CASES)
def test_real_images(tmp_path: Path, case: str) -> None:
    disk, options = CASES[case]
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(disk)
    convert(raw, image, *options)
    unwrapped = round_trip(image, disk)
    assert unwrapped.record.placement == "sequential"
    assert unwrapped.record.patched is None
    assert unwrapped.record.encoder == ("zlib-6" if unwrapped.proven else "")
    assert unwrapped.proven or not unwrapped.tables
    assert "clusters in guest order" in LAYER.describe(unwrapped.record)


@pytest.mark.parametrize(
    ("seed", "options"),
    [(1, []), (2, []), (3, ["-o", "cluster_size=16k"]), (4, ["-o", "cluster_size=4k"]), (5, ["-o", "cluster_size=4k"])],
)
def test_convert_out_of_order(tmp_path: Path, seed: int, options: list[str]) -> None:
    """Those of 4 KiB have eight L2 tables, allocated between compressed clusters at any moment."""
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    disk = compressible(seed, 16 * MIB)
    raw.write_bytes(disk)
    convert(raw, image, "-W", "-m", "16", *options)
    unwrapped = round_trip(image, disk)
    runs = unwrapped.record.allocation
    assert runs != "nonzero"
    assert f"explicit cluster order, runs: {len(runs)}" in LAYER.describe(unwrapped.record)


def test_too_many_pieces_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(compressible(1, 16 * MIB))
    convert(raw, image, "-W", "-m", "16", "-o", "cluster_size=4k")
    monkeypatch.setattr(qcow2, "_MAX_RUNS", 3)
    with FileSource(image) as outer, pytest.raises(UnsupportedError, match="in too many pieces") as caught:
        LAYER.unwrap(outer, image)
    assert "at most 3 runs" in str(caught.value)


def test_more_than_4_gib(tmp_path: Path) -> None:
    """A sparse disk with several L2 tables and little data."""
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    with raw.open("wb") as stream:
        for at in (0, 1 << 31, (1 << 32) - 512, (5 << 30) - 70_000):
            stream.seek(at)
            stream.write(compressible(at, 70_000, holes=0))
    convert(raw, image)
    with FileSource(image) as outer, FileSource(raw) as disk:
        unwrapped = LAYER.unwrap(outer, image)
        again = LAYER.wrap(disk, unwrapped.record, unwrapped.tables)
        assert bytes(again.read(0, again.size)) == image.read_bytes()
    assert unwrapped.record.allocation == "nonzero"
    assert len(unwrapped.tables[0]) == 2 * 9


def test_reads_of_any_piece_of_the_wrapped_file(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    disk = compressible(3, 4 * MIB + 1024, 0.2)
    raw.write_bytes(disk)
    convert(raw, image, "-o", "cluster_size=4k")
    expected = image.read_bytes()
    with FileSource(image) as outer:
        unwrapped = LAYER.unwrap(outer, image)
        again = LAYER.wrap(BytesSource(disk), unwrapped.record, unwrapped.tables)
        order = random.Random(1)
        for _ in range(200):
            for source, bytes_ in ((again, expected), (unwrapped.inner, disk)):
                at = order.randrange(len(bytes_))
                length = min(order.choice([1, 100, 5000, 300_000]), len(bytes_) - at)
                assert bytes(source.read(at, length)) == bytes_[at : at + length]


def test_what_the_real_tools_say(tmp_path: Path) -> None:
    """The wrapped file is sound, has the disk and its clusters are compressed."""
    raw, image, again = tmp_path / "raw", tmp_path / "qcow2", tmp_path / "again"
    disk = compressible(12, 6 * MIB)
    raw.write_bytes(disk)
    convert(raw, image)
    unwrapped = round_trip(image, disk)
    again.write_bytes(wrapped(disk, unwrapped.record, unwrapped.tables))
    subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", again, raw], check=True, capture_output=True)
    said = subprocess.run(["qemu-img", "check", "--output=json", again], check=True, capture_output=True).stdout
    compressed = msgspec.json.decode(said)["compressed-clusters"]
    sizes = unwrapped.tables[0]
    planes = zip(sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :], strict=True)
    assert compressed == sum(low + (high << 8) > 0 for low, high in planes)


def test_zstd_clusters(tmp_path: Path) -> None:
    """Readable whatever libzstd wrote them; exact, or refused with the encoder's name."""
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    disk = compressible(13, 5 * MIB)
    raw.write_bytes(disk)
    convert(raw, image, "-o", "compression_type=zstd")
    with FileSource(image) as outer:
        try:
            unwrapped = LAYER.unwrap(outer, image)
        except UnsupportedError as error:
            assert zstd.DEFAULT in error.message  # noqa: PT017 - one of two outcomes
        else:
            assert wrapped(disk, unwrapped.record, unwrapped.tables) == image.read_bytes()


# --- patches -------------------------------------------------------------------------------------------------------


def with_other_streams(tmp_path: Path, positions: set[int], level: int) -> tuple[bytes, bytes]:
    """Return a disk, and an image of it in which some clusters were compressed at another level."""
    disk = b"".join(compressible(at, CLUSTER, noise=0, holes=0) for at in range(40))
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(disk)
    convert(raw, image)
    with FileSource(image) as outer:
        unwrapped = LAYER.unwrap(outer, image)
    streams = []
    for at in range(40):
        packer = zlib.compressobj(level if at in positions else 6, zlib.DEFLATED, -12, 9)
        streams.append(packer.compress(disk[at * CLUSTER : (at + 1) * CLUSTER]) + packer.flush())
    # the layout of an image with other sizes, by the record; then the streams over what the encoder gives
    sizes = [len(stream) for stream in streams]
    table = bytes(size & 0xFF for size in sizes) + bytes(size >> 8 for size in sizes)
    end = 5 * CLUSTER + sum(sizes)
    record = msgspec.structs.replace(unwrapped.record, file_size=end)
    made = LAYER.wrap(BytesSource(disk), record, (table,))
    head = bytes(made.read(0, 5 * CLUSTER))
    return disk, head + b"".join(streams)


def test_clusters_of_another_encoder_are_patched(tmp_path: Path) -> None:
    disk, image = with_other_streams(tmp_path, {3}, 1)
    path = tmp_path / "patched"
    path.write_bytes(image)
    subprocess.run(["qemu-img", "check", path], check=True, capture_output=True)
    unwrapped = round_trip(path, disk)
    patched = unwrapped.record.patched
    assert patched is not None
    assert (patched.chunks, patched.of) == (1, 40)
    assert 0 < patched.literal_bytes < CLUSTER
    assert f"1 of 40 patched, {patched.literal_bytes:,} literal bytes" in LAYER.describe(unwrapped.record)


def test_too_many_patches_are_refused(tmp_path: Path) -> None:
    _, image = with_other_streams(tmp_path, set(range(0, 40, 2)), 1)
    with pytest.raises(UnsupportedError, match=r"otherwise|unknown deflate encoder") as caught:
        LAYER.unwrap(BytesSource(image), PATH)
    check_complete(caught.value, PATH)
    assert "zlib-" in str(caught.value)


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good image: 20 clusters, all compressed, in one L2 table."""
    directory = tmp_path_factory.mktemp("good")
    raw, image = directory / "raw", directory / "qcow2"
    raw.write_bytes(b"".join(compressible(at, CLUSTER, noise=0, holes=0) for at in range(20)))
    convert(raw, image)
    return image.read_bytes()


def entries(image: bytes) -> list[int]:
    """Byte offsets of the used entries of the first L2 table."""
    header = Header.parse(image)
    l2 = int.from_bytes(image[header.l1_table_offset : header.l1_table_offset + 8]) & OFFSET_MASK
    return [at for at in range(l2, l2 + CLUSTER, 8) if any(image[at : at + 8])]


def with_entry(image: bytes, at: int, value: int) -> bytes:
    return image[:at] + value.to_bytes(8) + image[at + 8 :]


def exact(image: bytes) -> bool:
    unwrapped = LAYER.unwrap(BytesSource(image), PATH)
    disk = bytes(unwrapped.inner.read(0, unwrapped.inner.size))
    return wrapped(disk, unwrapped.record, unwrapped.tables) == image


def test_the_good_image_is_exact(good: bytes) -> None:
    assert exact(good)
    assert len(entries(good)) == 20


@pytest.mark.parametrize("offset", [0, CLUSTER - 1, 1 << 40])
def test_a_compressed_cluster_out_of_range(good: bytes, offset: int) -> None:
    at = entries(good)[7]
    with pytest.raises(CorruptError, match="compressed cluster is out of range") as caught:
        LAYER.unwrap(BytesSource(with_entry(good, at, CompressedDescriptor.pack(offset, 100, 16))), PATH)
    check_complete(caught.value, PATH)
    assert caught.value.offset == at


def test_the_copied_flag_on_a_compressed_cluster(good: bytes) -> None:
    at = entries(good)[0]
    value = int.from_bytes(good[at : at + 8]) | 1 << 63
    with pytest.raises(CorruptError, match="out of range") as caught:
        LAYER.unwrap(BytesSource(with_entry(good, at, value)), PATH)
    assert caught.value.offset == at


def test_a_compressed_cluster_in_a_table(good: bytes) -> None:
    at = entries(good)[3]
    with pytest.raises(CorruptError, match="used twice"):
        LAYER.unwrap(BytesSource(with_entry(good, at, CompressedDescriptor.pack(2 * CLUSTER, 100, 16))), PATH)


def test_two_guest_clusters_with_the_same_bytes(good: bytes) -> None:
    one, other = entries(good)[3:5]
    value = int.from_bytes(good[one : one + 8])
    with pytest.raises(CorruptError, match="compressed clusters overlap") as caught:
        LAYER.unwrap(BytesSource(with_entry(good, other, value)), PATH)
    assert caught.value.offset == CompressedDescriptor.parse(value, 16).offset


def test_wrong_sector_counts(good: bytes) -> None:
    at = entries(good)[3]
    offset = CompressedDescriptor.parse(int.from_bytes(good[at : at + 8]), 16).offset
    with pytest.raises(CorruptError, match="can't be decompressed"):
        LAYER.unwrap(BytesSource(with_entry(good, at, CompressedDescriptor.pack(offset, 100, 16))), PATH)
    with pytest.raises(UnsupportedError, match="would not be written back exactly"):
        LAYER.unwrap(BytesSource(with_entry(good, at, CompressedDescriptor.pack(offset, 60_000, 16))), PATH)


@pytest.mark.parametrize("content", [b"", b"x" * (CLUSTER - 1), b"x" * (CLUSTER + 1), b"x" * (64 * MIB)])
def test_streams_of_another_length(good: bytes, content: bytes) -> None:
    """Also a bomb: no more than a cluster is made of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12, 9)
    stream = packer.compress(content) + packer.flush()
    value = int.from_bytes(good[entries(good)[0] : entries(good)[0] + 8])
    offset = CompressedDescriptor.parse(value, 16).offset
    image = good[:offset] + stream + good[offset + len(stream) :]
    at = entries(good)[0]
    with pytest.raises(CorruptError, match="can't be decompressed") as caught:
        LAYER.unwrap(BytesSource(with_entry(image, at, CompressedDescriptor.pack(offset, len(stream), 16))), PATH)
    assert caught.value.offset == offset
    assert str(CLUSTER) in str(caught.value)


def test_a_wrong_share_count(good: bytes) -> None:
    at = 2 * CLUSTER + 2 * 5 + 1
    with pytest.raises(UnsupportedError, match="would not be written back exactly"):
        LAYER.unwrap(BytesSource(good[:at] + b"\x01" + good[at + 1 :]), PATH)


def test_truncated(good: bytes) -> None:
    for length in (6 * CLUSTER, 5 * CLUSTER + 1, 5 * CLUSTER, 4 * CLUSTER + 9):
        with pytest.raises(CorruptError) as caught:
            LAYER.unwrap(BytesSource(good[:length]), PATH)
        check_complete(caught.value, PATH)


@pytest.mark.parametrize("seed", range(2))
def test_no_flip_gets_through(good: bytes, seed: int) -> None:
    """Each damaged image is refused by one of the project's errors, or given back as it is."""
    order = random.Random(seed)
    image = bytearray(good)
    starts = [(0, 120), (3 * CLUSTER, 8), (entries(good)[0], 160), (2 * CLUSTER, 24), (5 * CLUSTER, 40_000)]
    outcomes = {"refused": 0, "exact": 0}
    for _ in range(30):
        start, length = order.choice(starts)
        at = start + order.randrange(length)
        before, image[at] = image[at], order.choice([0, 1, 0x7F, 0xFF, image[at] ^ 1 << order.randrange(8)])
        try:
            assert exact(bytes(image)), at
            outcomes["exact"] += 1
        except RehydratorError:
            outcomes["refused"] += 1
        image[at] = before
    assert min(outcomes.values()) > 1, outcomes


def test_forged_records(good: bytes) -> None:
    unwrapped = LAYER.unwrap(BytesSource(good), PATH)
    disk = BytesSource(bytes(unwrapped.inner.read(0, unwrapped.inner.size)))
    record, (sizes,) = unwrapped.record, unwrapped.tables
    for tables in ([b""], [sizes[:-1]], [sizes + b"\0\0"], [b"\xff" * len(sizes)], [sizes, b""]):
        with pytest.raises(MismatchError):
            LAYER.wrap(disk, record, tables)
    for allocation in ([BlockRun(0, 1 << 60)], [BlockRun(-1, 20)], [BlockRun(0, 21)], [BlockRun(0, 0)]):
        with pytest.raises(MismatchError):
            LAYER.wrap(disk, msgspec.structs.replace(record, allocation=allocation), [sizes])
    with pytest.raises(MismatchError, match="patches"):
        LAYER.wrap(disk, msgspec.structs.replace(record, patched=Patched(1, 1, 1)), [])
    with pytest.raises(UnsupportedError, match="unknown deflate encoder"):
        LAYER.wrap(disk, msgspec.structs.replace(record, encoder="zlib-0"), [sizes])
    other = LAYER.wrap(BytesSource(b"a" * disk.size), record, [sizes])
    with pytest.raises(MismatchError, match="compresses to another size"):
        other.read(0, other.size)


def test_the_flag_of_a_compressed_entry(good: bytes) -> None:
    at = entries(good)[0]
    value = int.from_bytes(good[at : at + 8])
    assert value & OFLAG_COMPRESSED
    parsed = CompressedDescriptor.parse(value, 16)
    assert CompressedDescriptor.pack(parsed.offset, parsed.end - parsed.offset, 16) == value


# --- a store -------------------------------------------------------------------------------------------------------


def test_a_release_with_a_compressed_image(tmp_path: Path) -> None:
    """The disk is told by edits; the record has the table of sizes, and verification gives every byte back."""
    metal = metal_disk()
    raw, image = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(sibling(metal, 2))
    convert(raw, image)
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal)
    maker.add("openstack", "qcow2.xz", image.read_bytes())
    maker.finish()
    store = tmp_path / "store"
    fine("build", "dehydrate", maker.root, store, "--progress", "none")
    fine("verify", "--store", store, "--progress", "none")
    listed = msgspec.json.decode(fine("list", "--store", store, "--json").out)["artifacts"]
    assert [item["rung"] for item in listed if item["platform"] == "openstack"] == ["edits"]
    assert "clusters by zlib-6" in fine("info", "openstack", "--store", store).text
