"""Blocks of a directory that is large enough for two levels of its index, against debugfs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehydrator.fs.ext4 import dirblock
from rehydrator.fs.ext4.c_ext4_dir import DirEntry

BLOCK = 1024
NAMES = {f"a-rather-long-name-of-a-file-{number}".encode() for number in range(3000)}
NODE = re.compile(r"\(count\): (\d+)\n.*\(limit\): (\d+)\n(?:Checksum.*\n)?((?:Entry #\d+: .*\n)+)")
ROW = re.compile(r"Hash 0x(\w+), block (\d+)")
HALF_MD4 = 1


@dataclass(frozen=True)
class Directory:
    """The blocks of a directory by their numbers, and what debugfs says about its index: root first."""

    blocks: list[bytes]
    nodes: list[dirblock.Index]


@pytest.fixture(scope="module")
def directory(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Directory:
    need("mkfs.ext4", "e2fsck", "debugfs")
    root = tmp_path_factory.mktemp("dirblock")
    image, files = root / "image", root / "tree" / "dir"
    files.mkdir(parents=True)
    for name in NAMES:
        (files / name.decode()).touch()
    make: list[str | Path] = ["mkfs.ext4", "-q", "-b", str(BLOCK), "-N", "4000", "-d", files.parent, image, "16M"]
    subprocess.run(make, check=True, capture_output=True)
    assert subprocess.run(["e2fsck", "-fyD", image], check=False, capture_output=True).returncode in {0, 1}
    _debugfs(image, f"dump /dir {root}/blocks")
    data = (root / "blocks").read_bytes()
    told = [
        (int(limit), [(int(hash_, 16), int(block)) for hash_, block in ROW.findall(rows)])
        for _, limit, rows in NODE.findall(_debugfs(image, "htree_dump /dir"))
    ]
    nodes = [dirblock.Index(*told[0], HALF_MD4, indirect_levels=1), *(dirblock.Index(*node) for node in told[1:])]
    return Directory([data[at : at + BLOCK] for at in range(0, len(data), BLOCK)], nodes)


def _debugfs(image: Path, command: str) -> str:
    return subprocess.run(["debugfs", "-R", command, image], check=True, capture_output=True, text=True).stdout


def test_the_index_is_that_of_debugfs(directory: Directory) -> None:
    root, *inner = directory.nodes
    assert dirblock.index_of(directory.blocks[0]) == root
    assert [dirblock.index_of(directory.blocks[block]) for _, block in root.rows] == inner
    assert [dirblock.index_of(directory.blocks[block]) for node in inner for _, block in node.rows] == [
        None for node in inner for _ in node.rows
    ]


def test_all_names_are_in_leaves(directory: Directory) -> None:
    leaves = [directory.blocks[block] for node in directory.nodes[1:] for _, block in node.rows]
    found = [slot.name for leaf in leaves for slot in dirblock.slots(leaf) or ()]
    assert sorted(found) == sorted(NAMES)


def test_index_blocks_are_written_as_they_were(directory: Directory) -> None:
    for number in (0, *(block for _, block in directory.nodes[0].rows)):
        block = directory.blocks[number]
        empty, slots = dirblock.empty_block(BLOCK, tail=False), dirblock.slots(block)
        made = dirblock.changed_block(empty, [], slots or (), dirblock.index_of(block), fresh=True)
        assert made[:-4] == block[:-4], "all but the checksum, which is left open"


def test_entries_come_and_go(directory: Directory) -> None:
    """An entry that goes leaves its room to the one before; one that comes back takes it again."""
    leaf = directory.blocks[directory.nodes[1].rows[0][1]]
    slots = dirblock.slots(leaf) or []
    first, second = slots[:2]
    without = dirblock.changed_block(leaf, [second.at], [], None, fresh=False)
    assert dirblock.slots(without) == [slot for slot in slots if slot != second]
    room = DirEntry.parse(leaf, second.at).rec_len
    assert DirEntry.parse(without, first.at).rec_len == DirEntry.parse(leaf, first.at).rec_len + room
    assert without[second.at : second.at + room] == bytes(room)
    assert dirblock.changed_block(without, [], [second], None, fresh=False) == leaf
