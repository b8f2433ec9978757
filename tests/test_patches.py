"""Patches of chunks that an encoder gets wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.codecs.patches import Patch, Patches, patch_for
from rehydrator.errors import StoreDamagedError


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_a_patch_turns_one_into_the_other(head: bytes, one: bytes, other: bytes, tail: bytes) -> None:
    made, real = head + one + tail, head + other + tail
    patch = patch_for(made, real)
    if patch is None:
        assert made == real
        return
    assert patch.apply(made) == real
    assert len(patch.literal) <= len(other)
    assert patch.prefix + len(patch.literal) + patch.suffix == len(real)


@given(
    st.dictionaries(
        st.integers(0, 1 << 50),
        st.builds(Patch, st.integers(0, 1 << 40), st.integers(0, 1 << 20), st.binary(max_size=300)),
        max_size=9,
    )
)
def test_a_table_comes_back(patches: dict[int, Patch]) -> None:
    table = Patches(patches.items())
    again = Patches.parse(table.pack())
    assert again._patches == patches
    assert again.literal_bytes == sum(len(item.literal) for item in patches.values())


def test_what_needs_no_patch_stays() -> None:
    patches = Patches([(7, Patch(2, 1, b"xy"))])
    assert patches.apply(6, b"abc") == b"abc"
    assert patches.apply(6, None) is None
    assert patches.apply(7, b"abc") == b"abxyc"
    assert Patches([(7, Patch(0, 0, b"xy"))]).apply(7, None) == b"xy"


@pytest.mark.parametrize("table", [b"\x01", b"\x01\x02\x03\x04ab", b"\x80" * 30, b"\x01\x02\x03\xff\xff\xff\xff\x7fab"])
def test_damaged_tables(table: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="ends within"):
        Patches.parse(table)


def test_a_patch_for_something_longer() -> None:
    with pytest.raises(StoreDamagedError, match="longer than the chunk"):
        Patches([(0, Patch(5, 0, b""))]).apply(0, b"abc")
