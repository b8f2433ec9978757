"""Structures: what is packed is parsed, and short input is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.binary import Structure, field
from rehydrator.disk.c_gpt import GptEntry, GptHeader
from rehydrator.errors import CorruptError
from rehydrator.layers.c_qcow2 import Header, HeaderV3


class Sample(Structure, byteorder=">"):
    tag: bytes = field("3s")
    small: int = field("H")
    large: int = field("Q")


class Little(Structure, byteorder="<"):
    number: int = field("I")


def test_layout_has_no_padding() -> None:
    assert Sample.SIZE == 13
    assert [Sample.offset_of(name) for name in ("tag", "small", "large")] == [0, 3, 5]
    assert Sample(tag=b"abc", small=0x0102, large=3).pack() == b"abc\x01\x02" + bytes(7) + b"\x03"
    assert Little(number=1).pack() == b"\x01\0\0\0"


@given(st.binary(min_size=3, max_size=3), st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1), st.binary(max_size=9))
def test_round_trip(tag: bytes, small: int, large: int, before: bytes) -> None:
    value = Sample(tag=tag, small=small, large=large)
    assert Sample.parse(before + value.pack(), len(before)) == value
    assert Sample.parse(memoryview(value.pack())) == value


@pytest.mark.parametrize("kind", [Header, HeaderV3, GptHeader, GptEntry])
def test_real_structures_round_trip(kind: type[Structure]) -> None:
    data = bytes(i % 251 for i in range(kind.SIZE))
    assert kind.parse(data).pack() == data


@pytest.mark.parametrize(("kind", "size"), [(Header, 72), (HeaderV3, 32), (GptHeader, 92), (GptEntry, 128)])
def test_sizes_of_the_specifications(kind: type[Structure], size: int) -> None:
    assert size == kind.SIZE


@pytest.mark.parametrize(("length", "offset"), [(0, 0), (12, 0), (20, 8), (13, 14)])
def test_short_input(length: int, offset: int) -> None:
    with pytest.raises(CorruptError, match="Sample is cut short") as caught:
        Sample.parse(bytes(length), offset)
    assert caught.value.actual == f"{max(length - offset, 0)} bytes"
