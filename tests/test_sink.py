"""Sinks: the same bytes in files, streams and hashes; a file gets its name last."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import CHUNK, PIECE, Data
from rehydrator.disk.sink import FileSink, HashSink, Sink, StreamSink, Tee, copy
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import OutputClosedError, OutputError
from tests.support.cli import hidden

steps = st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 3 * CHUNK)), max_size=8)


@given(steps)
def test_all_sinks_agree(tmp_path: Path, pieces: list[bytes | int]) -> None:
    expected = b"".join(bytes(piece) if isinstance(piece, int) else piece for piece in pieces)
    stream = io.BytesIO()
    sha256 = HashSink()
    path = tmp_path / "file"
    plain = tmp_path / "plain"
    with FileSink(path) as sparse, FileSink(plain, sparse=False) as full:
        tee = Tee(StreamSink(stream, "stream"), sha256, sparse, full)
        for piece in pieces:
            if isinstance(piece, int):
                tee.skip(piece)
            else:
                tee.write(piece)
        sparse.commit()
        full.commit()
    assert sha256.hexdigest() == hashlib.sha256(expected).hexdigest()
    assert sha256.size == len(expected)
    assert stream.getvalue() == path.read_bytes() == plain.read_bytes() == expected


@pytest.mark.parametrize("depth", [0, 8])
def test_the_digest_is_that_of_all_bytes(depth: int) -> None:
    """Also where the thread that hashes is behind."""
    sink = HashSink(depth)
    sink.skip(64 * CHUNK)
    sink.write(b"end")
    assert sink.hexdigest() == hashlib.sha256(bytes(64 * CHUNK) + b"end").hexdigest()


def test_holes_stay_holes(tmp_path: Path) -> None:
    source_path, path = tmp_path / "source", tmp_path / "out"
    with source_path.open("wb") as out:
        out.seek(1 << 32)
        out.write(b"data")
    with FileSource(source_path) as source, FileSink(path) as sink:
        copy(source, sink)
        sink.commit()
    assert path.stat().st_size == (1 << 32) + 4
    assert path.stat().st_blocks * 512 < CHUNK


@pytest.mark.parametrize(("piece", "most"), [(None, PIECE), (CHUNK, CHUNK)])
def test_pieces_have_the_size_that_was_asked_for(piece: int | None, most: int) -> None:
    class Lengths(Sink):
        def __init__(self) -> None:
            self.found: list[int] = []

        def write(self, data: Data) -> None:
            self.found.append(len(data))

        def skip(self, length: int) -> None:
            raise AssertionError("there are no zeros")

    sink = Lengths()
    copy(BytesSource(b"x" * (3 * CHUNK + 1)), sink, *([piece] if piece else []))
    assert (max(sink.found), sum(sink.found)) == (most, 3 * CHUNK + 1)


@pytest.mark.parametrize("existing", [None, b"old"])
def test_nothing_without_commit(tmp_path: Path, existing: bytes | None) -> None:
    path = tmp_path / "file"
    if existing is not None:
        path.write_bytes(existing)
    with FileSink(path) as sink:
        sink.write(b"new")
        assert len(hidden(tmp_path)) == 1
    assert hidden(tmp_path) == []
    assert (path.read_bytes() if path.exists() else None) == existing


def test_commit_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer old file")
    with FileSink(path) as sink:
        sink.write(b"new")
        sink.commit()
    assert path.read_bytes() == b"new"
    assert hidden(tmp_path) == []


def test_a_link_under_the_final_name_is_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    with FileSink(path) as sink:
        sink.write(b"new")
        sink.commit()
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, OutputError, "Free some space"),
        (errno.EIO, OutputError, "cannot be written"),
        (errno.EPIPE, OutputClosedError, "went away"),
    ],
)
def test_errors_of_streams(number: int, kind: type[OutputError], words: str) -> None:
    class Broken(io.RawIOBase):
        def write(self, _data: object) -> int:
            raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match=words) as caught:
        StreamSink(Broken(), "stream").write(b"x")  # type: ignore[arg-type]
    assert type(caught.value) is kind


def test_short_writes_are_continued() -> None:
    class Slow(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(memoryview(data)[:3])  # type: ignore[arg-type]

    stream = Slow()
    StreamSink(stream, "stream").write(b"0123456789")
    assert stream.getvalue() == b"0123456789"


@pytest.mark.parametrize("name", ["missing/file", "plain/file"])
def test_impossible_places(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(OutputError), FileSink(tmp_path / name):
        pass


def test_a_directory_under_the_final_name(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with FileSink(tmp_path / "file") as sink, pytest.raises(OutputError, match="directory"):
        sink.commit()
    assert hidden(tmp_path) == []
