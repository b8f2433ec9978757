"""``explain`` of file systems that rehydrator does not read: named, and with ``--mount`` compared file by file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from rehydrator.engines.guestfs.machine import Machine
from rehydrator.explain.explain import Options
from rehydrator.explain.tree import FileChange, Part, Report
from tests.support.cli import fails, run
from tests.support.disks import MIB, with_gpt
from tests.support.explaining import check_account, compare_files

Images = tuple[Path, Path]
ENTRY = "title OS\noptions root=LABEL=root {} quiet\n"
SUPERBLOCK = 64 << 10  # of btrfs; its checksum comes first
BIG = bytes(range(256)) * 64
FIRST = 1 * MIB  # of the partition


def _fill(tree: Path) -> None:
    """Make files of all kinds."""
    for name in ("etc", "usr/bin", "loader/entries"):
        (tree / name).mkdir(parents=True)
    for name in ("mode", "owner", "label", "attribute", "gone", "kind", "same", "linked"):
        (tree / "etc" / name).write_text(f"{name}\n")
    os.setxattr(tree / "etc/label", "security.selinux", b"system_u:object_r:etc_t:s0")
    os.link(tree / "etc/linked", tree / "usr/bin/linked")
    (tree / "usr/link").symlink_to("bin")
    (tree / "loader/entries/ostree-1.conf").write_text(ENTRY.format("ignition.platform.id=metal"))
    (tree / "big").write_bytes(BIG)
    os.mkfifo(tree / "etc/pipe")


def _change(tree: Path) -> None:
    """Change each of them otherwise."""
    (tree / "etc/mode").chmod(0o4711)
    os.chown(tree / "etc/owner", 1000, 100)
    os.setxattr(tree / "etc/label", "security.selinux", b"system_u:object_r:shadow_t:s0")
    os.setxattr(tree / "etc/attribute", "user.note", b"\xff\0x")
    (tree / "etc/gone").unlink()
    (tree / "etc/kind").unlink()
    (tree / "etc/kind").symlink_to("same")
    (tree / "etc/new").write_text("new\n")
    (tree / "usr/bin/linked").unlink()
    (tree / "usr/bin/linked").write_text("linked\n")
    (tree / "usr/link").unlink()
    (tree / "usr/link").symlink_to("elsewhere")
    (tree / "loader/entries/ostree-1.conf").write_text(ENTRY.format("ignition.platform.id=qemu"))
    (tree / "big").write_bytes(BIG[::-1])
    (tree / os.fsdecode(b"no\xfftext")).write_text("x")


CHANGES = [
    FileChange("M", "/big", "file", len(BIG), len(BIG), None, ["content"]),
    FileChange("M", "/etc/attribute", "file", 10, 10, None, ["user.note none -> \\xff\0x"]),
    FileChange(
        "D", "/etc/gone", "file", 5, None, None, diff=["--- a/etc/gone", "+++ /dev/null", "@@ -1 +0,0 @@", "-gone"]
    ),
    FileChange(
        "M", "/etc/kind", "symlink", 5, 0, None, ["content", "kind file -> symbolic link", "mode 0644 -> 0777",
                                                  "link none -> same"]
    ),
    FileChange(
        "M", "/etc/label", "file", 6, 6, None,
        ["security.selinux system_u:object_r:etc_t:s0 -> system_u:object_r:shadow_t:s0"],
    ),
    FileChange("M", "/etc/linked", "file", 7, 7, None, ["hard link /etc/linked -> none"]),
    FileChange("M", "/etc/mode", "file", 5, 5, None, ["mode 0644 -> 4711"]),
    FileChange(
        "A", "/etc/new", "file", None, 4, None, diff=["--- /dev/null", "+++ b/etc/new", "@@ -0,0 +1 @@", "+new"]
    ),
    FileChange("M", "/etc/owner", "file", 6, 6, None, ["uid 0 -> 1000", "gid 0 -> 100"]),
    FileChange(
        "M", "/loader/entries/ostree-1.conf", "file", 66, 65, None,
        ["-ignition.platform.id=metal", "+ignition.platform.id=qemu"],
        ["--- a/loader/entries/ostree-1.conf", "+++ b/loader/entries/ostree-1.conf", "@@ -1,2 +1,2 @@", " title OS",
         "-options root=LABEL=root ignition.platform.id=metal quiet",
         "+options root=LABEL=root ignition.platform.id=qemu quiet"],
    ),
    FileChange("A", "/no\\xfftext", "file", None, 1, None),  # libguestfs takes no such name, so it is not read
    FileChange("M", "/usr/bin/linked", "file", 7, 7, None, ["hard link /etc/linked -> none"]),
    FileChange("M", "/usr/link", "symlink", 0, 0, None, ["link bin -> elsewhere"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def trees(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two directories of the same files, the second with changes."""
    need(root=True)
    first, second = (tmp_path_factory.mktemp("trees") / name for name in "ab")
    for tree in (first, second):
        _fill(tree)
    _change(second)
    return first, second


@pytest.fixture(scope="module")
def pair(trees: tuple[Path, Path], need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Two disks with these files in btrfs as their root partitions."""
    need("mkfs.btrfs")
    where = tmp_path_factory.mktemp("btrfs")
    for tree in trees:
        image = where / f"{tree.name}.btrfs"
        _empty(image)
        options = ["--mixed", "--uuid", "11111111-2222-3333-4444-555555555555", "--rootdir", str(tree)]
        subprocess.run(["mkfs.btrfs", "--quiet", *options, image], stdout=subprocess.DEVNULL, check=True)
        _disk(image.read_bytes(), where / f"{tree.name}.raw")
    return where / "a.raw", where / "b.raw"


def _empty(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(16 * MIB)


def _disk(content: bytes, path: Path) -> Path:
    """Write a disk with ``content`` as its root partition."""
    first, last = FIRST >> 10, (FIRST + len(content)) >> 10
    path.write_bytes(with_gpt(bytes(FIRST) + content + bytes(MIB), [(4, "root", first, last)]))
    return path


def _damaged(disk: Path, at: int, path: Path) -> Path:
    content = bytearray(disk.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    return path


def _root(report: Report) -> Part:
    return next(part for part in report.parts if part.name == "p4 root")


def _never(_size: int) -> AbstractContextManager[Machine]:
    raise AssertionError("a machine is started")


def test_what_has_no_reader_is_named(pair: Images) -> None:
    report = compare_files(*pair)
    check_account(report)
    root = _root(report)
    assert (root.filesystem, root.note, root.files) == ("btrfs", "btrfs: no native reader; use --mount", [])
    assert [change.cause for change in root.changes] == ["unread"]
    assert report.evidence == []  # thousands of runs that say nothing
    assert "the btrfs volume of p4 root" in report.verdict
    assert run("explain", *pair).code == 3


@pytest.mark.parametrize("mount", [False, True])
@pytest.mark.parametrize("others", ["LUKS", "btrfs"])
def test_encrypted_volumes_are_refused_by_name(mount: bool, others: str, pair: Images, tmp_path: Path) -> None:
    locked = [_disk(b"LUKS\xba\xbe\0\2" + bytes([number]) * MIB, tmp_path / f"{number}.raw") for number in range(2)]
    report = compare_files(
        locked[0], pair[1] if others == "btrfs" else locked[1], Options(start=_never if mount else None)
    )
    check_account(report)
    assert _root(report).note == "LUKS: encrypted, which is not opened, so that no files are compared"


def test_no_machine_is_started_in_vain(pair: Images, tmp_path: Path) -> None:
    """Equal volumes need none, nor does what is read here."""
    assert compare_files(pair[0], pair[0], Options(start=_never)).identical
    one, other = (_disk(bytes([number]) * MIB, tmp_path / f"{number}.raw") for number in range(2))
    assert _root(compare_files(one, other, Options(start=_never))).note == ""


@pytest.mark.builder
@pytest.mark.parametrize("part", ["superblock", "content"])
def test_damage_is_told_as_the_driver_tells_it(part: str, pair: Images, machine: Machine, tmp_path: Path) -> None:
    at = FIRST + SUPERBLOCK if part == "superblock" else pair[1].read_bytes().index(BIG[::-1])
    broken = _damaged(pair[1], at, tmp_path / "broken.raw")
    report = compare_files(pair[0], broken, Options(start=lambda _size: nullcontext(machine)))
    root = _root(report)
    assert root.files == []
    assert root.note.startswith("broken: the appliance failed: ")
    # The kernel names disks in the order in which it finds them.
    assert re.search(r"\(the kernel: BTRFS \w+ \(device sd\w\): (csum failed|superblock checksum mismatch)", root.note)


@pytest.mark.builder
def test_a_driver_tells_each_file_that_differs(pair: Images, machine: Machine) -> None:
    report = compare_files(*pair, Options(patch=True, start=lambda _size: nullcontext(machine)))
    check_account(report)
    root = _root(report)
    assert root.files == CHANGES
    assert root.note == "btrfs: read by the kernel's driver, which tells files only"
    assert report.verdict.startswith("b differs from a in: kernel arguments, 12 other files")
    assert report.total.unexplained == root.bytes > 0


@pytest.mark.builder
def test_two_file_systems_are_compared_by_their_files(
    pair: Images, trees: tuple[Path, Path], machine: Machine, need: Callable[..., None], tmp_path: Path
) -> None:
    need("mkfs.ext4")
    image = tmp_path / "ext4"
    _empty(image)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-d", trees[0], image], check=True)
    other = _disk(image.read_bytes(), tmp_path / "ext4.raw")
    root = _root(compare_files(pair[0], other, Options(start=lambda _size: nullcontext(machine))))
    assert root.note == "btrfs and ext4: read by the kernel's driver, which tells files only"
    assert [(item.status, item.path) for item in root.files] == [("A", "/lost+found")]


def test_without_bindings_it_is_said_what_to_install(pair: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "guestfs", None)
    fails(3, ["the Python bindings of libguestfs are missing", "python3-guestfs"], "explain", *pair, "--mount")
