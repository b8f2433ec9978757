"""What known changes are told as: each is made by an independent tool, or byte by byte."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.disk.c_gpt import GptEntry, GptHeader
from rehydrator.disk.extents import BLOCK
from rehydrator.disk.source import BytesSource
from rehydrator.explain import text
from rehydrator.explain.causes import Cause
from rehydrator.explain.explain import Options
from tests.support.disks import MIB, metal_disk, with_gpt
from tests.support.explaining import change, check_account, compare_disks, compare_files

NEEDED = {
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
}


def need_tools(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip("missing: " + ", ".join(f"{name}, in package {NEEDED[name]}" for name in missing))


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few files to make file systems of."""
    root = tmp_path_factory.mktemp("tree")
    (root / "etc").mkdir()
    (root / "etc" / "motd").write_text("welcome\n")
    (root / "large").write_bytes(b"".join(number.to_bytes(4, "big") for number in range(100_000)))
    for number in range(40):
        (root / "etc" / f"file{number}").write_text(f"{number}\n" * number)
    (root / "link").symlink_to("etc/motd")
    return root


@pytest.fixture(scope="session")
def ext4(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ext4 file system, without a partition table around it; read-only."""
    need_tools("mkfs.ext4")
    path = tmp_path_factory.mktemp("ext4") / "one.img"
    command("mkfs.ext4", "-q", "-b", "1024", "-d", tree, path, "16M")
    return path


def debugfs(image: Path, requests: list[str]) -> None:
    """Make changes with debugfs, which works on image files without privileges."""
    need_tools("debugfs")
    for request in requests:
        command("debugfs", "-w", "-R", request, image)


def cmp_count(a: Path, b: Path) -> int:
    """Count differing bytes with cmp."""
    done = subprocess.run(["cmp", "-l", a, b], check=False, capture_output=True, timeout=120)
    return done.stdout.count(b"\n")


DEBUGFS = [
    pytest.param(["sif /etc/motd mode 0100600"], [(Cause.FILE_METADATA, "inode", "i_mode")], [], id="mode"),
    pytest.param(["sif /etc/motd uid 7"], [(Cause.FILE_METADATA, "inode", "i_uid")], [], id="owner"),
    pytest.param(["sif /etc/motd mtime 20200101"], [(Cause.INODE_TIMESTAMP, "inode", "i_mtime")], [], id="mtime"),
    pytest.param(["sif /etc/motd generation 5"], [(Cause.FILE_METADATA, "inode", "i_generation")], [], id="generation"),
    pytest.param(["ssv mtime 20200101"], [(Cause.SUPERBLOCK_STAMP, "superblock", "s_mtime")], [], id="superblock"),
    pytest.param(["rm /etc/file7"], [(Cause.ALLOCATION, "group descriptor", "bg_free_inodes_count_lo"),
                                     (Cause.DIR_ENTRY, "directory block", "")], ["D /etc/file7"], id="remove"),
    pytest.param(["mkdir /new"], [(Cause.DIR_ENTRY, "directory block", "")], ["A /new"], id="mkdir"),
    pytest.param(["write /dev/null /empty"], [(Cause.DIR_ENTRY, "directory block", "")], ["A /empty"], id="create"),
    pytest.param(["ea_set /etc/motd user.colour blue"], [(Cause.FILE_METADATA, "inode", "i_xattr_ibody")], [],
                 id="xattr"),
    pytest.param(["ssv uuid 12345678-1234-1234-1234-123456789abc"], [(Cause.SUPERBLOCK_STAMP, "superblock", "s_uuid")],
                 [], id="uuid"),
]  # fmt: skip


@pytest.mark.parametrize(("requests", "expected", "files"), DEBUGFS)
def test_debugfs(
    requests: list[str], expected: list[tuple[Cause, str, str]], files: list[str], ext4: Path, tmp_path: Path
) -> None:
    other = tmp_path / "two.img"
    shutil.copyfile(ext4, other)
    debugfs(other, requests)
    report = compare_files(ext4, other)
    check_account(report, cmp_count(ext4, other))
    assert report.total.unexplained == 0
    for cause, structure, field in expected:
        assert not field or field in change(report, cause, structure).fields
    assert [f"{item.status} {item.path}" for part in report.parts for item in part.files] == files


def test_file_content(ext4: Path, tmp_path: Path) -> None:
    """A modified file is told with a unified diff; its name and bytes are exact."""
    data = bytearray(ext4.read_bytes())
    at = data.index(b"welcome\n")
    data[at : at + 3] = b"WEL"
    other = tmp_path / "two.img"
    other.write_bytes(data)
    report = compare_files(ext4, other, Options(patch=True))
    check_account(report, 3)
    (item,) = report.parts[0].files
    assert (item.status, item.path, item.size_a, item.size_b, item.bytes) == ("M", "/etc/motd", 8, 8, 3)
    assert item.diff == ["--- a/etc/motd", "+++ b/etc/motd", "@@ -1 +1 @@", "-welcome", "+WELcome"]
    assert report.verdict == "two differs from one only in: /etc/motd"


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_separately_made_file_systems(kind: str, tree: Path, tmp_path: Path) -> None:
    """Two file systems of one tree: other places, other identifiers, and still every byte has an owner."""
    images = [tmp_path / "one.img", tmp_path / "two.img"]
    for number, image in enumerate(images):
        if kind == "ext4":
            need_tools("mkfs.ext4")
            command("mkfs.ext4", "-q", "-b", "4096", "-N", str(512 * (number + 1)), "-d", tree, image, "32M")
        else:
            need_tools("mkfs.xfs")
            prototype = tmp_path / "prototype"
            prototype.write_text(
                f"/\n0 0\nd--755 0 0\nlarge ---644 0 0 {tree / 'large'}\nm ---644 0 0 {tree / 'etc/motd'}\n$\n"
            )
            command(
                "mkfs.xfs", "-q", "-d", f"file,name={image},size=320m", "-i", f"maxpct={10 + number}", "-p", prototype
            )
    report = compare_files(images[0], images[1])
    check_account(report)
    assert report.total.unexplained == 0
    assert report.verdict.startswith("two differs from one only in: separately made file systems with the same files")
    (part,) = report.parts
    assert (part.files, part.moved_files) == ([], 43 if kind == "ext4" else 2)
    assert part.copied is not None
    assert part.copied + part.bytes == BytesSource(images[1].read_bytes()).nonzero().total
    assert part.copied > (tree / "large").stat().st_size // BLOCK * BLOCK
    assert report.health == []
    lines = list(text.render(report, text.TextOptions()))
    assert f"{part.copied:,} B of it are found in A, {part.bytes:,} B are not" in " ".join(" ".join(lines).split())
    assert len(lines) < 100


def test_files_of_separately_made_file_systems(ext4: Path, tree: Path, tmp_path: Path) -> None:
    """One that only A has, one that only B has, one of the same size with other content, one that became shorter."""
    need_tools("mkfs.ext4")
    other = shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    (other / "etc/file3").unlink()
    (other / "etc/new").write_text("new\n")
    (other / "etc/motd").write_text("WELCOME\n")
    (other / "large").write_bytes((tree / "large").read_bytes()[:200_000])
    (other / "etc/hard").hardlink_to(other / "etc/file5")
    command("mkfs.ext4", "-q", "-b", "4096", "-d", other, tmp_path / "two.img", "16M")
    report = compare_files(ext4, tmp_path / "two.img", Options(patch=True))
    check_account(report)
    (part,) = report.parts
    files = {item.path: item for item in part.files}
    hard = {"/etc/file5", "/etc/hard"} & set(files)  # the file may go by either name
    assert {f"{files[path].status} {path}" for path in set(files) - hard} == {
        "D /etc/file3", "A /etc/new", "M /etc/motd", "M /large"
    }  # fmt: skip
    assert files["/etc/motd"].diff[-2:] == ["-welcome", "+WELCOME"]
    assert (files["/large"].size_a, files["/large"].size_b) == (400_000, 200_000)
    assert "with the same files" not in report.verdict


def recomputed(disk: bytearray, at: int) -> None:
    """Make the checksums of the GPT header at byte ``at`` right."""
    header = GptHeader.parse(disk, at)
    start = header.PartitionEntryLBA * 512
    entries = bytes(disk[start : start + header.NumberOfPartitionEntries * header.SizeOfPartitionEntry])
    crc_at = at + GptHeader.offset_of("PartitionEntryArrayCRC32")
    disk[crc_at : crc_at + 4] = zlib.crc32(entries).to_bytes(4, "little")
    crc_at = at + GptHeader.offset_of("HeaderCRC32")
    disk[crc_at : crc_at + 4] = bytes(4)
    disk[crc_at : crc_at + 4] = zlib.crc32(disk[at : at + GptHeader.SIZE]).to_bytes(4, "little")


def test_partition_table() -> None:
    """A partition's identifier: its own bytes, and two checksums that follow."""
    disk = metal_disk()
    other = bytearray(disk)
    at = 1024 + 2 * GptEntry.SIZE + GptEntry.offset_of("UniquePartitionGUID")
    other[at : at + 16] = bytes(16)
    recomputed(other, 512)
    report = compare_disks(BytesSource(disk), BytesSource(bytes(other)))
    check_account(report, sum(x != y for x, y in zip(disk, other, strict=True)))
    entry = change(report, Cause.PARTITION_TABLE, "GPT partition entry")
    assert (entry.names, entry.fields, entry.bytes) == (["GPT partition entry 3"], ["UniquePartitionGUID"], 16)
    header = change(report, Cause.PARTITION_TABLE, "GPT header")
    assert {item.what for item in header.derived} == {"checksum-of:GPT header", "checksum-of:GPT partition entry"}
    assert report.health == []


def test_backup_gpt_moved() -> None:
    """A disk that grew with its backup table put at its new end."""
    disk = bytearray(metal_disk())
    other = disk + bytes(MIB)
    backup = bytes(disk[-33 * 512 :])
    other[len(disk) - 33 * 512 : len(disk)] = bytes(33 * 512)
    other[-33 * 512 :] = backup
    last = len(other) // 512 - 1
    at = 512 + GptHeader.offset_of("AlternateLBA")
    other[at : at + 8] = last.to_bytes(8, "little")
    for name, value in (("MyLBA", last), ("PartitionEntryLBA", last - 32)):
        at = len(other) - 512 + GptHeader.offset_of(name)
        other[at : at + 8] = value.to_bytes(8, "little")
    recomputed(other, 512)
    recomputed(other, len(other) - 512)
    report = compare_disks(BytesSource(bytes(disk)), BytesSource(bytes(other)))
    check_account(report)
    assert {item.cause for item in report.causes} == {Cause.GPT_BACKUP_MOVED}
    assert report.verdict.startswith("b differs from a only in: disk size, place of the backup GPT")
    assert (report.health, report.total.unexplained) == ([], 0)
    assert "backup GPT moved" in report.disk


@pytest.mark.parametrize(
    ("at", "structure", "problem"),
    [
        (512 + 40, "GPT header", "wrong HeaderCRC32"),
        (1024 + 200, "GPT header", "wrong PartitionEntryArrayCRC32"),
        (-512 + 72, "backup GPT header", "wrong HeaderCRC32"),
        (-512, "backup GPT header", "is missing"),
        (-512 - 32 * 512 + 3, "backup GPT header", "wrong PartitionEntryArrayCRC32"),
    ],
)
def test_gpt_damage_is_named(at: int, structure: str, problem: str) -> None:
    disk = metal_disk()
    other = bytearray(disk)
    other[at] ^= 0xFF
    report = compare_disks(BytesSource(disk), BytesSource(bytes(other)))
    check_account(report, 1)
    assert report.total.unexplained == 0
    found = [(note.image, note.structure) for note in report.health if note.text.startswith(problem)]
    assert ("b", structure) in found


def test_truncated_image() -> None:
    disk = metal_disk()
    report = compare_disks(BytesSource(disk), BytesSource(disk[: 2 * MIB]))
    check_account(report, sum(1 for byte in disk[2 * MIB :] if byte))
    texts = [f"{note.image} {note.structure} {note.text}" for note in report.health]
    assert any(text.startswith("b partition table") and "leaves the disk" in text for text in texts)
    assert any("the image is truncated" in text for text in texts)


def test_what_is_left_of_a_truncated_image_is_checked(ext4: Path) -> None:
    """The file systems of a disk that ends too early are found by the other disk's partition table."""
    content = ext4.read_bytes()
    size = MIB + len(content) + MIB
    disk = with_gpt(bytes(MIB) + content + bytes(MIB), [(1, "boot", 1024, (size - MIB) // 1024)])
    damaged = bytearray(disk[: MIB + len(content) * 3 // 4])
    damaged[MIB + 1024 + 0x30] ^= 0xFF
    report = compare_disks(BytesSource(disk), BytesSource(bytes(damaged)))
    texts = [f"{note.image} {note.structure} {note.text}" for note in report.health]
    assert any("p1 boot: superblock s_checksum" in text for text in texts), texts
    assert any("leaves the disk" in text for text in texts), texts


@pytest.mark.parametrize(
    ("name", "offset", "problem"),
    [
        ("superblock", 1024 + 0x30, "s_checksum"),
        ("inode", None, "i_checksum"),
        ("directory block", None, "det_checksum"),
    ],
)
def test_ext4_damage_is_named(name: str, offset: int | None, problem: str, ext4: Path, tmp_path: Path) -> None:
    data = bytearray(ext4.read_bytes())
    at = (
        offset if offset is not None else data.index(b"\x04\x01motd") + 2 if name == "directory block" else _inode(ext4)
    )
    data[at] ^= 0x01
    other = tmp_path / "two.img"
    other.write_bytes(data)
    report = compare_files(ext4, other)
    check_account(report, 1)
    assert any(name in note.structure and problem in note.text for note in report.health), report.health
    assert all(note.image == "two" for note in report.health)


def _inode(image: Path) -> int:
    """Where the times of an inode of a file lie, told by debugfs."""
    need_tools("debugfs")
    done = subprocess.run(
        ["debugfs", "-R", "imap /etc/motd", image], check=True, capture_output=True, text=True, timeout=60
    )
    found = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", done.stdout)
    assert found
    return int(found[1]) * 1024 + int(found[2], 16) + 0x10


def test_kernel_changes(ext4: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    """The kernel's own writes through a loop mount, journal and all."""
    need("mount", root=True)
    other, mounted = tmp_path / "two.img", tmp_path / "mounted"
    shutil.copyfile(ext4, other)
    mounted.mkdir()
    try:
        command("mount", "-o", "loop", other, mounted)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop mounts here: {error.stderr!r}")
    try:
        (mounted / "etc" / "motd").write_text("changed\n")
        (mounted / "etc" / "file3").unlink()
        (mounted / "etc" / "new").write_text("new\n" * 1000)
        (mounted / "etc" / "file9").rename(mounted / "moved")
    finally:
        command("umount", mounted)
    report = compare_files(ext4, other)
    check_account(report, cmp_count(ext4, other))
    assert report.total.unexplained == 0
    found = {f"{item.status} {item.path}" for part in report.parts for item in part.files}
    assert {"M /etc/motd", "D /etc/file3", "A /etc/new", "A /moved", "D /etc/file9"} <= found
    assert Cause.JOURNAL in {item.cause for item in report.causes}
    assert report.health == []


MTOOLS = [
    pytest.param(["mcopy", "-i", "{image}", "{tree}/etc/file3", "::NEW.TXT"], ["A /NEW.TXT"], Cause.ALLOCATION,
                 id="add"),
    pytest.param(["mdel", "-i", "{image}", "::EFI/BOOT/GRUB.CFG"], ["D /EFI/BOOT/GRUB.CFG"], Cause.DIR_ENTRY,
                 id="delete"),
    pytest.param(["mmd", "-i", "{image}", "::DIR"], ["A /DIR"], Cause.DIR_ENTRY, id="mkdir"),
    pytest.param(["mattrib", "+r", "-i", "{image}", "::EFI/BOOT/GRUB.CFG"], [], Cause.FILE_METADATA, id="attribute"),
    pytest.param(["mcopy", "-o", "-i", "{image}", "{tree}/etc/motd", "::EFI/BOOT/GRUB.CFG"], ["M /EFI/BOOT/GRUB.CFG"],
                 Cause.FILE_CONTENT, id="overwrite"),
]  # fmt: skip


@pytest.fixture(scope="session", params=["16", "32"])
def fat(request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FAT file system with a few files; read-only."""
    need_tools("mkfs.vfat", "mcopy")
    image = tmp_path_factory.mktemp("fat") / "one.img"
    command("mkfs.vfat", "-C", "-F", request.param, "-s", "1", image, "36000" if request.param == "32" else "8192")
    command("mmd", "-i", image, "::EFI", "::EFI/BOOT")
    command("mcopy", "-i", image, tree / "etc" / "file9", "::EFI/BOOT/GRUB.CFG")
    command("mcopy", "-i", image, tree / "large", "::large file with a long name")
    return image


@pytest.mark.parametrize(("words", "files", "cause"), MTOOLS)
def test_mtools(words: list[str], files: list[str], cause: Cause, fat: Path, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "two.img"
    shutil.copyfile(fat, other)
    command(*(word.format(image=other, tree=tree) for word in words))
    report = compare_files(fat, other)
    check_account(report, cmp_count(fat, other))
    assert report.total.unexplained == 0
    assert [f"{item.status} {item.path}" for part in report.parts for item in part.files] == files
    assert cause in {item.cause for item in report.causes}
    assert report.health == []


def test_images_of_another_kind(ext4: Path, tmp_path: Path) -> None:
    """A disk and a file system without partitions: content alone is compared, and no file is new or gone."""
    inner = ext4.read_bytes()
    disk = with_gpt(inner[: 4 * MIB])
    (tmp_path / "disk.raw").write_bytes(disk)
    report = compare_files(tmp_path / "disk.raw", ext4)
    check_account(report)
    (part,) = report.parts
    assert part.copied is not None
    assert part.copied + part.bytes == BytesSource(inner).nonzero().total
    assert report.verdict == (
        f"one is another kind of image than disk: {part.copied:,} bytes of its content are found there, "
        f"{part.bytes:,} are not"
    )
    assert (part.files, report.identical) == ([], False)
