"""What the reader says, compared with debugfs, dumpe2fs and PyPI ``ext4``."""

from __future__ import annotations

import os
import random
import re

import pytest

from rehydrator.disk.extents import Extent
from rehydrator.fs.ext4.c_ext4 import InodeFlag, LargeInode
from rehydrator.fs.ext4.checksums import block_bitmap_slot, expected_inode, inode_bitmap_slot, inode_slot
from rehydrator.fs.ext4.jbd2 import Role
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.ext4.scan import InodeState
from rehydrator.fs.ext4.segments import Tag
from rehydrator.fs.place import Kind
from tests.test_ext4_images import FROM_KERNEL, FROM_TREE, image, opened, tool, tree

pytestmark = pytest.mark.oracle

ALL = (*FROM_TREE, *FROM_KERNEL)
OWNED = (Tag.DIRECTORY, Tag.DATA, Tag.SYMLINK, Tag.JOURNAL, Tag.EXTENT_BLOCK, Tag.INDIRECT_BLOCK, Tag.UNWRITTEN)


def debugfs(name: str, *requests: str) -> str:
    commands = image(name).with_suffix(".debugfs")
    commands.write_text("".join(f"{request}\n" for request in requests))
    return tool("debugfs", "-f", commands, image(name))


def used(filesystem: Ext4Filesystem) -> list[int]:
    states = filesystem.scan.states
    return [ino for ino in range(1, len(states)) if states[ino] == InodeState.USED and (ino == 2 or ino >= 11)]


def sample(numbers: list[int], count: int) -> list[int]:
    return numbers if len(numbers) <= count else sorted(random.Random(1).sample(numbers, count))


@pytest.mark.parametrize("name", ALL)
def test_block_owners_are_those_of_icheck(name: str) -> None:
    filesystem = opened(name)
    expected: dict[int, int] = {}
    for index in range(len(filesystem.segments)):
        segment = filesystem.segments[index]
        if segment.tag in OWNED:
            expected |= dict.fromkeys((segment.start, segment.start + segment.length - 1), segment.number)
    blocks = sample(list(expected), 400)
    output = debugfs(name, "icheck " + " ".join(map(str, blocks)))
    found = {int(a): int(b) for a, b in re.findall(r"^(\d+)\t(\d+)$", output, re.MULTILINE)}
    assert found == {block: expected[block] for block in blocks}


@pytest.mark.parametrize("name", ALL)
def test_blocks_of_each_inode_are_those_of_debugfs(name: str) -> None:
    filesystem = opened(name)
    fs = filesystem.fs
    for ino in sample(used(filesystem), 60):
        inode = fs.inode(ino)
        if not fs.has_blocks(inode):
            continue
        found = fs.block_map(inode)
        numbers = [run.physical + step for run in found.runs for step in range(run.count)]
        tree_blocks = [node.block for node in found.nodes]
        words = debugfs(name, f"blocks <{ino}>").split("\n", 1)[1].split()
        assert sorted(map(int, words)) == sorted(numbers + tree_blocks), ino


@pytest.mark.parametrize("name", ALL)
def test_inodes_are_those_of_debugfs(name: str) -> None:
    filesystem = opened(name)
    inodes = sample(used(filesystem), 80)
    parts = re.split(r"^debugfs: stat <\d+>$", debugfs(name, *(f"stat <{ino}>" for ino in inodes)), flags=re.MULTILINE)
    for ino, text in zip(inodes, parts[1:], strict=True):
        inode = filesystem.fs.inode(ino)
        disk = inode.disk
        assert int(_find(r"Inode: (\d+)", text)) == ino
        assert int(_find(r"Mode: +(\d+)", text), 8) == disk.i_mode & 0o7777
        assert int(_find(r"Flags: (0x[0-9a-f]+)", text), 16) == disk.i_flags
        assert int(_find(r"Generation: (\d+)", text)) == disk.i_generation
        assert int(_find(r"Links: (\d+)", text)) == disk.i_links_count
        assert int(_find(r"File ACL: (\d+)", text)) == inode.file_acl
        if not re.search(r"Type: (character|block)", text):
            assert int(_find(r"Size: (\d+)", text)) == inode.size
        stamps = re.search(r"mtime: 0x([0-9a-f]+)(?::([0-9a-f]+))?", text)
        assert stamps is not None
        assert int(stamps[1], 16) == disk.i_mtime
        if stamps[2] and isinstance(disk, LargeInode):
            assert int(stamps[2], 16) == disk.i_mtime_extra
        checksum = re.search(r"Inode checksum: (0x[0-9a-f]+)", text)
        if checksum:
            assert int(checksum[1], 16) == inode_slot(inode.raw).get(inode.raw)


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, (pattern, text)
    return found[1]


@pytest.mark.parametrize("name", ALL)
def test_paths_are_those_of_ncheck(name: str) -> None:
    filesystem = opened(name)
    inodes = [ino for ino in sample(used(filesystem), 100) if filesystem.path(ino) not in ("", "/")]
    output = debugfs(name, "ncheck " + " ".join(map(str, inodes)))
    found: dict[int, set[str]] = {}
    for number, path in re.findall(r"^(\d+)\t/?(/.*)$", output, re.MULTILINE):
        found.setdefault(int(number), set()).add(path)
    assert found.keys() == set(inodes)
    for ino in inodes:
        assert filesystem.path(ino) in found[ino]
        assert filesystem.fs.lookup(filesystem.path(ino), follow=False) == ino


@pytest.mark.parametrize("name", ALL)
def test_groups_are_those_of_dumpe2fs(name: str) -> None:
    filesystem = opened(name)
    fs = filesystem.fs
    text = tool("dumpe2fs", image(name))
    parts = re.split(r"^Group (\d+): ", text, flags=re.MULTILINE)[1:]
    assert len(parts) == 2 * len(fs.groups)
    size = fs.geometry.desc_size
    for number, part in zip(parts[::2], parts[1::2], strict=True):
        group = fs.groups[int(number)]
        assert int(_find(r"Block bitmap at (\d+)", part)) == group.block_bitmap
        assert int(_find(r"Inode bitmap at (\d+)", part)) == group.inode_bitmap
        first, last = re.findall(r"Inode table at (\d+)-(\d+)", part)[0]
        assert (int(first), int(last)) == (group.inode_table, group.inode_table + fs.geometry.itable_blocks - 1)
        counts = re.findall(r"(\d+) free blocks, (\d+) free inodes, (\d+) directories", part)[0]
        assert tuple(map(int, counts)) == (group.free_blocks, group.free_inodes, group.used_dirs)
        for kind, slot in (("Block", block_bitmap_slot(size)), ("Inode", inode_bitmap_slot(size))):
            stored = re.search(rf"{kind} bitmap at .*csum (0x[0-9a-f]+)", part)
            if stored:
                assert int(stored[1], 16) == slot.get(group.raw)
        superblock = re.search(r"(?:Primary|Backup) superblock at (\d+)", part)
        assert (superblock is not None) == fs.geometry.has_super(group.number)


@pytest.mark.parametrize("name", ["1k", "2k", "4k", "ext3", "kernel-1k", "kernel-4k", "meta_bg"])
def test_free_space_is_that_of_dumpe2fs(name: str) -> None:
    filesystem = opened(name)
    size = filesystem.fs.geometry.block_size
    expected: set[int] = set()
    for line in re.findall(r"^  Free blocks: (.*)$", tool("dumpe2fs", image(name)), re.MULTILINE):
        for item in filter(None, line.split(", ")):
            first, _, last = item.partition("-")
            expected |= set(range(int(first), int(last or first) + 1))
    found: set[int] = set()
    for place in filesystem.places([Extent(0, filesystem.size)]):
        if place.kind == Kind.FREE:
            found |= set(range(place.extent.offset // size, place.extent.end // size))
    assert found == expected


@pytest.mark.parametrize("name", FROM_KERNEL)
def test_journal_is_that_of_logdump(name: str) -> None:
    journal = opened(name).journal
    assert journal is not None
    copies = {
        (int(number), int(home), int(flags, 16))
        for home, number, flags in re.findall(
            r"FS block (\d+) logged at (?:sequence \d+, )?journal block (\d+) \(flags (0x[0-9a-f]+)\)",
            debugfs(name, "logdump -aO"),
        )
    }
    found = {
        (copy.block, copy.tag.home, int(copy.tag.flags))
        for transaction in journal.transactions
        for copy in transaction.copies
    }
    assert copies
    assert copies <= found
    kinds = {"descriptor": Role.DESCRIPTOR, "commit": Role.COMMIT, "revoke": Role.REVOKE}
    headers = re.findall(
        r"Found expected sequence (\d+), type \d+ \((\w+)[^)]*\) at block (\d+)", debugfs(name, "logdump -aO")
    )
    assert headers
    for sequence, kind, block in headers:
        parsed = journal.block(int(block))
        assert (parsed.sequence, parsed.role) == (int(sequence), kinds[kind.split()[0]])


@pytest.mark.parametrize("name", ["1k", "4k", "kernel-1k", "kernel-2k", "kernel-4k"])
def test_inodes_are_those_of_the_ext4_package(name: str) -> None:
    oracle = pytest.importorskip("ext4")
    filesystem = opened(name)
    fs = filesystem.fs
    with image(name).open("rb") as stream:
        volume = oracle.Volume(stream)
        assert volume.seed == fs.seed
        for ino in sample(used(filesystem), 100):
            inode, other = fs.inode(ino), volume.inodes[ino]
            assert other.offset == fs.inode_offset(ino)
            assert other.expected_checksum == expected_inode(fs.seed, ino, inode.raw)
            if InodeFlag.EXTENTS in inode.flags:
                runs = [(run.logical, run.physical) for run in fs.block_map(inode).runs]
                assert [(item.ee_block, item.ee_start) for item in other.extents] == runs
            if inode.file_acl:
                found = {item.name: item.value for item in fs.xattrs(ino)}
                assert found == dict(other.xattrs)


@pytest.mark.parametrize("name", FROM_TREE)
def test_content_is_that_of_the_tree(name: str) -> None:
    fs = opened(name).fs
    for path in tree().rglob("*"):
        relative = f"/{path.relative_to(tree())}"
        ino = fs.lookup(relative, follow=False)
        assert ino is not None, relative
        if path.is_symlink():
            assert fs.read_file(ino) == os.readlink(path).encode()  # noqa: PTH115 - pathlib drops the dots
        elif path.is_file():
            assert fs.read_file(ino) == path.read_bytes(), relative
    assert fs.lookup("/fast") == fs.lookup("/slow") == fs.lookup("/absolute/deep.txt")
    assert fs.lookup("/dir/nested/../../dir/./nested//deep.txt") == fs.lookup("/fast")
    assert fs.lookup("/loop") is None
    assert fs.lookup("/missing/x") is None
    assert fs.lookup("/small.txt/x") is None
    assert fs.lookup("/") == 2
