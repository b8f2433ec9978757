"""Every byte of an ext4 image has exactly one name, and the right one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, FileSource, Padded, Window
from rehydrator.fs.ext4.c_ext4 import GroupDesc64, Inode, LargeInode, SuperBlock
from rehydrator.fs.ext4.inode import inode_fields
from rehydrator.fs.ext4.jbd2 import Age
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import Kind, Place
from tests.test_ext4_images import FROM_KERNEL, FROM_TREE, MIB, image, opened, pending, tool

ALL = (*FROM_TREE, *FROM_KERNEL, "tiny")


def whole(filesystem: Ext4Filesystem) -> list[Place]:
    return list(filesystem.places([Extent(0, filesystem.size)]))


def check_cover(places: Iterator[Place] | list[Place], ranges: list[Extent]) -> None:
    """Check that the places cover the ranges exactly, in order, and that each lies within its structure."""
    pieces = iter(places)
    for wanted in ranges:
        at = wanted.offset
        while at < wanted.end:
            place = next(pieces)
            assert place.extent.offset == at
            assert 0 < place.extent.length <= wanted.end - at
            assert place.start <= at
            assert place.name
            at = place.extent.end
    assert next(pieces, None) is None


@pytest.mark.parametrize("size", [128, 256, 1024])
@pytest.mark.parametrize("extra", [0, 4, 24, 28, 30, 32, 40])
def test_fields_cover_an_inode(size: int, extra: int) -> None:
    """Whatever its fields are, each has bytes, and each byte a name."""
    spans = inode_fields(size, min(extra, size - 128))
    assert all(span.size for span in spans)
    ends = [0, *(span.offset + span.size for span in spans)]
    assert [span.offset for span in spans] == ends[:-1]
    assert ends[-1] == size


@pytest.mark.parametrize("name", ALL)
def test_places_cover_the_whole_image(name: str) -> None:
    filesystem = opened(name)
    check_cover(filesystem.places([Extent(0, filesystem.size)]), [Extent(0, filesystem.size)])


@pytest.mark.parametrize("name", ["1k", "4k", "kernel-1k", "tiny"])
def test_places_of_ranges_are_cut_from_the_whole(name: str) -> None:
    filesystem = opened(name)
    byte_owner = {(place.start, place.kind, place.name) for place in whole(filesystem)}

    @given(st.lists(st.integers(0, filesystem.size - 1), min_size=2, max_size=12, unique=True))
    def check(borders: list[int]) -> None:
        borders = sorted(borders)
        ranges = [Extent(a, b - a) for a, b in zip(borders[::2], borders[1::2], strict=False)]
        ranges = [Extent(item.offset, min(item.length, 40_000)) for item in ranges]
        places = list(filesystem.places(ranges))
        check_cover(places, ranges)
        assert {(place.start, place.kind, place.name) for place in places} <= byte_owner

    check()


@pytest.mark.parametrize("name", ["1k", "2k", "4k", "ext3", "kernel-1k", "kernel-4k"])
def test_file_data_has_path_and_offset(name: str) -> None:
    filesystem = opened(name)
    contents: dict[str, bytes] = {}
    for place in whole(filesystem):
        if place.kind == Kind.FILE_DATA and place.path:
            if place.path not in contents:
                assert filesystem.fs.lookup(place.path, follow=False) == place.number
                contents[place.path] = filesystem.fs.read_file(place.number)
            data = filesystem.fs.read(place.extent.offset, place.extent.length)
            assert data == contents[place.path][place.file_offset : place.file_offset + place.extent.length]
    assert len(contents) > 2


def test_slack_begins_where_the_file_ends() -> None:
    filesystem = opened("1k")
    places = [place for place in whole(filesystem) if place.path == "/tiny"]
    assert [(place.kind, place.file_offset, place.extent.length) for place in places] == [
        (Kind.INODE, 0, 256),
        (Kind.FILE_DATA, 0, 1),
        (Kind.SLACK, 1, 1023),
    ]


@pytest.mark.parametrize("name", ["1k", "4k", "narrow", "kernel-1k"])
def test_fields_are_those_of_the_structures(name: str) -> None:
    filesystem = opened(name)
    fs = filesystem.fs
    kinds: set[Kind] = set()
    for place in whole(filesystem):
        if not place.fields:
            continue
        kinds.add(place.kind)
        end = 0
        for span in place.fields:
            assert span.offset >= end, (place, span)
            end = span.offset + span.size
        assert end <= (1024 if place.kind == Kind.JOURNAL_SUPERBLOCK else max(fs.geometry.block_size, SuperBlock.SIZE))
    assert {Kind.SUPERBLOCK, Kind.GROUP_DESCRIPTOR, Kind.INODE, Kind.JOURNAL_SUPERBLOCK} <= kinds
    inode = next(filesystem.places([Extent(fs.inode_offset(2), 256)]))
    values = {span.name: fs.read(inode.start + span.offset, span.size) for span in inode.fields}
    assert int.from_bytes(values["i_mode"], "little") == fs.inode(2).disk.i_mode
    assert inode.fields[: len(Inode.FIELDS)] == Inode.FIELDS
    assert inode.fields[: len(LargeInode.FIELDS)] == LargeInode.FIELDS
    assert inode.fields[-1].name == "i_xattr_ibody"
    assert inode.path == "/"


def test_descriptors_and_superblock_are_places_of_their_own() -> None:
    filesystem = opened("4k")
    fs = filesystem.fs
    first, second, third = list(filesystem.places([Extent(0, 4096)]))
    assert (first.kind, second.kind, third.kind) == (Kind.BOOT_SECTOR, Kind.SUPERBLOCK, Kind.SLACK)
    assert second.fields == SuperBlock.FIELDS
    descriptor = next(filesystem.places([Extent(fs.geometry.desc_offset(0), 64)]))
    assert (descriptor.kind, descriptor.number, descriptor.fields) == (Kind.GROUP_DESCRIPTOR, 0, GroupDesc64.FIELDS)


@pytest.mark.parametrize("name", FROM_KERNEL)
def test_journal_blocks_say_what_they_copy(name: str) -> None:
    filesystem = opened(name)
    places = whole(filesystem)
    kinds = {place.kind for place in places}
    assert {
        Kind.JOURNAL_SUPERBLOCK,
        Kind.JOURNAL_DESCRIPTOR,
        Kind.JOURNAL_COPY,
        Kind.JOURNAL_COMMIT,
        Kind.JOURNAL_REVOKE,
        Kind.JOURNAL_STALE,
    } <= kinds
    names = [place.name for place in places if place.kind == Kind.JOURNAL_COPY]
    assert any("inode table block" in text and "(inodes " in text for text in names)
    assert any("directory block" in text and " of /" in text for text in names)
    assert all(" of transaction " in text for text in names)


def test_newest_transactions_are_the_latest() -> None:
    journal = opened("kernel-1k").journal
    assert journal is not None
    latest = [item.sequence for item in journal.transactions if item.age == Age.LATEST]
    assert latest == list(range(latest[0], journal.transactions[-1].sequence + 1))
    assert not journal.needs_recovery
    stale = [item for item in journal.transactions if item.age == Age.STALE]
    assert all(item.sequence < latest[0] for item in stale)


def test_pending_journal_is_reported_and_named() -> None:
    filesystem = Ext4Filesystem(FileSource(pending()))
    journal = filesystem.journal
    assert journal is not None
    assert journal.needs_recovery
    sequences = [item.sequence for item in journal.transactions if item.age == Age.PENDING]
    assert sequences[0] == journal.superblock.s_sequence
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    output = tool("debugfs", "-R", "logdump -a", pending())
    assert all(f"sequence {number}," in output for number in sequences)
    assert [item.name for item in filesystem.health()] == ["journal"]
    assert any("to be replayed" in place.name for place in whole(filesystem))


def test_inode_states() -> None:
    filesystem = opened("kernel-1k")
    names = {place.name.rsplit(" ", 1)[0] for place in whole(filesystem) if place.kind == Kind.INODE}
    assert {"inode", "unused inode", "deleted inode"} <= names
    device = filesystem.fs.lookup("/device")
    assert device is not None
    assert not filesystem.fs.has_blocks(filesystem.fs.inode(device))


def test_partition_larger_than_the_file_system_and_a_truncated_one() -> None:
    inner = FileSource(image("tiny"))
    larger = Ext4Filesystem(Padded(inner, inner.size + 5000))
    places = whole(larger)
    check_cover(places, [Extent(0, inner.size + 5000)])
    assert places[-1].name == "slack behind the file system"
    shorter = Ext4Filesystem(Window(inner, 0, inner.size - 700_001))
    check_cover(whole(shorter), [Extent(0, inner.size - 700_001)])
    assert any("truncated" in item.problem for item in shorter.health())


def test_window_shows_a_part() -> None:
    source = BytesSource(bytes(range(256)) * 64)
    window = Window(source, 100, 5000)
    assert window.read(3, 10) == source.read(103, 10)
    assert list(window.extents()) == [Extent(0, 5000)]
    with pytest.raises(ValueError, match="window"):
        Window(source, 0, source.size + 1)
    inner = FileSource(image("1k"))
    moved = Ext4Filesystem(Window(Padded(inner, inner.size + MIB), 0, inner.size))
    assert moved.fs.lookup("/small.txt") == opened("1k").fs.lookup("/small.txt")


def test_mapping_is_fast(tmp_path: Path) -> None:
    """The figure to reach is 2 s for 50,000 files; this asks for a fifth of them, with room for a slow machine."""
    root = tmp_path / "tree"
    for directory in range(100):
        (root / f"d{directory}").mkdir(parents=True)
        for index in range(100):
            (root / f"d{directory}" / f"file-{index}").write_bytes(b"x" * (index * 97))
    path = tmp_path / "big.img"
    tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-N", "16384", "-d", root, path, "200M")
    start = time.process_time()
    filesystem = Ext4Filesystem(FileSource(path))
    list(filesystem.places([Extent(0, 4096)]))
    assert time.process_time() - start < 1.0
    start = time.process_time()
    ranges = [Extent(offset, 4096) for offset in range(0, filesystem.size, filesystem.size // 300 // 512 * 512)]
    check_cover(filesystem.places(ranges[:-1]), ranges[:-1])
    assert time.process_time() - start < 0.5
