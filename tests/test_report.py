"""What ``info`` tells of a manifest, as a person would."""

from __future__ import annotations

import json
import lzma
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from rehydrator.edits.blocks import Blocks, ByteRun
from rehydrator.edits.ext4_allocation import Ext4Allocation
from rehydrator.edits.ext4_group import GroupChange, Span
from rehydrator.edits.ext4_inodes import Ext4Inodes, ExtentRow, InodeChange
from rehydrator.edits.ext4_journal import Ext4Journal
from rehydrator.edits.ext4_log import TransactionChange
from rehydrator.edits.ext4_superblock import Ext4Superblock
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.grow import Grow
from rehydrator.edits.platform import Platform
from rehydrator.edits.table import Edit, partition_of
from rehydrator.edits.xfs_change import StructureChange
from rehydrator.edits.xfs_inodes import XfsInodeChange, XfsInodeRun, XfsInodes, XfsSuperblock
from rehydrator.edits.xfs_items import LoggedCommit, LoggedInode, LoggedStart, NewRecord
from rehydrator.edits.xfs_log import RecordChange, StampRun, XfsLogRecords, XfsStamp
from rehydrator.edits.xfs_records import XfsRecords
from rehydrator.edits.xfs_structures import XfsStructureChange, XfsStructures
from rehydrator.edits.zero import Zero, ZeroRun
from tests.support.cli import fine
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker

GOLDEN = Path(__file__).parent / "golden" / "info-openstack.txt"

ACCESS = XfsInodeChange(7, "/a", {"di_atime": "t0"})
TOLD: list[tuple[Edit, str]] = [
    (Grow(7), "disk grown to 7 bytes"),
    (Platform("p", "aws"), "kernel arguments and console settings of platform aws"),
    (FileContent("p", 5, "/grub2/user.cfg", text="text\n"), "/grub2/user.cfg rewritten, 5 bytes"),
    (Zero("p", [ZeroRun(0, 4096), ZeroRun(9000, 1)]), "4097 bytes of free space zero again"),
    (Ext4Superblock("p", {"s_mtime": "t0", "s_wtime": "t0"}), "superblock s_mtime, s_wtime"),
    (Ext4Allocation("p", [Span(1, 2), Span(9, 1)], inodes_freed=[Span(4, 1)]), "3 blocks taken, one inode freed"),
    (Ext4Allocation("p", groups=[GroupChange(0, {"bg_flags": 1})]), "one group descriptor"),
    (Ext4Inodes("p", [InodeChange(1, "", {"i_dtime": "t0"})]), "one inode time"),
    (
        Ext4Inodes(
            "p",
            [
                InodeChange(1, "/a", {"i_atime": "t0", "i_generation": 5}, [ExtentRow(0, 1, 9)]),
                InodeChange(2, "/b", {"i_mtime": "t0", "i_mode": 5}),
            ],
        ),
        "2 inode times, one inode generation, one other inode change, one moved file",
    ),
    (Ext4Journal("p", {}, [TransactionChange(1, 2, "t0")]), "one journal transaction"),
    (Ext4Journal("p", {"s_head": 1}), "journal superblock"),
    (XfsSuperblock("p", {"sb_lsn": 5}), "superblock sb_lsn"),
    (XfsInodes("p", [ACCESS, ACCESS]), "2 access times"),
    (XfsInodes("p", [ACCESS, XfsInodeChange(8, "/b", {"di_size": 1})]), "one access time, one other inode change"),
    (
        XfsInodes("p", [XfsInodeChange(8, "/b", {"di_crtime": "t0"}), XfsInodeChange(9, "", {"di_mode": 0})]),
        "/b created, one freed inode",
    ),
    (XfsInodes("p", new=[XfsInodeRun(128, 64, {"di_version": 3})]), "64 new free inodes"),
    (
        XfsStructures(
            "p",
            [
                XfsStructureChange(512, 512, "AGF 0", StructureChange()),
                XfsStructureChange(4096, 4096, "bnobt of AG 0", StructureChange()),
                XfsStructureChange(8192, 4096, "bnobt of AG 1", StructureChange()),
            ],
        ),
        "one AGF, 2 bnobt blocks",
    ),
    (
        XfsRecords("p", 2, [NewRecord(4, [LoggedStart(1), LoggedInode(128, 1), LoggedCommit()])]),
        "one new log record of one item",
    ),
    (XfsStamp("p", [StampRun(1, 4086, 0, 1, 2), StampRun(1, 10, 0, 1, 2)]), "4096 log blocks stamped by a mount"),
    (XfsLogRecords("p", [RecordChange(1)]), "one log record"),
    (Blocks("p3 boot, slack", 0, [ByteRun(0, 3), ByteRun(9, 1)], ""), "p3 boot, slack: 4 literal bytes in 2 runs"),
]


@pytest.mark.parametrize(("edit", "words"), TOLD, ids=[words for _, words in TOLD])
def test_each_edit_in_words(edit: Edit, words: str) -> None:
    assert edit.describe() == words
    assert partition_of(edit) == getattr(edit, "partition", "")


def _info(store: Path) -> str:
    text = fine("info", "openstack", "--store", store).text
    return re.sub(r"(?<=stored in )[\d.]+ \w+", "…", text)


def test_a_manifest_as_a_person_would_tell_it(real_store: Path) -> None:
    """The golden text tells what the release's own platforms.json and a mount change."""
    assert _info(real_store) == GOLDEN.read_text(encoding="utf-8")


def test_the_arguments_are_those_in_the_image(real_store: Path, release_dir: Path) -> None:
    """The boot entry lies in the qcow2 file as text."""
    image = lzma.decompress(next(release_dir.rglob("*-openstack.*.xz")).read_bytes())
    entry = re.search(rb"^options (.*ignition\.platform\.id=openstack.*)$", image, re.MULTILINE)
    assert entry
    changes = json.loads(fine("info", "openstack", "--json", "--store", real_store).out)["artifacts"][0]["changes"]
    told = next(change for change in changes if "kernel arguments" in change).partition(";")[0].split()
    added = [word[1:] for word in told if word.startswith("+")]
    removed = [word[1:] for word in told if word.startswith("-")]
    assert " ".join(added) in entry[1].decode()
    assert removed == ["ignition.platform.id=metal"]
    assert len(added) > 1


def test_only_info_reads_the_canonical(real_store: Path, tmp_path: Path) -> None:
    """``list`` needs the manifests alone; ``info`` on a damaged disk tells what the manifest says."""
    store = Path(shutil.copytree(real_store, tmp_path / "store"))
    next(store.glob("x86_64/canonical.*")).unlink()
    assert "openstack" in fine("list", "--arch", "all", "--store", store).text
    assert "kernel arguments and console settings of platform openstack" in " ".join(_info(store).split())


def test_info_is_fast(real_store: Path) -> None:
    begin = time.monotonic()
    _info(real_store)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("future.hologram", b"text\n" * 5000, ["hardly any of it lies elsewhere in the release"]),
        ("live-kernel", random.Random(1).randbytes(20_000), ["hardly any of it", "it does not compress: encrypted"]),
        ("gcp.tar.gz", b"\x1f\x8b\x08\0" + bytes(9000), ["gzip: ", "hardly any of it"]),
    ],
)
def test_why_a_file_is_kept_whole(tmp_path: Path, name: str, data: bytes, said: list[str]) -> None:
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw", metal_disk())
    key, _, suffix = name.partition(".")
    maker.ship(key, suffix, data)
    fine("build", "dehydrate", maker.finish(), tmp_path / "store", "--allow-unhandled", "--level", "1")
    report = json.loads(fine("info", "--json", "--store", tmp_path / "store").out)
    (found,) = (item for item in report["artifacts"] if item["rung"] == "stored")
    assert [note[: len(start)] for note, start in zip(found["notes"], said, strict=True)] == said
