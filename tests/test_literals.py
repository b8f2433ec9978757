"""What the literal bytes of a disk belong to."""

from __future__ import annotations

import random

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource
from rehydrator.literals import NOT_COMPRESSIBLE, is_dense, literal_owners, literals_by_owner
from rehydrator.relocation.segments import LITERAL, Segment
from tests.support.disks import PARTITIONS, with_gpt

KIB = 1024
SIZE = 4 << 20


def disk_of(content: bytes) -> BytesSource:
    return BytesSource(with_gpt(content))


def test_each_literal_byte_has_one_owner() -> None:
    number, name, first, last = PARTITIONS[-1]
    region = f"p{number} {name}"
    disk = disk_of(random.Random(1).randbytes(SIZE))
    segments = [
        Segment(0, 2 * KIB, LITERAL, 0),
        Segment(first * KIB, 8 * KIB, LITERAL, 2 * KIB),
        Segment(first * KIB + 8 * KIB, 4 * KIB, 0, 0),
        Segment(first * KIB + 12 * KIB, 100 * KIB, LITERAL, 10 * KIB),
    ]
    assert last * KIB > segments[-1].end
    found = literals_by_owner(disk, segments)
    assert sum(item.size for item in found) == 110 * KIB
    assert [item.size for item in found] == sorted((item.size for item in found), reverse=True)
    assert (found[0].region, found[0].structure, found[0].size) == (region, "unknown", 108 * KIB)
    assert sum(item.size for item in found if item.region in ("mbr", "gpt")) == 2 * KIB


def test_what_does_not_compress_is_said() -> None:
    number, name, first, _ = PARTITIONS[-1]
    segment = Segment(first * KIB, 128 * KIB, LITERAL, 0)
    (told,) = literal_owners(disk_of(random.Random(2).randbytes(SIZE)), [segment])
    assert told == f"131072 literal bytes: p{number} {name}, unknown, which {NOT_COMPRESSIBLE}"
    (told,) = literal_owners(disk_of(b"text" * (SIZE // 4)), [segment])
    assert told == f"131072 literal bytes: p{number} {name}, unknown"


def test_few_bytes_tell_nothing_about_compression() -> None:
    disk = disk_of(random.Random(3).randbytes(SIZE))
    _, _, first, _ = PARTITIONS[-1]
    for size, dense in ((64 * KIB - 1, False), (64 * KIB, True)):
        (item,) = literals_by_owner(disk, [Segment(first * KIB, size, LITERAL, 0)])
        assert item.extents == [Extent(first * KIB, size)]
        assert is_dense(disk, item) == dense


def test_nothing_is_literal() -> None:
    assert list(literal_owners(disk_of(bytes(SIZE)), [Segment(0, SIZE, 0, 0)])) == []
