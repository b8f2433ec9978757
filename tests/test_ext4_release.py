"""The boot partition of a real release."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from rehydrator.disk.extents import Extent, is_zero
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource, Window
from rehydrator.fs.ext4.jbd2 import Age
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import Kind
from tests.test_ext4_places import check_cover

CHUNK = 1 << 20


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Ext4Filesystem:
    builds = Path(__file__).parent.parent / "fixtures" / "release" / "builds"
    images = sorted(builds.glob("*/x86_64/*metal.x86_64.raw.xz"))
    if not images:
        pytest.skip("no release in fixtures/release")
    disk = tmp_path_factory.mktemp("boot") / "metal.raw"
    with lzma.open(images[-1]) as packed, disk.open("wb") as file:
        while data := packed.read(CHUNK):
            if is_zero(data):
                file.seek(len(data), 1)
            else:
                file.write(data)
        file.truncate()
    source = FileSource(disk)
    extent = next(region.extent for region in read_table(source).regions if region.name.startswith("p3"))
    return Ext4Filesystem(Window(source, extent.offset, extent.length))


def test_boot_partition_is_healthy_and_named(boot: Ext4Filesystem) -> None:
    assert list(boot.health()) == []
    everything = [Extent(0, boot.size)]
    check_cover(boot.places(everything), everything)
    kinds = {place.kind for place in boot.places(everything)}
    assert Kind.UNKNOWN not in kinds
    assert {Kind.JOURNAL_COPY, Kind.DIRECTORY, Kind.FILE_DATA, Kind.RESERVED_GDT} <= kinds


def test_boot_partition_has_its_files(boot: Ext4Filesystem) -> None:
    ino = boot.fs.lookup("/loader/entries")
    assert ino is not None
    assert boot.path(ino) == "/loader.1/entries"
    entries = [entry.name for entry in boot.fs.entries(ino)]
    assert any(name.endswith(b".conf") for name in entries)


def test_last_transaction_holds_the_final_blocks(boot: Ext4Filesystem) -> None:
    """What the manifest's journal model rests on: copies of the newest transaction are the blocks in place."""
    journal = boot.journal
    assert journal is not None
    newest = journal.transactions[-1]
    assert newest.age == Age.LATEST
    assert newest.commit is not None
    differing = [
        boot.names.block(copy.tag.home)
        for copy in newest.copies
        if journal.read_block(copy.block) != boot.fs.read_block(copy.tag.home)
    ]
    assert set(differing) <= {"superblock (block 1)"}
