"""The squashfs layer on file systems of the real mksquashfs: exact both ways, and the files found in it."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehydrator.codecs import zstd
from rehydrator.disk.extents import BLOCK, Data, Extent
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.fs import path_room
from rehydrator.fs.squashfs import names, plan
from rehydrator.fs.squashfs.c_squashfs import BLOCK_WORD, SuperBlock
from rehydrator.fs.squashfs.owner import SquashfsFilesystem
from rehydrator.fs.squashfs.tables import open_file_system
from rehydrator.layers.squashfs import SquashfsLayer
from rehydrator.layers.squashfs_record import SquashfsRecord
from rehydrator.layers.table import format_of
from tests.support.codecs import with_wheels
from tests.support.compressible import compressible
from tests.support.containers import PATH, check_complete, exact

LAYER = SquashfsLayer()
CODE = Path(os.path.realpath("/bin/ls"))  # which filters for code change
FILES = {
    "large": compressible(1, 300_001),
    "block": compressible(2, 131_072, holes=0),
    "tail": compressible(3, 140_000, holes=0),
    "incompressible": random.Random(4).randbytes(20_000),
    "small/one": b"1\n",
    "small/two": compressible(5, 5_000, holes=0),
    "small/empty": b"",
    "code": CODE.read_bytes()[:100_000],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds: of blocks, of tails, of both, holes, links, duplicates, attributes."""
    top = tmp_path_factory.mktemp("tree")
    for name, data in FILES.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(data)
    (top / "same").write_bytes(FILES["tail"])
    os.link(top / "large", top / "small/linked")
    (top / "small/symlink").symlink_to("../large")
    with (top / "sparse").open("wb") as stream:
        stream.truncate(40 << 20)
        stream.seek(3 << 20)
        stream.write(FILES["tail"])
    with (top / "hole").open("wb") as stream:
        stream.truncate(300_000)
    os.mkfifo(top / "small/pipe")
    directory = top / "many"
    directory.mkdir()
    for number in range(600):
        (directory / f"a file with a rather long name, number {number}").write_bytes(b"%d" % number)
    for name in ("large", "small/one"):
        os.setxattr(top / name, "user.label", b"system_u:object_r:usr_t:s0")
    return top


def made(tree: Path, target: Path, *options: str) -> FileSource:
    """Let mksquashfs make a file system."""
    command = ["mksquashfs", str(tree), str(target), "-quiet", "-no-progress", "-noappend", *options]
    subprocess.run(command, check=True, capture_output=True)
    return FileSource(target)


def check_contents(outer: Source, inner: Source) -> None:
    """Each file's content lies at a multiple of a block, and all of them make the same as unsquashfs extracts."""
    opened = open_file_system(outer)
    disk = bytes(inner.read(0, inner.size))
    base = -(-(len(opened.metadata) + sum(gap.length for gap in opened.plan.gaps)) // BLOCK) * BLOCK
    found = {disk[base + item.place : base + item.place + item.size] for item in opened.plan.files}
    assert all(item.place % BLOCK == 0 for item in opened.plan.files)
    assert {data for data in FILES.values() if data} <= found


VARIANTS = (
    "gzip",
    "gzip -Xcompression-level 4 -Xwindow-size 12 -b 16K -no-fragments",
    "gzip -always-use-fragments -no-duplicates -no-exports -no-xattrs",
    "gzip -noI -noD -noF -noX -nopad",
    "gzip -Xstrategy filtered",
    "gzip -Xstrategy default,huffman_only,run_length_encoded,fixed -b 64K",
    "xz -b 4K",
    "xz -Xbcj x86,arm -Xdict-size 50%",
)


@pytest.mark.oracle
@pytest.mark.parametrize("options", VARIANTS)
def test_variants(tree: Path, tmp_path: Path, options: str) -> None:
    with made(tree, tmp_path / "fs", "-comp", *options.split()) as outer:
        found = format_of(outer)
        assert found is not None
        assert found.name == "squashfs"
        record, inner = exact(LAYER, outer)
        assert record.patched is None
        assert record.compression == options.split(maxsplit=1)[0]
        assert record.encoder in LAYER.describe(record)
        check_contents(outer, inner)
        assert LAYER.look(outer, PATH).record == msgspec.structs.replace(record, encoder="")


@pytest.mark.oracle
def test_what_follows_the_file_system(tree: Path, tmp_path: Path) -> None:
    """A hash tree, for example."""
    with made(tree / "small", tmp_path / "fs", "-comp", "gzip") as outer:
        data = bytes(outer.read(0, outer.size)) + FILES["incompressible"]
    record, inner = exact(LAYER, BytesSource(data))
    assert record.file_size == len(data)
    assert bytes(inner.read(0, inner.size)).endswith(FILES["incompressible"])


class Backwards(Source):
    """Content that lies from its end to its beginning somewhere else, and notes where it is read."""

    def __init__(self, inner: Source) -> None:
        self.size = inner.size
        self.read_at: list[int] = []
        self._inner = inner

    def read(self, offset: int, length: int) -> Data:
        self.read_at.append(offset)
        return self._inner.read(offset, length)

    def extents(self) -> Iterator[Extent]:
        return self._inner.extents()

    def near(self, offset: int) -> int:
        return self.size - offset


@pytest.mark.oracle
def test_content_is_read_in_the_order_of_where_it_lies(tree: Path, tmp_path: Path) -> None:
    """Whatever order the file system has its blocks in, and although some are put together of several files."""
    with made(tree, tmp_path / "fs", "-comp", "gzip", "-b", "4K") as outer:
        record, inner = exact(LAYER, outer)
        backwards = Backwards(inner)
        wrapped = LAYER.wrap(backwards, record)
        backwards.read_at.clear()
        pieces = (bytes(wrapped.read(at, min(5000, wrapped.size - at))) for at in range(0, wrapped.size, 5000))
        assert b"".join(pieces) == bytes(outer.read(0, outer.size))
    assert len(backwards.read_at) > 700
    # each batch goes through the content once: of 64 blocks, then 256, then as many as are left
    assert sum(before < after for before, after in itertools.pairwise(backwards.read_at)) <= 3


@pytest.fixture
def _no_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from with_wheels(monkeypatch, tmp_path / "none")


@pytest.mark.oracle
def test_zstd_by_its_version(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched_codecs: Callable[[], Path]
) -> None:
    """One of the versions that are known gives each block back: Debian 12 has 1.5.4, which is like 1.5.5."""
    for _ in with_wheels(monkeypatch, fetched_codecs()):
        with made(tree, tmp_path / "fs", "-comp", "zstd") as outer:
            record, inner = exact(LAYER, outer)
            check_contents(outer, inner)
        assert record.patched is None
        assert record.encoder.removeprefix("zstd-").removesuffix("-15") in zstd.CLASSES
        with made(tree, tmp_path / "fs2", "-comp", "zstd", "-Xcompression-level", "7") as outer:
            record, _ = exact(LAYER, outer)
        assert record.patched is None
        assert record.encoder.endswith("-7")


@pytest.mark.oracle
@pytest.mark.usefixtures("_no_wheels")
def test_blocks_of_another_version_are_patched(tree: Path, tmp_path: Path) -> None:
    """Without the right version the file system is exact as well, or refused."""
    with made(tree, tmp_path / "fs", "-comp", "zstd") as outer:
        try:
            record, inner = exact(LAYER, outer)
        except UnsupportedError as error:
            check_complete(error)
            return
        check_contents(outer, inner)
    assert record.patched is None or "patched" in LAYER.describe(record)


@pytest.mark.usefixtures("_no_wheels")
def test_a_missing_version_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"zstandard==0\.22\.0 is needed") as caught:
        zstd.encoder("zstd-1.5.5-15")
    assert "scripts/fetch-codecs" in str(caught.value.hint)


@pytest.mark.oracle
@pytest.mark.parametrize("compression", ["lzo", "lz4"])
def test_other_compressions_are_refused(tree: Path, tmp_path: Path, compression: str) -> None:
    with (
        made(tree / "small", tmp_path / "fs", "-comp", compression) as outer,
        pytest.raises(UnsupportedError, match=f"not known here .*found {compression}") as caught,
    ):
        LAYER.unwrap(outer, PATH)
    check_complete(caught.value)


@pytest.mark.oracle
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 30_000)), max_size=12),
    options=st.lists(st.sampled_from(["-no-fragments", "-always-use-fragments", "-noI", "-no-exports"]), unique=True),
    block=st.sampled_from(["4K", "8K", "128K"]),
)
def test_any_tree_comes_back(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], options: list[str], block: str
) -> None:
    top = tmp_path_factory.mktemp("any")
    (top / "tree").mkdir()
    for number, (seed, size) in enumerate(sizes):
        (top / "tree" / f"{number}").write_bytes(compressible(seed, size, noise=0.2))
    with made(top / "tree", top / "fs", "-comp", "gzip", "-b", block, *options) as outer:
        exact(LAYER, outer)


@pytest.fixture(scope="module")
def small(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "fs"
    with made(tree / "small", path, "-comp", "gzip") as outer:
        return bytes(outer.read(0, outer.size))


def written(inner: Source, record: SquashfsRecord) -> bytes:
    wrapped = LAYER.wrap(inner, record)
    return bytes(wrapped.read(0, wrapped.size))


def changed(data: bytes, **fields: int) -> bytes:
    return SuperBlock.parse(data).replaced(**fields).pack() + data[SuperBlock.SIZE :]


@pytest.mark.oracle
def test_damaged_file_systems(small: bytes) -> None:
    good = SuperBlock.parse(small)
    inodes = good.inode_table_start
    cases: list[tuple[bytes, type[RehydratorError], str]] = [
        (small[:50], CorruptError, "cut short"),
        (small[: good.bytes_used - 1], CorruptError, "cut short"),
        (changed(small, s_major=3), UnsupportedError, "another version"),
        (changed(small, block_log=13), CorruptError, "block size"),
        (changed(small, block_size=1 << 21, block_log=21), CorruptError, "block size"),
        (changed(small, inode_table_start=good.bytes_used), CorruptError, "lies outside"),
        (changed(small, directory_table_start=inodes + 1), CorruptError, "metadata block"),
        (changed(small, id_table_start=good.bytes_used + 5000), CorruptError, "cut short"),
        (changed(small, inodes=good.inodes + 1), CorruptError, "unknown type|cut short|index|overlap"),
        (small[:inodes] + b"\xff\x7f" + small[inodes + 2 :], CorruptError, "metadata block"),
        (small[: inodes + 9] + b"\xff" * 8 + small[inodes + 17 :], CorruptError, "damaged"),
        (small[:130] + b"\xff" * 40 + small[170:], CorruptError, "damaged"),
    ]
    for data, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            LAYER.unwrap(BytesSource(data), PATH)
        check_complete(caught.value)


@pytest.mark.oracle
def test_limits(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hostile file system says of itself takes no memory without end."""
    monkeypatch.setattr(plan, "MAX_PIECES", 2)
    with pytest.raises(CorruptError, match="too many of them") as caught:
        LAYER.unwrap(BytesSource(small), PATH)
    check_complete(caught.value)
    monkeypatch.undo()
    for module, limit in ((names, "_MAX_INODES"), (path_room, "_MAX_NAMES"), (path_room, "_MAX_CHARACTERS")):
        monkeypatch.setattr(module, limit, 3)
        filesystem = SquashfsFilesystem(BytesSource(small))
        assert filesystem.nodes == {}
        assert [item.problem.split()[:2] for item in filesystem.health()] == [["too", "many"]]
        monkeypatch.undo()
    assert SquashfsFilesystem(BytesSource(small)).nodes


@pytest.mark.oracle
def test_blocks_of_impossible_sizes(tree: Path, tmp_path: Path) -> None:
    """A stored block that is larger than blocks are."""
    with made(tree, tmp_path / "fs", "-comp", "gzip", "-b", "4K", "-noI", "-noX") as outer:
        data = bytes(outer.read(0, outer.size))
    opened = open_file_system(BytesSource(data))
    word = BLOCK_WORD.pack(opened.plan.blocks[0].word)
    at = data.index(word, opened.superblock.inode_table_start)
    damaged = data[:at] + BLOCK_WORD.pack(4097) + data[at + BLOCK_WORD.size :]
    with pytest.raises(CorruptError, match="a block of an impossible size") as caught:
        LAYER.unwrap(BytesSource(damaged), PATH)
    check_complete(caught.value)


@pytest.mark.oracle
def test_forged_records(small: bytes) -> None:
    unwrapped = LAYER.unwrap(BytesSource(small), PATH)
    good: SquashfsRecord = unwrapped.record
    changes: list[dict[str, object]] = [
        {"compression": "lzma"},
        {"encoder": "liblzma-6"},
        {"block_size": 100},
        {"block_size": -1},
        {"mkfs_time": 1 << 32},
        {"flags": 1 << 10},
        {"file_size": 5},
        {"file_size": good.file_size + 1},
        {"bytes_used": 5},
        {"inode_table_start": 0},
        {"inode_table_start": good.inode_table_start - 1},
        {"inodes": good.inodes + 1},
        {"metadata": []},
        {"metadata": good.metadata[1:]},
        {"metadata": [msgspec.structs.replace(good.metadata[0], size=-1), *good.metadata[1:]]},
        {"metadata": [msgspec.structs.replace(good.metadata[0], size=1 << 60), *good.metadata[1:]]},
    ]
    for change in changes:
        with pytest.raises((MismatchError, UnsupportedError)):
            written(unwrapped.inner, msgspec.structs.replace(good, **change))
