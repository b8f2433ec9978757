"""Damage is named by health() and never raises once an image is open."""

from __future__ import annotations

import random
import struct

import pytest

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.fs.ext4 import checksums
from rehydrator.fs.ext4.c_ext4 import (
    SUPER_OFFSET,
    Compat,
    ExtentHeader,
    Incompat,
    Inode,
    MmpBlock,
    RoCompat,
    SuperBlock,
)
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.ext4.segments import Tag
from rehydrator.fs.place import Health, Kind, Place
from tests.test_ext4_images import image, opened
from tests.test_ext4_places import check_cover, whole

ROUNDS = 250
NAMED = {
    Kind.SUPERBLOCK: "superblock",
    Kind.BACKUP_SUPERBLOCK: "backup superblock",
    Kind.GROUP_DESCRIPTOR: "group descriptor",
    Kind.BACKUP_GROUP_DESCRIPTOR: "backup group descriptor",
    Kind.BLOCK_BITMAP: "block bitmap",
    Kind.INODE_BITMAP: "inode bitmap",
    Kind.INODE: "inode",
    Kind.DIRECTORY: "directory block",
    Kind.EXTENT_BLOCK: "extent block",
    Kind.XATTR_BLOCK: "xattr block",
    Kind.JOURNAL_SUPERBLOCK: "journal superblock",
    Kind.JOURNAL_DESCRIPTOR: "journal descriptor",
    Kind.JOURNAL_COPY: "journal copy",
    Kind.JOURNAL_COMMIT: "journal commit",
    Kind.JOURNAL_REVOKE: "journal revoke",
}


def content(name: str) -> bytearray:
    return bytearray(image(name).read_bytes())


def examine(data: bytes | bytearray) -> tuple[list[Place], list[Health]]:
    """Map and check an image; nothing but opening it may raise."""
    filesystem = Ext4Filesystem(BytesSource(bytes(data)))
    places = whole(filesystem)
    check_cover(places, [Extent(0, len(data))])
    return places, list(filesystem.health())


def flip(data: bytearray, offset: int, bit: int = 0) -> None:
    data[offset] ^= 1 << bit


@pytest.mark.parametrize("kind", NAMED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["kernel-1k", "kernel-4k"])
def test_a_flipped_bit_is_named(name: str, kind: Kind) -> None:
    filesystem = opened(name)
    states = filesystem.scan.states
    wanted = [
        place
        for place in whole(filesystem)
        if place.kind == kind
        and not (kind == Kind.JOURNAL_COPY and "(stale)" in place.name)
        and "resize" not in place.name
        and not (kind == Kind.INODE and (states[place.number] != 1 or place.number < 11))
    ]
    if kind in (Kind.BLOCK_BITMAP, Kind.INODE_BITMAP):
        wanted = [place for place in wanted if not filesystem.fs.groups[place.number].flags & 3]
    assert wanted
    place = random.Random(kind.value).choice(wanted)
    for at in (min(52, place.extent.length - 1), place.extent.length // 5):
        data = content(name)
        flip(data, place.extent.offset + at, 2)
        _, health = examine(data)
        named = [item for item in health if item.name.startswith(NAMED[kind])]
        assert named, (place, at, health)
        assert any(abs(item.offset - place.start) < filesystem.fs.geometry.block_size for item in named)


def test_damage_in_the_orphan_file_is_named() -> None:
    data = content("kernel-1k")
    place = next(place for place in whole(opened("kernel-1k")) if place.name.startswith("orphan file block"))
    flip(data, place.start + 8)
    _, health = examine(data)
    assert [item.name.split(" of ")[0].rsplit(" ", 1)[0] for item in health] == ["orphan file block"]
    assert health[0].offset == place.start


def test_damage_in_the_block_of_multi_mount_protection_is_named() -> None:
    place = next(place for place in whole(opened("2k")) if place.name == "multi-mount protection block")
    data = content("2k")
    flip(data, place.start + MmpBlock.offset_of("mmp_seq"))
    _, health = examine(data)
    assert [(item.name, item.offset) for item in health] == [(place.name, place.start)]
    assert "mmp_checksum" in health[0].problem


def test_a_block_of_multi_mount_protection_outside_of_the_file_system_is_named() -> None:
    data = content("2k")
    struct.pack_into("<Q", data, SUPER_OFFSET + SuperBlock.offset_of("s_mmp_block"), 1 << 40)
    _, health = examine(data)
    assert "s_mmp_block 1099511627776 is outside the file system" in [item.problem for item in health]


@pytest.mark.parametrize("name", ["ext3", "plain"])
def test_damage_without_checksums_is_found_by_contradiction(name: str) -> None:
    filesystem = opened(name)
    group = filesystem.fs.groups[0]
    data = content(name)
    flip(data, group.block_bitmap * filesystem.fs.geometry.block_size + 20)
    _, health = examine(data)
    assert any(item.name.startswith("block bitmap of group 0") or "free_blocks" in item.problem for item in health)


def test_blocks_claimed_twice_have_one_owner() -> None:
    filesystem = opened("4k")
    fs = filesystem.fs
    first, second = (fs.lookup(path) for path in ("/small.txt", "/dir/nested/deep.txt"))
    assert first is not None
    assert second is not None
    data = content("4k")
    source = fs.inode_offset(first) + Inode.offset_of("i_block")
    target = fs.inode_offset(second) + Inode.offset_of("i_block")
    data[target : target + 60] = data[source : source + 60]
    _, health = examine(data)
    assert any("also claimed by" in item.problem for item in health)


def test_trees_that_contain_themselves_end() -> None:
    filesystem = opened("kernel-1k")
    fs = filesystem.fs
    segments = [filesystem.segments[index] for index in range(len(filesystem.segments))]
    inner = next(item for item in segments if item.tag == Tag.EXTENT_BLOCK and item.logical > 0)
    data = content("kernel-1k")
    at = inner.start * fs.geometry.block_size + ExtentHeader.SIZE + 4
    data[at : at + 4] = struct.pack("<I", inner.start)
    _, health = examine(data)
    assert any("can't follow" in item.problem for item in health)


def test_directories_that_contain_each_other_have_no_path() -> None:
    filesystem = opened("1k")
    fs = filesystem.fs
    outer, inner = fs.lookup("/dir"), fs.lookup("/dir/nested")
    assert outer is not None
    assert inner is not None
    data = content("1k")
    root = fs.block_map(fs.inode(2)).runs[0].physical * fs.geometry.block_size
    block = bytes(data[root : root + 1024])
    at = root + block.index(struct.pack("<I", outer))
    data[at : at + 4] = bytes(4)  # no longer in the root, but below its own child
    nested = fs.block_map(fs.inode(inner)).runs[0].physical * fs.geometry.block_size
    at = nested + bytes(data[nested : nested + 1024]).index(b"deep.txt") - 8
    data[at : at + 4] = struct.pack("<I", outer)
    damaged = Ext4Filesystem(BytesSource(bytes(data)))
    assert damaged.path(outer) == ""
    assert damaged.path(inner) == ""
    examine(data)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_wise", [False, True], ids=["bits", "blocks"])
def test_random_damage_never_raises(seed: int, block_wise: bool) -> None:
    """Flip bits, or scramble parts, of metadata: opening may refuse, everything else must go on."""
    original = content("tiny")
    filesystem = Ext4Filesystem(BytesSource(bytes(original)))
    metadata = [
        place
        for place in whole(filesystem)
        if place.kind not in (Kind.FREE, Kind.JOURNAL_STALE, Kind.RESERVED_GDT)
        and (place.kind != Kind.INODE or filesystem.scan.states[place.number])
    ]
    chance = random.Random(seed)
    refused = 0
    for _ in range(ROUNDS):
        data = bytearray(original)
        for _ in range(chance.choice((1, 1, 1, 4))):
            place = chance.choice(metadata)
            at = place.extent.offset + chance.randrange(place.extent.length)
            if block_wise:
                size = chance.choice((2, 4, 8, 64))
                data[at : at + size] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))
            else:
                flip(data, at, chance.randrange(8))
        try:
            opened_again = Ext4Filesystem(BytesSource(bytes(data[: len(original)])))
        except RehydratorError:
            refused += 1
            continue
        check_cover(opened_again.places([Extent(0, len(original))]), [Extent(0, len(original))])
        list(opened_again.health())
    assert refused < ROUNDS // 2


def test_every_byte_of_the_superblock() -> None:
    original = content("tiny")
    for offset in range(SUPER_OFFSET, SUPER_OFFSET + 0x100):
        data = bytearray(original)
        flip(data, offset, offset * 5 % 8)
        try:
            opened_again = Ext4Filesystem(BytesSource(bytes(data)))
        except RehydratorError:
            continue
        check_cover(opened_again.places([Extent(0, len(original))]), [Extent(0, len(original))])
        assert any(item.name == "superblock" for item in opened_again.health()), offset


def patched(name: str, field: str, value: int) -> bytes:
    data = content(name)
    span = next(span for span in SuperBlock.FIELDS if span.name == field)
    at = SUPER_OFFSET + span.offset
    data[at : at + span.size] = value.to_bytes(span.size, "little")
    block = data[SUPER_OFFSET : SUPER_OFFSET + SuperBlock.SIZE]
    checksums.SUPERBLOCK.put(block, checksums.expected_superblock(bytes(block)))
    data[SUPER_OFFSET : SUPER_OFFSET + SuperBlock.SIZE] = block
    return bytes(data)


@pytest.mark.parametrize(
    ("field", "flag", "name"),
    [
        ("s_feature_ro_compat", RoCompat.BIGALLOC, "bigalloc"),
        ("s_feature_compat", Compat.SPARSE_SUPER2, "sparse_super2"),
        ("s_feature_incompat", Incompat.JOURNAL_DEV, "journal_dev"),
        ("s_feature_incompat", Incompat.COMPRESSION, "compression"),
        ("s_feature_incompat", 0x40000000, "0x40000000"),
    ],
)
def test_features_that_move_structures_are_refused_by_name(field: str, flag: int, name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        Ext4Filesystem(BytesSource(patched("tiny", field, getattr(opened("tiny").fs.superblock, field) | flag)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("s_magic", 0),
        ("s_log_block_size", 31),
        ("s_inode_size", 100),
        ("s_blocks_per_group", 0),
        ("s_inodes_per_group", 3),
        ("s_blocks_count_lo", 0xFFFFFFFF),
        ("s_inodes_count", 1),
        ("s_desc_size", 7),
        ("s_first_data_block", 9),
        ("s_reserved_gdt_blocks", 0xFFFF),
    ],
)
def test_what_is_not_ext4_is_refused(field: str, value: int) -> None:
    with pytest.raises(CorruptError, match=field.removesuffix("_lo")):
        Ext4Filesystem(BytesSource(patched("tiny", field, value)))


@pytest.mark.parametrize("data", [b"", bytes(1000), bytes(5000), b"\xff" * 4096])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        Ext4Filesystem(BytesSource(data))
