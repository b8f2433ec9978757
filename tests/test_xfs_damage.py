"""Flipped bits in XFS: nothing crashes, everything is still covered, and what has a checksum is named."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from rehydrator.disk.extents import Extent
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import FileSource
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.place import Kind, Place
from rehydrator.fs.xfs.c_xfs import XfsBtreeShort
from rehydrator.fs.xfs.c_xfs_log import BBSIZE
from rehydrator.fs.xfs.checksums import reseal
from rehydrator.fs.xfs.owner import XfsFilesystem
from tests.test_xfs_image import assert_covers, filesystem_of, image_of, require

FLIPS = int(os.environ.get("REHYDRATOR_FLIPS", "48"))
_METADATA = (
    Kind.SUPERBLOCK, Kind.BACKUP_SUPERBLOCK, Kind.AGF, Kind.AGI, Kind.AGFL, Kind.BTREE_BLOCK, Kind.INODE,
    Kind.DIRECTORY, Kind.XATTR_BLOCK, Kind.SYMLINK, Kind.LOG_HEADER, Kind.LOG_PAYLOAD,
)  # fmt: skip


def flipped(source: FileSource, offset: int, bit: int) -> Overlay:
    overlay = Overlay(source)
    overlay.write(offset, bytes([bytes(source.read(offset, 1))[0] ^ 1 << bit]))
    return overlay


def exercise(filesystem: XfsFilesystem, focus: int) -> list[str]:
    """Use everything there is on a damaged file system; return the problems."""
    ranges = [Extent(0, 1 << 14), Extent(max(focus - 4096, 1 << 14), 8192)]
    ranges = [extent for extent in ranges if extent.end <= filesystem.size]
    assert_covers(list(filesystem.places(ranges)), ranges)
    filesystem.sealed_at(focus)
    inode = filesystem.reader.lookup("/directory-node/entry-00001-" + "x" * 20, follow=False)
    if inode is not None and inode.size < 1 << 20:
        filesystem.reader.read_file(inode)
    return [f"{problem.name}: {problem.problem}" for problem in filesystem.health()]


@pytest.fixture(params=["coreos", "blocks"])
def variant(request: pytest.FixtureRequest, need: Callable[..., None]) -> str:
    require(need)
    return str(request.param)


def _targets(variant: str) -> dict[Kind, list[Place]]:
    filesystem = filesystem_of(variant)
    targets: dict[Kind, list[Place]] = {kind: [] for kind in _METADATA}
    for place in filesystem.places([Extent(0, filesystem.size)]):
        if place.kind in targets:
            targets[place.kind].append(place)
    return targets


def test_flipped_bits_are_named_and_nothing_crashes(variant: str) -> None:
    source = FileSource(image_of(variant))
    targets = _targets(variant)
    log = filesystem_of(variant).reader.log
    whole = {record.block for record in log.records if record.whole and record.header.h_crc != bytes(4)}
    random_ = random.Random(1)
    for number in range(FLIPS):
        kind = _METADATA[number % len(_METADATA)]
        place = random_.choice(targets[kind])
        offset = place.extent.offset + random_.randrange(place.extent.length)
        try:
            problems = exercise(XfsFilesystem(flipped(source, offset, random_.randrange(8))), offset)
        except (CorruptError, UnsupportedError):
            assert offset < 512, (offset, place)
            continue
        if kind in {Kind.LOG_HEADER, Kind.LOG_PAYLOAD}:
            within = offset - place.start
            if place.number not in whole or (kind is Kind.LOG_HEADER and within >= 328):
                continue
            # A block whose cycle or magic number is wrong is no part of a record any more, as for the kernel; and a
            # record that seems longer than it is can't be told from one that was overwritten in part.
            if within % BBSIZE < 4 or (kind is Kind.LOG_HEADER and within in range(12, 16)):
                continue
        assert problems, (place.name, offset - place.start)


def test_wrong_metadata_under_a_right_checksum_does_not_crash(variant: str) -> None:
    """Damage that the checksum does not show reaches much deeper."""
    source = FileSource(image_of(variant))
    targets = _targets(variant)
    original = filesystem_of(variant)
    kinds = [kind for kind in _METADATA if kind not in {Kind.LOG_HEADER, Kind.LOG_PAYLOAD}]
    random_ = random.Random(2)
    for number in range(FLIPS):
        place = random_.choice(targets[kinds[number % len(kinds)]])
        sealed = original.sealed_at(place.extent.offset)
        assert sealed is not None
        data = bytearray(source.read(sealed.offset, sealed.length))
        for _ in range(random_.randrange(1, 6)):
            span = random_.choice(place.fields)
            at = min(span.offset + random_.randrange(span.size), sealed.length - 1)
            data[at] = random_.choice((0, 0xFF, 0x80, random_.randrange(256)))
        overlay = Overlay(source)
        overlay.write(sealed.offset, reseal(sealed.seal, data))
        try:
            exercise(XfsFilesystem(overlay), place.extent.offset)
        except (CorruptError, UnsupportedError):
            assert sealed.offset == 0, place


def test_a_btree_that_leads_back_to_itself_ends(variant: str) -> None:
    filesystem = filesystem_of(variant)
    geometry = filesystem.reader.geometry
    root = int.from_bytes(filesystem.reader.reader.read(geometry.sector_size * 2 + 20, 4), "big")
    offset = geometry.ag_byte(0, root)
    block = bytearray(filesystem.reader.reader.read(offset, geometry.block_size))
    level = XfsBtreeShort.offset_of("bb_level")
    block[level : level + 4] = (1).to_bytes(2, "big") + (2).to_bytes(2, "big")
    pointers = XfsBtreeShort.SIZE + (geometry.block_size - XfsBtreeShort.SIZE) // 8 * 4
    block[pointers : pointers + 8] = root.to_bytes(4, "big") * 2
    overlay = Overlay(FileSource(image_of(variant)))
    overlay.write(offset, bytes(block))
    agi = bytearray(filesystem.reader.reader.read(geometry.sector_size * 2, 512))
    agi[24:28] = (2).to_bytes(4, "big")
    overlay.write(geometry.sector_size * 2, bytes(agi))
    problems = exercise(XfsFilesystem(overlay), offset)
    assert any("reached twice" in problem for problem in problems)
