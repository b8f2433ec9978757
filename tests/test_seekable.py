"""The seekable zstd codec against slices of the content and against two other readers."""

from __future__ import annotations

import io
import itertools
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.codecs import seekable
from rehydrator.codecs.c_seekable import (
    SEEKABLE_MAGIC,
    SKIPPABLE_MAGIC,
    SeekTableEntry,
    SeekTableFooter,
    SkippableHeader,
)
from rehydrator.codecs.seekable import FRAME, MAX_FRAME, MAX_PREFIX, SeekableSource, compress, frames_of
from rehydrator.disk.composed import Zeros
from rehydrator.disk.extents import Extent, ExtentMap
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import CorruptError, StoreDamagedError
from tests.support.disks import random_sparse

SIZES = [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME + 12345]


def packed(pieces: list[bytes], *, level: int = 1, threads: int = 2) -> bytes:
    out = io.BytesIO()
    compress(pieces, out, level=level, threads=threads)
    return out.getvalue()


def pack(content: bytes, **options: int) -> bytes:
    return packed([bytes(frame) for frame in frames_of(BytesSource(content))], **options)


@pytest.fixture(scope="module")
def content() -> bytes:
    return random_sparse(11, SIZES[-1], 0.02) + b"text " * 5000


@pytest.fixture(scope="module")
def packed_file(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seekable") / "content.zst"
    path.write_bytes(pack(content))
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the numbers of the frames that are decoded whole, as they are."""
    numbers: list[int] = []
    whole = SeekableSource._decode

    def counted(source: SeekableSource, index: int) -> bytes:
        numbers.append(index)
        return whole(source, index)

    monkeypatch.setattr(SeekableSource, "_decode", counted)
    return numbers


@pytest.fixture(scope="module")
def many_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a file of forty frames, of 100,000 bytes with their number each."""
    path = tmp_path_factory.mktemp("seekable") / "many.zst"
    path.write_bytes(packed([bytes([number]) * 100_000 for number in range(40)]))
    return path


def read_whole(path: Path) -> bytes:
    with_threads = SeekableSource(FileSource(path), threads=2)
    try:
        return b"".join(
            bytes(with_threads.read(at, min(100_000, with_threads.size - at)))
            for at in range(0, with_threads.size, 100_000)
        )
    finally:
        with_threads.close()


@pytest.mark.parametrize("size", SIZES)
def test_round_trip_of_sizes(tmp_path: Path, size: int) -> None:
    data = random_sparse(size, size, 0.01)
    path = tmp_path / "file"
    path.write_bytes(pack(data))
    assert read_whole(path) == data


@given(data=st.binary(max_size=2000), frame=st.integers(1, 700))
def test_round_trip_of_small_frames(tmp_path: Path, data: bytes, frame: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(packed([data[at : at + frame] for at in range(0, len(data), frame)], level=19))
    assert read_whole(path) == data


@settings(max_examples=150)
@given(at=st.integers(0, SIZES[-1]), length=st.integers(0, 2 * FRAME), tiny=st.booleans())
def test_random_access(packed_file: Path, content: bytes, at: int, length: int, tiny: bool) -> None:
    source = SeekableSource(FileSource(packed_file), threads=1)
    length = min(length % 5000 if tiny else length, len(content) - at)
    assert bytes(source.read(at, length)) == content[at : at + length]
    source.close()


def test_reads_in_any_order_from_one_source(packed_file: Path, content: bytes) -> None:
    source = SeekableSource(FileSource(packed_file), threads=2)
    order = random.Random(3)
    for _ in range(60):
        at = order.randrange(len(content))
        length = min(order.randrange(1 << 16), len(content) - at)
        assert bytes(source.read(at, length)) == content[at : at + length]
    source.close()


def test_short_reads_decode_no_more_than_they_need(packed_file: Path, content: bytes, decoded: list[int]) -> None:
    """Edits look into a few places of a disk: no frame is decoded to its end for them, none ahead of them."""
    source = SeekableSource(FileSource(packed_file), threads=2)
    for at in (FRAME + 5, 2 * FRAME + 70_000, FRAME, 3 * FRAME - 9):
        assert bytes(source.read(at, 9)) == content[at : at + 9]
    assert not decoded
    assert bytes(source.read(FRAME, 1 << 20)) == content[FRAME : FRAME + (1 << 20)]
    assert bytes(source.read(FRAME + 7, 9)) == content[FRAME + 7 : FRAME + 16]
    assert decoded[0] == 1
    source.close()


@pytest.mark.parametrize("length", [9, 70_000])
def test_who_comes_back_finds_frames_kept(many_frames: Path, decoded: list[int], length: int) -> None:
    """Files are not read in the order in which a disk has them: few of 25 frames around are decoded more than twice."""
    source = SeekableSource(FileSource(many_frames), threads=1)
    for _ in range(20):
        for number in (*range(0, 39, 3), *range(1, 37, 3)):
            at = number * 100_000 + 5
            assert bytes(source.read(at, length)) == bytes([number]) * length
    assert len(decoded) <= 3 * 25
    source.close()


def test_a_frame_that_is_kept_counts_as_missed_no_more(many_frames: Path) -> None:
    """Only who misses frames again and again gets more of them kept."""
    source = SeekableSource(FileSource(many_frames), threads=1)
    for number in (*range(0, 20, 2), *[0, 18] * 9):
        source.read(number * 100_000, 70_000)
    assert source._keep == 2 * 7
    source.close()


def test_who_reads_on_keeps_few_frames(many_frames: Path, decoded: list[int]) -> None:
    source = SeekableSource(FileSource(many_frames), threads=1)
    for _ in range(2):
        for number in range(40):
            assert bytes(source.read(number * 100_000, 100_000)) == bytes([number]) * 100_000
            assert len(source._cache) <= 7
        assert len(source._cache) == 1
    assert sorted(decoded) == sorted([*range(40), *range(40)])
    source.close()


def test_frames_are_looked_into_anew_for_each_disk(many_frames: Path, decoded: list[int]) -> None:
    """Reading on to the end ends a disk: the next one's edits look into the same places."""
    source = SeekableSource(FileSource(many_frames), threads=1)
    for _ in range(3):
        for number in (30, 3, 20):
            assert bytes(source.read(number * 100_000 + 7, 5)) == bytes([number]) * 5
        assert not decoded
        for number in range(40):
            source.read(number * 100_000, 100_000)
        decoded.clear()
    source.close()


@pytest.mark.oracle
def test_pyzstd_reads_it(packed_file: Path, content: bytes) -> None:
    pyzstd = pytest.importorskip("pyzstd", reason="missing: Python package pyzstd")
    with pyzstd.SeekableZstdFile(packed_file) as stream:
        for at in (0, 5, FRAME - 3, 2 * FRAME, len(content) - 10):
            stream.seek(at)
            assert stream.read(1000) == content[at : at + 1000]
        stream.seek(0)
        assert stream.read() == content


@pytest.mark.oracle
def test_zstd_reads_it(packed_file: Path, content: bytes, need: Callable[..., None]) -> None:
    need("zstd")
    assert subprocess.run(["zstd", "-dc", packed_file], capture_output=True, check=True).stdout == content


@pytest.mark.oracle
def test_a_file_of_pyzstd_is_read(tmp_path: Path) -> None:
    """Other writers put checksums into the seek table."""
    pyzstd = pytest.importorskip("pyzstd", reason="missing: Python package pyzstd")
    path, data = tmp_path / "file", random_sparse(4, 300_000, 0.2)
    with pyzstd.SeekableZstdFile(path, "w", max_frame_content_size=100_000) as stream:
        stream.write(data)
    assert read_whole(path) == data


@pytest.mark.parametrize("level", [1, 7])
def test_threads_do_not_change_the_bytes(content: bytes, level: int) -> None:
    assert len({pack(content[: 2 * FRAME + 99], level=level, threads=threads) for threads in (1, 2, 5)}) == 1


def test_known_zeros_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(FRAME) + b"x" * FRAME + bytes(FRAME)
    path = tmp_path / "file"
    path.write_bytes(pack(data))
    decoded: list[int] = []
    original = seekable._decompress_frame

    def counted(frame: bytes, size: int, prefix: bytes) -> bytes:
        decoded.append(size)
        return original(frame, size, prefix)

    monkeypatch.setattr(seekable, "_decompress_frame", counted)
    source = SeekableSource(FileSource(path), threads=1, known=ExtentMap([Extent(FRAME, FRAME)]))
    assert b"".join(bytes(source.read(at, FRAME)) for at in range(0, 3 * FRAME, FRAME)) == data
    source.close()
    assert decoded == [FRAME]


def attempt(path: Path, content: bytes) -> bool:
    """Read a damaged file; tell whether that was noticed. Any error but the two promised ones is a failure."""
    try:
        found = read_whole(path)
    except (CorruptError, StoreDamagedError) as error:
        noticed = error
    else:
        assert found == content
        return False
    assert noticed.path == str(path)
    return True


def small_file(path: Path) -> bytes:
    data = random_sparse(8, 40_000, 0.4)
    path.write_bytes(packed([data[at : at + 10_000] for at in range(0, len(data), 10_000)]))
    return data


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = small_file(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), *range(len(whole) - 70, len(whole))]:
        path.write_bytes(whole[:length])
        assert attempt(path, content), length


def test_flips_are_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = small_file(path)
    whole = path.read_bytes()
    table = SkippableHeader.SIZE + 4 * SeekTableEntry.SIZE + SeekTableFooter.SIZE
    places: Iterator[int] = itertools.chain(range(0, len(whole), 41), range(len(whole) - table, len(whole)))
    noticed = 0
    for at in places:
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= mask
            path.write_bytes(damaged)
            noticed += attempt(path, content)
    assert noticed > 600


@pytest.mark.parametrize(
    ("compressed", "decompressed", "words"),
    [
        ([10, 20], [100, 200], "unusual size"),
        ([10, 20], [0, 0], "unusual size"),
        ([10, 21], [100, 50], "do not fill the file"),
        ([0xFFFFFFFF, 20], [100, 50], "do not fill the file"),
        ([30], [MAX_FRAME + 1], "unusual size"),
    ],
)
def test_lying_seek_tables(tmp_path: Path, compressed: list[int], decompressed: list[int], words: str) -> None:
    pairs = zip(compressed, decompressed, strict=True)
    table = b"".join(SeekTableEntry(Compressed_Size=c, Decompressed_Size=d).pack() for c, d in pairs)
    footer = SeekTableFooter(
        Number_Of_Frames=len(compressed), Seek_Table_Descriptor=0, Seekable_Magic_Number=SEEKABLE_MAGIC
    )
    header = SkippableHeader(Skippable_Magic_Number=SKIPPABLE_MAGIC, Frame_Size=len(table) + SeekTableFooter.SIZE)
    path = tmp_path / "file"
    path.write_bytes(bytes(30) + header.pack() + table + footer.pack())
    with pytest.raises(CorruptError, match=words):
        SeekableSource(FileSource(path), threads=1)


def test_frames_refer_to_what_comes_before(tmp_path: Path) -> None:
    """What is in the prefix already takes next to nothing, in each frame and wherever one begins to read."""
    words = random.Random(5).randbytes(300_000)
    content = (words[1000:] + b"new") * 20
    path = tmp_path / "after"
    pieces = [content[at : at + FRAME] for at in range(0, len(content), FRAME)]
    with path.open("wb") as out:
        compress(pieces, out, level=3, threads=2, prefix=words)
    assert path.stat().st_size < len(words) // 10
    for at, length in ((0, len(content)), (FRAME + 77, 100), (FRAME - 9, 5000), (5, 0)):
        source = SeekableSource(FileSource(path), threads=2, prefix=BytesSource(words))
        assert bytes(source.read(at, length)) == content[at : at + length]
        source.close()


@pytest.mark.parametrize("prefix", [None, BytesSource(b"something else"), BytesSource(bytes(300_000))])
def test_frames_without_what_they_refer_to(tmp_path: Path, prefix: BytesSource | None) -> None:
    words = random.Random(5).randbytes(300_000)
    path = tmp_path / "after"
    with path.open("wb") as out:
        compress([words], out, level=3, threads=1, prefix=words)
    source = SeekableSource(FileSource(path), threads=1, prefix=prefix)
    with pytest.raises(StoreDamagedError, match="can't be decompressed"):
        source.read(0, source.size)
    source.close()


def test_too_much_to_refer_to(packed_file: Path) -> None:
    with pytest.raises(StoreDamagedError, match="refers to too much"):
        SeekableSource(FileSource(packed_file), threads=1, prefix=Zeros(MAX_PREFIX + 1))
