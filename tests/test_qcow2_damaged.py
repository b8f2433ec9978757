"""Damaged qcow2 files: each lie is named with its place, and no byte of metadata can bring down the reader."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.disk.source import BytesSource
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.layers.c_qcow2 import OFFSET_MASK, OFLAG_COPIED, Header, HeaderV3
from rehydrator.layers.qcow2 import Qcow2Layer
from tests.support.containers import check_complete
from tests.support.disks import random_sparse

LAYER = Qcow2Layer()
PATH = Path("damaged.qcow2")
CLUSTER = 65536


@pytest.fixture(scope="module")
def image(qcow2_bytes: Callable[[bytes], bytes]) -> bytes:
    """A good image: 64 KiB clusters, one L2 table, some data."""
    return qcow2_bytes(random_sparse(9, 20 * CLUSTER, 0.2, CLUSTER))


def exact(data: bytes) -> bool:
    """Unwrap and wrap; tell whether the result is the same. Errors other than the project's own pass through."""
    unwrapped = LAYER.unwrap(BytesSource(data), PATH)
    disk = bytes(unwrapped.inner.read(0, unwrapped.inner.size))
    wrapped = LAYER.wrap(BytesSource(disk), unwrapped.record)
    return wrapped.size == len(data) and bytes(wrapped.read(0, wrapped.size)) == data


def header_field(data: bytes, name: str, value: int) -> bytes:
    kind, base = (Header, 0) if name in Header._offsets else (HeaderV3, Header.SIZE)
    at = base + kind.offset_of(name)
    length = 8 if name in {"backing_file_offset", "size", "l1_table_offset", "refcount_table_offset"} else 4
    return data[:at] + value.to_bytes(length, "big") + data[at + length :]


def entry(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack(">Q", value) + data[at + 8 :]


def tables(data: bytes) -> tuple[int, int, int]:
    """Return the byte offsets of L1 table, first L2 table and its first used entry."""
    header = Header.parse(data)
    (l2,) = struct.unpack_from(">Q", data, header.l1_table_offset)
    l2 &= OFFSET_MASK
    used = next(at for at in range(l2, l2 + CLUSTER, 8) if any(data[at : at + 8]))
    return header.l1_table_offset, l2, used


def test_the_good_image_is_exact(image: bytes) -> None:
    assert exact(image)


LIES: dict[str, tuple[str, int]] = {
    "magic": ("magic", 0),
    "cluster_bits": ("cluster_bits", 22),
    "cluster_bits, huge": ("cluster_bits", 0xFFFFFFFF),
    "cluster_bits, small": ("cluster_bits", 8),
    "l1_size": ("l1_size", 0),
    "l1_size, huge": ("l1_size", 0xFFFFFFFF),
    "l1_size, past the file": ("l1_size", 1 << 20),
    "size": ("size", 1 << 62),
    "l1_table_offset": ("l1_table_offset", 1 << 60),
    "l1_table_offset, unaligned": ("l1_table_offset", 3 * CLUSTER + 512),
    "l1_table_offset, header": ("l1_table_offset", 0),
    "refcount_table_offset": ("refcount_table_offset", 1 << 40),
    "refcount_table_offset, header": ("refcount_table_offset", 0),
    "refcount_table_clusters": ("refcount_table_clusters", 0xFFFFFFFF),
    "refcount_table_clusters, past the file": ("refcount_table_clusters", 100),
    "header_length": ("header_length", 0),
    "header_length, huge": ("header_length", 0xFFFFFFF8),
}


@pytest.mark.parametrize("case", LIES)
def test_lies_in_the_header(image: bytes, case: str) -> None:
    name, value = LIES[case]
    damaged = b"QED\0" + image[4:] if name == "magic" else header_field(image, name, value)
    with pytest.raises(CorruptError) as caught:
        LAYER.unwrap(BytesSource(damaged), PATH)
    check_complete(caught.value, PATH)


@pytest.mark.parametrize("order", [0, 3, 5, 6, 7, 0xFFFFFFFF])
def test_other_reference_counts_are_refused_by_name(image: bytes, order: int) -> None:
    with pytest.raises(UnsupportedError, match="reference counts other than 16 bits") as caught:
        LAYER.unwrap(BytesSource(header_field(image, "refcount_order", order)), PATH)
    assert caught.value.offset == Header.SIZE + HeaderV3.offset_of("refcount_order")
    assert len(str(caught.value)) < 200  # nothing was computed with what the file claims


@pytest.mark.parametrize("value", [0x4000000000000000, 1, CLUSTER * 10_000, CLUSTER + 512, OFFSET_MASK])
def test_impossible_l2_entries(image: bytes, value: int) -> None:
    _, _, used = tables(image)
    with pytest.raises((CorruptError, UnsupportedError)) as caught:
        LAYER.unwrap(BytesSource(entry(image, used, value | OFLAG_COPIED)), PATH)
    check_complete(caught.value, PATH)
    assert caught.value.offset == used


@pytest.mark.parametrize("value", [CLUSTER * 10_000, CLUSTER + 512])
def test_impossible_l1_entries(image: bytes, value: int) -> None:
    l1, _, _ = tables(image)
    with pytest.raises(CorruptError, match="L2 table offset") as caught:
        LAYER.unwrap(BytesSource(entry(image, l1, value | OFLAG_COPIED)), PATH)
    assert caught.value.offset == l1


@pytest.mark.parametrize("host", [0, 1, 2, 3, 4])
def test_a_cluster_used_twice(image: bytes, host: int) -> None:
    _, _, used = tables(image)
    with pytest.raises(CorruptError, match="used twice") as caught:
        LAYER.unwrap(BytesSource(entry(image, used, host * CLUSTER | OFLAG_COPIED)), PATH)
    assert caught.value.offset == host * CLUSTER


def test_a_wrong_reference_count(image: bytes) -> None:
    at = 2 * CLUSTER + 3
    damaged = image[:at] + b"\x07" + image[at + 1 :]
    with pytest.raises(UnsupportedError, match="would not be written back exactly") as caught:
        LAYER.unwrap(BytesSource(damaged), PATH)
    assert caught.value.offset == at
    assert (caught.value.expected, caught.value.actual) == ("byte 0x01", "0x07")


def test_a_leaked_cluster_with_data(image: bytes) -> None:
    _, _, used = tables(image)
    with pytest.raises(UnsupportedError):
        LAYER.unwrap(BytesSource(entry(image, used, 0)), PATH)


def test_truncated_at_every_table(image: bytes) -> None:
    first_data = min(at for at in range(0, len(image), CLUSTER) if at > 4 * CLUSTER)
    for length in [*range(0, 120, 7), *range(512, first_data, 4096), *range(CLUSTER, first_data + 1, CLUSTER)]:
        with pytest.raises(RehydratorError) as caught:
            LAYER.unwrap(BytesSource(image[:length]), PATH)
        assert isinstance(caught.value, CorruptError | UnsupportedError), length
        check_complete(caught.value, PATH)


@pytest.mark.parametrize("size", [0, 512, 3 * CLUSTER])
def test_data_past_the_end_of_the_disk(image: bytes, size: int) -> None:
    """What a disk does not show can't be kept with it."""
    with pytest.raises(UnsupportedError, match="past the end of the disk") as caught:
        LAYER.unwrap(BytesSource(header_field(image, "size", size)), PATH)
    check_complete(caught.value, PATH)


def test_zeros_past_the_end_of_the_disk(qcow2_bytes: Callable[[bytes], bytes]) -> None:
    image = qcow2_bytes(b"x" * (CLUSTER + 512))
    assert exact(image)
    with pytest.raises(UnsupportedError, match="past the end of the disk"):
        LAYER.unwrap(BytesSource(image[:-1] + b"!"), PATH)


def test_truncated_within_its_data(image: bytes) -> None:
    """qemu reads zeros past the end of the file; what is there can be given back."""
    assert exact(image[:-100])
    with pytest.raises(CorruptError):
        LAYER.unwrap(BytesSource(image[: -2 * CLUSTER]), PATH)


@pytest.mark.parametrize("tail", [b"x", bytes(512), bytes(CLUSTER), b"y" * CLUSTER])
def test_something_after_the_end(image: bytes, tail: bytes) -> None:
    if not any(tail):
        assert exact(image + tail)
        return
    with pytest.raises(UnsupportedError, match="leaked"):
        LAYER.unwrap(BytesSource(image + tail), PATH)


@pytest.mark.parametrize("seed", range(3))
def test_no_flip_in_the_metadata_gets_through(qcow2_bytes: Callable[[bytes], bytes], seed: int) -> None:
    """Each damaged image is refused by one of the project's errors, or given back as it is."""
    small = bytearray(qcow2_bytes(random_sparse(seed, 6 * CLUSTER + 512, 0.5, CLUSTER)))
    _, l2, _ = tables(bytes(small))
    order = random.Random(seed)
    # half of the places in the header and its extensions, the others at the beginnings of the tables
    starts = [0, 0, 0, CLUSTER, 2 * CLUSTER, 3 * CLUSTER, l2]
    outcomes = {"refused": 0, "exact": 0}
    for _ in range(700):
        count = order.choice([1, 1, 4])
        places = [order.choice(starts) + order.randrange(order.choice([16, 112, 700])) for _ in range(count)]
        before = {at: small[at] for at in places}
        for at in places:
            small[at] = order.choice([0, 1, 0x7F, 0x80, 0xFF, small[at] ^ 1 << order.randrange(8)])
        try:
            assert exact(bytes(small)), (places, [small[at] for at in places])
            outcomes["exact"] += 1
        except RehydratorError:
            outcomes["refused"] += 1
        for at, value in before.items():
            small[at] = value
    assert min(outcomes.values()) > 30, outcomes


def test_no_flip_near_the_header_of_a_tiny_file_gets_through() -> None:
    """Files of header size only, where every later table is missing."""
    order = random.Random(1)
    for length in (72, 100, 104, 105, 112, 200):
        for _ in range(300):
            data = bytearray(length)
            data[:8] = b"QFI\xfb" + struct.pack(">I", order.choice([2, 3]))
            data[20:24] = struct.pack(">I", order.choice([9, 12, 16]))
            if length >= 104:
                data[96:104] = struct.pack(">II", 4, order.choice([104, 105, 112, 512]))
            for _ in range(order.randrange(3)):
                data[order.randrange(8, length)] = order.randrange(256)
            try:
                assert exact(bytes(data)), bytes(data)
            except RehydratorError:
                continue
