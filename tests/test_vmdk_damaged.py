"""Damaged VMDK files: each lie is named with its place, and no byte can bring down the reader."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import pytest

from rehydrator.disk.source import BytesSource
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.layers.c_vmdk import GD_AT_END, SECTOR, GrainMarker, SparseExtentHeader
from rehydrator.layers.vmdk import VmdkLayer
from tests.support.containers import check_complete
from tests.support.disks import random_sparse
from tests.test_vmdk import GRAIN, content, made

LAYER = VmdkLayer()
PATH = Path("damaged.vmdk")
IMAGE = made(random_sparse(9, 6 * GRAIN, 0.02))
GD = 26 * SECTOR
TABLE = 27 * SECTOR
GRAINS = 128 * SECTOR
_WIDTHS = {4: "<I", 8: "<Q", 1: "<B", 2: "<H"}


def exact(data: bytes) -> bool:
    unwrapped = LAYER.unwrap(BytesSource(data), PATH)
    return content(LAYER.wrap(BytesSource(content(unwrapped.inner)), unwrapped.record, unwrapped.tables)) == data


def header_field(name: str, value: int) -> bytes:
    span = next(item for item in SparseExtentHeader.FIELDS if item.name == name)
    return patched(span.offset, struct.pack(_WIDTHS[span.size], value))


def patched(at: int, data: bytes, image: bytes = IMAGE) -> bytes:
    return image[:at] + data + image[at + len(data) :]


def test_the_good_image_is_exact() -> None:
    header = SparseExtentHeader.parse(IMAGE)
    assert (header.gdOffset * SECTOR, header.overHead * SECTOR) == (GD, GRAINS)
    assert exact(IMAGE)


LIES: dict[str, tuple[str, int, str]] = {
    "capacity": ("capacity", 1 << 62, "capacity"),
    "capacity, more tables than the file": ("capacity", 1 << 31, "grain directory reaches past the end"),
    "capacity, fewer grains": ("capacity", 0, "overlaps"),
    "grainSize zero": ("grainSize", 0, "grainSize"),
    "grainSize odd": ("grainSize", 127, "grainSize"),
    "grainSize huge": ("grainSize", 1 << 40, "grainSize"),
    "descriptorOffset": ("descriptorOffset", 1 << 60, "descriptorOffset"),
    "descriptorSize": ("descriptorSize", 1 << 60, "descriptorSize"),
    "numGTEsPerGT": ("numGTEsPerGT", 0, "numGTEsPerGT"),
    "rgdOffset": ("rgdOffset", 1 << 60, "rgdOffset"),
    "gdOffset": ("gdOffset", 1 << 60, "gdOffset"),
    "overHead": ("overHead", 1 << 60, "overHead"),
    "overHead, past the first grain": ("overHead", 129, "overlaps"),
}


@pytest.mark.parametrize("case", LIES)
def test_lies_in_the_header(case: str) -> None:
    name, value, words = LIES[case]
    with pytest.raises((CorruptError, UnsupportedError)) as caught:
        LAYER.unwrap(BytesSource(header_field(name, value)), PATH)
    if case != "capacity, fewer grains":
        assert isinstance(caught.value, CorruptError)
        assert words in str(caught.value)
    check_complete(caught.value, PATH)


REFUSED: dict[str, tuple[str, int, str]] = {
    "footer": ("gdOffset", GD_AT_END, "as VMware writes it"),
    "version": ("version", 9, "version 9"),
    "sparse": ("flags", 3, "not streamOptimized"),
    "zero grains": ("flags", 0x30007, "flags 0x30007"),
    "unknown flags": ("flags", 0x430003, "flags 0x430003"),
    "compression": ("compressAlgorithm", 2, "compression 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str) -> None:
    name, value, words = REFUSED[case]
    with pytest.raises(UnsupportedError, match=words) as caught:
        LAYER.unwrap(BytesSource(header_field(name, value)), PATH)
    check_complete(caught.value, PATH)


def first_entry() -> int:
    return next(at for at in range(TABLE, TABLE + 2048, 4) if any(IMAGE[at : at + 4]))


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (0xFFFFFFFF, CorruptError, "past the end of the file"),
        (2, CorruptError, "overlaps"),
        (130, UnsupportedError, "gap"),
        (1, UnsupportedError, "zero grains"),
        (0, UnsupportedError, "gap"),
    ],
)
def test_impossible_grain_table_entries(value: int, kind: type[RehydratorError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        LAYER.unwrap(BytesSource(patched(first_entry(), struct.pack("<I", value))), PATH)
    check_complete(caught.value, PATH)


@pytest.mark.parametrize(("value", "kind"), [(0xFFFFFFFF, CorruptError), (28, UnsupportedError)])
def test_impossible_grain_directory_entries(value: int, kind: type[RehydratorError]) -> None:
    with pytest.raises(kind, match="grain table") as caught:
        LAYER.unwrap(BytesSource(patched(GD, struct.pack("<I", value))), PATH)
    assert caught.value.offset == GD


def test_two_grains_at_one_place() -> None:
    at = first_entry()
    second = next(place for place in range(at + 4, TABLE + 2048, 4) if any(IMAGE[place : place + 4]))
    with pytest.raises(CorruptError, match=r"overlaps|another grain"):
        LAYER.unwrap(BytesSource(patched(second, IMAGE[at : at + 4])), PATH)


def test_the_redundant_tables_differ() -> None:
    with pytest.raises(UnsupportedError, match="would not be written back exactly") as caught:
        LAYER.unwrap(BytesSource(patched(22 * SECTOR + 700, b"\7")), PATH)
    assert caught.value.offset == 22 * SECTOR + 700


def test_lies_in_a_marker() -> None:
    size_at = GRAINS + GrainMarker.offset_of("size")
    for value in (0, 0xFFFFFFFF, 1 << 20):
        with pytest.raises(CorruptError, match="impossible size") as caught:
            LAYER.unwrap(BytesSource(patched(size_at, struct.pack("<I", value))), PATH)
        assert caught.value.offset == size_at
    with pytest.raises(CorruptError, match="of another grain") as caught:
        LAYER.unwrap(BytesSource(patched(GRAINS, b"\7")), PATH)
    assert caught.value.offset == GRAINS


def test_damaged_grain_data() -> None:
    for at in (GRAINS + 12, GRAINS + 40, GRAINS + 100):
        with pytest.raises(CorruptError, match="can't be decompressed") as caught:
            LAYER.unwrap(BytesSource(patched(at, bytes([IMAGE[at] ^ 0xFF]))), PATH)
        assert caught.value.offset == GRAINS + 12


def one_grain(packed: bytes) -> bytes:
    """A file of one grain whose data is ``packed``."""
    good = made(b"x" * GRAIN)
    body = (GrainMarker(lba=0, size=len(packed)).pack() + packed).ljust(
        -(-(12 + len(packed)) // SECTOR) * SECTOR, b"\0"
    )
    return good[:GRAINS] + body.ljust(GRAIN, b"\0")


@pytest.mark.parametrize("length", [0, 1, GRAIN - 1, GRAIN + 1, 50_000_000])
def test_a_grain_of_another_size(length: int) -> None:
    """A bomb of 50 MB, too."""
    with pytest.raises(CorruptError, match="can't be decompressed") as caught:
        LAYER.unwrap(BytesSource(one_grain(zlib.compress(bytes(length), 6))), PATH)
    assert str(caught.value.expected).startswith(f"{GRAIN} bytes")


def test_something_behind_the_stream_in_a_grain() -> None:
    with pytest.raises(CorruptError, match="can't be decompressed"):
        LAYER.unwrap(BytesSource(one_grain(zlib.compress(b"x" * GRAIN, 6) + b"tail")), PATH)


def test_another_encoder_is_refused_by_name() -> None:
    packed = zlib.compress(b"x" * GRAIN, 0)[: GRAIN + 100]
    with pytest.raises(UnsupportedError, match="unknown deflate encoder") as caught:
        LAYER.unwrap(BytesSource(one_grain(packed)), PATH)
    check_complete(caught.value, PATH)


def test_one_grain_of_another_encoder() -> None:
    """Beyond the samples: the grain gets a patch."""
    disk = b"".join(bytes([1 + at % 7, at, 3 + at % 5]) * 21845 + b"\1" for at in range(40))
    image = bytearray(made(disk))
    structure = LAYER.unwrap(BytesSource(bytes(image)), PATH)
    start = GRAINS + sum(structure.tables[0][:1]) * SECTOR
    size = GrainMarker.parse(image, start).size
    content_ = zlib.decompress(bytes(image[start + 12 : start + 12 + size]))
    other = zlib.compress(content_, 1)
    assert len(other) // SECTOR == size // SECTOR
    image[start + 8 : start + 12] = struct.pack("<I", len(other))
    image[start + 12 : start + SECTOR] = other.ljust(SECTOR - 12, b"\0")
    assert exact(bytes(image))
    patched = LAYER.unwrap(BytesSource(bytes(image)), PATH).record.patched
    assert patched is not None
    assert (patched.chunks, patched.of) == (1, 40)
    assert 0 < patched.literal_bytes < len(other)


def test_something_behind_a_grain() -> None:
    image = bytearray(made(b"abcd" * 16384))
    image[GRAINS + SECTOR - 1] = 1
    with pytest.raises(UnsupportedError, match="behind a grain") as caught:
        LAYER.unwrap(BytesSource(bytes(image)), PATH)
    assert GRAINS < (caught.value.offset or 0) < GRAINS + SECTOR


def test_descriptor_that_is_no_text() -> None:
    with pytest.raises(UnsupportedError, match="UTF-8") as caught:
        LAYER.unwrap(BytesSource(patched(SECTOR + 3, b"\xff\xfe")), PATH)
    assert caught.value.offset == SECTOR + 3


def test_truncated_anywhere() -> None:
    for length in [*range(0, 600, 7), *range(512, len(IMAGE) - GRAIN, 1111), len(IMAGE) - 1]:
        with pytest.raises(RehydratorError) as caught:
            LAYER.unwrap(BytesSource(IMAGE[:length]), PATH)
        assert isinstance(caught.value, CorruptError | UnsupportedError), length
        check_complete(caught.value, PATH)


@pytest.mark.parametrize("tail", [b"x", b"y" * SECTOR, bytes(300 * SECTOR)])
def test_something_after_the_end(tail: bytes) -> None:
    with pytest.raises((CorruptError, UnsupportedError)):
        LAYER.unwrap(BytesSource(IMAGE + tail), PATH)
    assert exact(IMAGE + bytes(SECTOR))


@pytest.mark.parametrize("seed", range(3))
def test_no_flip_gets_through(seed: int) -> None:
    """Each damaged image is refused by one of the project's errors, or given back as it is."""
    image = bytearray(made(b"abcdefgh" * 8192 + bytes(GRAIN) + b"xyz" * 20480))
    order = random.Random(seed)
    starts = [(0, 80), (0, 80), (SECTOR, 600), (21 * SECTOR, 40), (22 * SECTOR, 40), (GD, 8), (TABLE, 16)]
    starts += [(GRAINS, 300), (GRAINS + SECTOR, 300)]
    outcomes = {"refused": 0, "exact": 0}
    nameless = 0
    for _ in range(800):
        places = []
        for _ in range(order.choice([1, 1, 4])):
            start, length = order.choice(starts)
            places.append(start + order.randrange(length))
        before = {at: image[at] for at in places}
        for at in places:
            image[at] = order.choice([0, 1, 0x7F, 0x80, 0xFF, image[at] ^ 1 << order.randrange(8)])
        try:
            assert exact(bytes(image)), places
            outcomes["exact"] += 1
        except RehydratorError as error:
            nameless += error.path != str(PATH)
            outcomes["refused"] += 1
        for at, value in before.items():
            image[at] = value
    assert min(outcomes.values()) > 30, outcomes
    assert nameless == 0
