"""Whatever differs is accounted for, and no damage makes ``explain`` fail."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.explain.causes import BOOT_CODE, Cause, reason, structure_cause
from rehydrator.explain.explain import Options
from rehydrator.explain.owners import DiskOwners, together
from rehydrator.fs.place import Kind
from tests.support.disks import MIB, metal_disk
from tests.support.explaining import check_account, compare_disks, patched
from tests.test_explain import raw  # noqa: F401 - a fixture


def nonzero(path: Path) -> list[Extent]:
    return list(FileSource(path).nonzero())


@pytest.fixture(scope="session")
def metal(raw: Path) -> Path:  # noqa: F811
    return raw


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 40), anywhere=st.booleans())
def test_random_flips(seed: int, flips: int, anywhere: bool, metal: Path) -> None:
    """Flips anywhere on the disk, or only where it holds data, where metadata is likelier hit."""
    source = random.Random(seed)
    disk = FileSource(metal)
    extents = nonzero(metal)
    patches: dict[int, bytes] = {}
    for _ in range(flips):
        extent = source.choice(extents)
        at = source.randrange(disk.size) if anywhere else extent.offset + source.randrange(min(extent.length, 65536))
        patches[at] = bytes([disk.read(at, 1)[0] ^ source.randrange(1, 256)])
    check_account(compare_disks(disk, patched(metal, patches)), len(patches))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), partition=st.sampled_from([2, 135_266_304, 537_919_488]))
def test_garbage_in_metadata(seed: int, partition: int, metal: Path) -> None:
    """Runs of noise over the first MiB of a partition, where its main structures lie."""
    source = random.Random(seed)
    patches = {partition + source.randrange(MIB): source.randbytes(source.randrange(1, 600)) for _ in range(8)}
    other = patched(metal, patches)
    report = compare_disks(FileSource(metal), other, Options(patch=True, evidence=True))
    check_account(report)
    back = compare_disks(other, FileSource(metal))
    check_account(back, report.total.differing)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), size=st.integers(3 * MIB, 5 * MIB))
def test_unlike_disks(seed: int, size: int) -> None:
    """Noise against noise, of other sizes: counted to the byte."""
    one, two = metal_disk(seed), metal_disk(seed + 1)[:size].ljust(size, b"\0")
    longest = max(len(one), len(two))
    expected = sum(x != y for x, y in zip(one.ljust(longest, b"\0"), two.ljust(longest, b"\0"), strict=True))
    check_account(compare_disks(BytesSource(one), BytesSource(two)), expected)


def test_owners_cover_the_disk(metal: Path) -> None:
    """Every byte has exactly one owner."""
    disk = FileSource(metal)
    at = 0
    for owner in DiskOwners(disk).owners([Extent(0, disk.size)]):
        assert owner.extent.offset == at
        assert owner.extent.length > 0
        at = owner.extent.end
    assert at == disk.size


def test_together_cuts_along_both(metal: Path) -> None:
    disk = FileSource(metal)
    owners = DiskOwners(disk)
    ranges = [Extent(0, 4096), Extent(1024, 0), Extent(135_266_304, 3 * MIB)]
    at = 0
    for one, two in together(owners.owners(ranges), owners.owners(ranges)):
        assert one.extent == two.extent
        assert one == two
        at += one.extent.length
    assert at == 4096 + 3 * MIB


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_cause(kind: Kind) -> None:
    """Only what nobody knows is unknown."""
    assert (structure_cause(kind) is Cause.UNKNOWN) == (kind is Kind.UNKNOWN)


@pytest.mark.parametrize(
    ("structure", "field", "cause", "derived"),
    [
        (Kind.INODE, "i_mtime_extra", Cause.INODE_TIMESTAMP, ""),
        (Kind.INODE, "i_dtime", Cause.INODE_TIMESTAMP, ""),
        (Kind.INODE, "i_checksum_lo", Cause.FILE_METADATA, "checksum-of:inode"),
        (Kind.INODE, "di_crtime", Cause.INODE_TIMESTAMP, ""),
        (Kind.INODE, "di_crc", Cause.FILE_METADATA, "checksum-of:inode"),
        (Kind.INODE, "di_lsn", Cause.JOURNAL, ""),
        (Kind.INODE, "di_nblocks", Cause.ALLOCATION, ""),
        (Kind.INODE, "i_blocks_lo", Cause.ALLOCATION, ""),
        (Kind.SUPERBLOCK, "s_free_blocks_count_lo", Cause.ALLOCATION, ""),
        (Kind.SUPERBLOCK, "s_checksum_type", Cause.SUPERBLOCK_STAMP, ""),
        (Kind.SUPERBLOCK, "s_checksum_seed", Cause.SUPERBLOCK_STAMP, ""),
        (Kind.SUPERBLOCK, "s_checksum", Cause.SUPERBLOCK_STAMP, "checksum-of:superblock"),
        (Kind.SUPERBLOCK, "sb_crc", Cause.SUPERBLOCK_STAMP, "checksum-of:superblock"),
        (Kind.SUPERBLOCK, "sb_lsn", Cause.SUPERBLOCK_STAMP, ""),
        (Kind.GROUP_DESCRIPTOR, "bg_block_bitmap_csum_lo", Cause.ALLOCATION, "checksum-of:block bitmap"),
        (Kind.GROUP_DESCRIPTOR, "bg_checksum", Cause.ALLOCATION, "checksum-of:group descriptor"),
        (Kind.AGF, "agf_flcount", Cause.ALLOCATION, ""),
        (Kind.AGF, "agf_crc", Cause.ALLOCATION, "checksum-of:AG free space header"),
        (Kind.JOURNAL_COMMIT, "h_chksum", Cause.JOURNAL, "checksum-of:journal commit"),
        (Kind.JOURNAL_COMMIT, "h_commit_sec", Cause.JOURNAL, ""),
        (Kind.LOG_HEADER, "h_crc", Cause.JOURNAL, "checksum-of:log record header"),
        (BOOT_CODE, "", Cause.BOOTMAP, ""),
    ],
)
def test_fields_have_causes(structure: str, field: str, cause: Cause, derived: str) -> None:
    found = reason(structure, field)
    assert (found.cause, found.derived) == (cause, derived)
