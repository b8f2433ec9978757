"""Nodes of extent trees are told without literal bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.edits.ext4_extents import Ext4Extents, ExtentNode
from tests.support.boot_disk import make_boot_disk
from tests.support.one_partition import copied, literals, mounted_partition, told


def _write(path: Path, block: int, size: int) -> None:
    """Write one block, at once."""
    file = os.open(path, os.O_RDWR)
    os.pwrite(file, b"%06d" % block * (size // 6), block * size)
    os.fsync(file)
    os.close(file)


def _nodes(base: Path, target: Path) -> list[ExtentNode]:
    edits = told(base, target)
    assert not [owner for owner in literals(edits) if "extent" in owner]
    return [node for edit in edits if isinstance(edit, Ext4Extents) for node in edit.nodes]


@pytest.mark.oracle
@pytest.mark.parametrize("size", [1024, 4096])
def test_joined_extents_leave_a_row_behind(size: int, tmp_path: Path, need: Callable[..., None]) -> None:
    """Blocks of one unwritten extent are written here and there, then in between: extents split and join."""
    need("losetup", "mkfs.ext4", "sfdisk", "fallocate", root=True)
    raw = tmp_path / "raw"
    make_boot_disk(raw, ["-b", str(size)])
    with mounted_partition(raw) as tree:
        subprocess.run(["fallocate", "-l", str(40 * size), tree / "file"], check=True)
        for block in (4, 8, 12, 16):
            _write(tree / "file", block, size)
    base = copied(raw, "base")
    with mounted_partition(base) as tree:
        _write(tree / "file", 20, size)
    split = copied(base, "split")
    joined = copied(raw, "joined")
    with mounted_partition(joined) as tree:
        for block in (20, 5, 6, 7, 9):
            _write(tree / "file", block, size)
    assert [bool(node.stale) for node in _nodes(raw, split)] == [False]
    fresh = _nodes(raw, joined)
    assert [(node.depth, bool(node.stale)) for node in fresh] == [(0, True)]
    assert len(fresh[0].rows) + len(fresh[0].stale) >= 9
    assert _nodes(split, joined), "the tree is there already and changes"
    assert _nodes(joined, split)
