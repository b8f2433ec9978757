"""Random sequences of changes that the kernel makes are told by names, replayed exactly and explained to the byte."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import FileSource, Window
from rehydrator.edits.ext4_copies import CopyChange
from rehydrator.edits.ext4_journal import Ext4Journal
from rehydrator.edits.ext4_log import TransactionChange
from rehydrator.edits.replay import Replay
from rehydrator.edits.table import Edit
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.c_jbd2 import JBD2_MAGIC, TagFlag
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import Kind, Place
from tests.support.boot_disk import make_boot_disk
from tests.support.explaining import check_account, compare_disks
from tests.support.ext4_changes import FORMATS, Changes, fill
from tests.support.mounted import STEADY_EXT4
from tests.support.one_partition import MIB, START, copied, literals, mounted_partition, partition_file, told

_SEEDS = range(3)
_COUNT = 24
# Content of files that are gone is nowhere else, nor are copies whose descriptor was overwritten. The kernel may commit
# at any time, so the states in between vary.
_GONE = {"p3 boot, free space", "p3 boot, slack", "p3 boot, journal, unused"}
_STATES = 200

pytestmark = pytest.mark.oracle


@pytest.fixture
def base(request: pytest.FixtureRequest, tmp_path: Path, need: Callable[..., None]) -> Path:
    need("losetup", "mkfs.ext4", "sfdisk", "e2fsck", "fallocate", root=True)
    path = tmp_path / "base.raw"
    make_boot_disk(path, FORMATS[request.param])
    with mounted_partition(path) as tree:
        fill(tree)
    return path


def sync(tree: Path) -> None:
    subprocess.run(["sync", "-f", tree], check=True)


def check_named(edits: list[Edit]) -> None:
    """Check that next to nothing is literal but what is gone."""
    left = {owner: size for owner, size in literals(edits).items() if owner not in _GONE}
    assert sum(left.values()) <= _STATES, left


def check(base: Path, target: Path) -> None:
    """Tell one disk by the other; :func:`told` replays the edits and compares."""
    check_named(told(base, target))
    with FileSource(base) as before, FileSource(target) as after:
        check_account(compare_disks(before, after))


def fsck(target: Path) -> None:
    """Check what the replay of the edits gave: the same as ``target``."""
    result = subprocess.run(["e2fsck", "-fn", partition_file(target)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("base", FORMATS, indirect=True)
def test_sequences(base: Path) -> None:
    for seed in _SEEDS:
        target = copied(base, f"target{seed}.raw")
        with mounted_partition(target) as tree:
            changes = Changes(tree, seed)
            try:
                changes.run(_COUNT)
            finally:
                changes.close()
        check(base, target)
        fsck(target)
        target.unlink()


@pytest.mark.parametrize("base", FORMATS, indirect=True)
def test_a_disk_that_is_in_use(base: Path) -> None:
    """With a journal that needs recovery, and files that have no name but are open."""
    work, target = copied(base, "work.raw"), base.with_name("target.raw")
    with mounted_partition(work) as tree:
        changes = Changes(tree, 4)
        try:
            changes.run(_COUNT)
            changes.orphan()
            sync(tree)
            copied(work, target.name)
        finally:
            changes.close()
    check(base, target)


def transactions(edits: Iterable[Edit]) -> Iterator[TransactionChange]:
    for edit in edits:
        if isinstance(edit, Ext4Journal):
            yield from edit.transactions


@pytest.mark.parametrize("base", ["small journal"], indirect=True)
def test_transactions_go_on_at_the_front(base: Path) -> None:
    """Write more than the journal holds, so that it begins again, several times and at places that differ."""
    target = copied(base, "target.raw")
    with mounted_partition(target) as tree:
        changes = Changes(tree, 1)
        for _ in range(70):
            changes.many_names()
            sync(tree)
    edits = told(base, target)
    check_named(edits)
    places = [change.block for change in sorted(transactions(edits), key=lambda item: item.sequence)]
    assert places != sorted(places)
    fsck(target)


@pytest.mark.parametrize("base", ["1k"], indirect=True)
def test_a_copy_that_looks_like_a_header_is_escaped(base: Path) -> None:
    """A mount with journalled data puts content into the journal, also such that begins like its own blocks."""
    target = copied(base, "target.raw")
    with mounted_partition(target, f"{STEADY_EXT4},data=journal") as tree:
        (tree / "escaped").write_bytes((JBD2_MAGIC.to_bytes(4, "big") + b"content") * 400)
        sync(tree)
    edits = told(base, target)
    assert literals(edits) == {}
    flags = [tag.flags for change in transactions(edits) for tags in change.tags or () for tag in tags]
    assert any(flag & TagFlag.ESCAPE for flag in flags)


@pytest.mark.parametrize("base", ["1k"], indirect=True)
def test_an_edit_that_fails_leaves_nothing_behind(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = copied(base, "target.raw")
    with mounted_partition(target) as tree:
        (tree / "new").touch()

    def fail(edit: Ext4Journal, replay: Replay) -> None:
        replay.write(edit.partition, 0, b"half of an edit")
        raise StoreDamagedError("the other half can't be made")

    monkeypatch.setattr(Ext4Journal, "apply", fail)
    assert "p3 boot, journal copy" in literals(told(base, target))


@pytest.mark.parametrize("base", ["orphan file"], indirect=True)
def test_damaged_disks_are_told_exactly(base: Path) -> None:
    """A bit is wrong in each kind of structure: the disk is told by that of another, and the other way around."""
    target = copied(base, "target.raw")
    with mounted_partition(target) as tree:
        changes = Changes(tree, 2)
        changes.many_names()
        changes.large_attribute()
        changes.pieces()
        sync(tree)
        changes.orphan()
        sync(tree)
        changes.close()
    choice = random.Random(1)
    for kind, place in places_by_kind(target).items():
        damaged = copied(target, "damaged.raw")
        with damaged.open("r+b") as stream:
            stream.seek(START + place.extent.offset + choice.randrange(min(place.extent.length, 64)))
            byte = stream.read(1)[0] ^ 1 << choice.randrange(8)
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([byte]))
        assert told(target, damaged), kind
        assert told(damaged, base), kind


def places_by_kind(disk: Path) -> dict[Kind, Place]:
    """Return a place of each kind in the partition."""
    with FileSource(disk) as source:
        size = source.size - START - MIB
        filesystem = Ext4Filesystem(Window(source, START, size))
        return {place.kind: place for place in filesystem.places([Extent(0, size)])}


@pytest.mark.parametrize("base", ["orphan file"], indirect=True)
def test_earlier_states_are_told_by_what_they_hold(base: Path) -> None:
    """Each structure is committed once and then changed: its first copy is told by the difference."""
    target = copied(base, "target.raw")
    with mounted_partition(target) as tree:
        changes = Changes(tree, 0)
        (tree / "link").symlink_to("t" * 100)
        for _ in range(2):
            changes.orphan()
            changes.large_attribute()
            (tree / "etc/deep" / f"new{len(changes.open)}").write_bytes(bytes(3000))
            sync(tree)
        (tree / "link").unlink()
        changes.close()
    copies = [copy for change in transactions(told(base, target)) for copy in change.copies]
    told_by = {field for field in CopyChange.__struct_fields__ for copy in copies if getattr(copy, field)}
    assert told_by >= {"groups", "inodes", "directory", "orphans", "symlink"}
    assert "runs" not in told_by
