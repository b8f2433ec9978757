"""Sources and the overlay against plain bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import BLOCK, Extent, ExtentMap
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Padded, Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import CorruptError, InputError
from tests.support.disks import random_sparse

SIZE = 5 * BLOCK + 1234


def naive_map(data: bytes) -> ExtentMap:
    blocks = [Extent(at, min(BLOCK, len(data) - at)) for at in range(0, len(data), BLOCK)]
    return ExtentMap(block for block in blocks if any(data[block.offset : block.end]))


def check_same(source: Source, expected: bytes) -> None:
    assert source.size == len(expected)
    assert bytes(source.read(0, source.size)) == expected
    assert source.nonzero() == naive_map(expected)
    covered = ExtentMap(source.extents())
    assert all(covered.touches(extent.offset, extent.length) for extent in naive_map(expected))
    outside = bytearray(expected)
    for extent in covered:
        outside[extent.offset : extent.end] = bytes(extent.length)
    assert not any(outside)


writes = st.lists(
    st.tuples(
        st.integers(0, SIZE - 1),
        st.one_of(st.binary(max_size=40), st.integers(0, 2 * BLOCK).map(bytes), st.just(b"z" * BLOCK)),
    ),
    max_size=12,
)


@given(writes, st.booleans(), st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=6))
def test_overlay_is_a_bytearray(patches: list[tuple[int, bytes]], empty: bool, reads: list[tuple[int, int]]) -> None:
    base = bytes(SIZE) if empty else random_sparse(5, SIZE, 0.5)
    model = bytearray(base)
    overlay = Overlay(BytesSource(base))
    for offset, data in patches:
        cut = data[: SIZE - offset]
        overlay.write(offset, cut)
        model[offset : offset + len(cut)] = cut
    check_same(overlay, bytes(model))
    for offset, length in reads:
        held = min(length, SIZE - offset)
        assert bytes(overlay.read(offset, held)) == model[offset : offset + held]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (10, 1), (9, 2), (0, 11)])
def test_overlay_refuses_patches_outside(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="leaves the disk"):
        Overlay(BytesSource(bytes(10))).write(offset, bytes(length))


def test_overlay_later_patch_wins_and_is_reported_once() -> None:
    overlay = Overlay(BytesSource(bytes(100)))
    for offset, data in ((10, b"aaaa"), (20, b"bbbb"), (12, b"cccccccccc")):
        overlay.write(offset, data)
    assert bytes(overlay.read(9, 16)) == b"\0aaccccccccccbb\0"
    assert list(overlay.patched) == [Extent(10, 14)]


@given(st.integers(0, SIZE), st.integers(0, 3 * BLOCK), st.integers(0, SIZE))
def test_padded(inner: int, more: int, at: int) -> None:
    data = random_sparse(7, inner, 0.6)
    padded = Padded(BytesSource(data), inner + more)
    check_same(padded, data + bytes(more))
    at = min(at, inner + more)
    assert bytes(padded.read(at, inner + more - at)) == (data + bytes(more))[at:]


def test_padded_does_not_shrink() -> None:
    with pytest.raises(ValueError, match="smaller"):
        Padded(BytesSource(bytes(10)), 9)


@pytest.mark.parametrize("size", [0, 1, BLOCK, SIZE, 3 << 20])
def test_file_source(tmp_path: Path, size: int) -> None:
    data = random_sparse(size, size, 0.2)
    path = tmp_path / "file"
    path.write_bytes(data)
    with FileSource(path) as source:
        check_same(source, data)


def test_sparse_file_is_not_read_through(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as out:
        out.seek(1 << 40)
        out.write(b"end")
    with FileSource(path) as source:
        assert source.nonzero() == ExtentMap([Extent(1 << 40, 3)])
        assert source.read((1 << 40) - 1, 4) == b"\0end"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_without_holes_a_whole_file_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(BLOCK) + b"x")
    monkeypatch.setattr(os, "lseek", _failing(number))
    with FileSource(path) as source:
        assert list(source.extents()) == [Extent(0, BLOCK + 1)]
        assert source.nonzero() == ExtentMap([Extent(BLOCK, 1)])


def test_a_disk_error_is_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "lseek", _failing(errno.EIO))
    with FileSource(path) as source, pytest.raises(InputError, match="Input/output error") as caught:
        source.nonzero()
    assert (caught.value.path, caught.value.offset) == (str(path), 0)


def _failing(number: int) -> Callable[[int, int, int], int]:
    def lseek(_fd: int, _at: int, _whence: int) -> int:
        raise OSError(number, os.strerror(number))

    return lseek


def test_file_truncated_while_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10000)
    with FileSource(path) as source:
        os.truncate(path, 6000)
        assert source.read(0, 6000) == b"x" * 6000
        with pytest.raises(CorruptError, match="truncated") as caught:
            source.read(5000, 2000)
    assert (caught.value.path, caught.value.offset) == (str(path), 6000)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        FileSource(tmp_path / "none")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_that_nobody_holds_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"here")
    before = _open_files()
    source: Source | None = Padded(FileSource(path), 8)
    assert source is not None
    assert bytes(source.read(0, 8)) == b"here\0\0\0\0"
    assert _open_files() == before + 1
    source = None
    assert _open_files() == before


def test_a_copy_that_nobody_holds_is_closed() -> None:
    before = _open_files()
    copy: Source | None = spooled([b"content"])
    assert copy is not None
    assert bytes(copy.read(0, 7)) == b"content"
    copy = None
    assert _open_files() == before
