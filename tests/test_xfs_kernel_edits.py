"""What the kernel's XFS does to files is told without literal bytes and replayed exactly."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from rehydrator.disk.source import FileSource
from rehydrator.edits.blocks import Blocks
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.replay import Replay
from rehydrator.edits.times import Time
from rehydrator.errors import StoreDamagedError
from tests.support import kernel_changes as kernel
from tests.support.explaining import compare_files
from tests.support.forged import forged
from tests.support.kernel_changes import (
    append,
    create,
    directories,
    modes,
    remove,
    rename,
    replace,
    small_xattr,
    sync,
    truncate,
)
from tests.support.mounted import random_edits
from tests.support.one_partition import copied, literals, partition_file, told
from tests.support.root_disk import make_root_disk, mounted_root

FORMATS = {
    "reflink": ["-m", "reflink=1,finobt=1", "-i", "sparse=1"],
    "4096": ["-s", "size=4096"],
    "rmap": ["-m", "rmapbt=1,reflink=1", "-i", "nrext64=1"],
    "plain": ["-m", "reflink=0,bigtime=0,inobtcount=0", "-i", "sparse=0"],
}
SEEDS = 4
# What a removed file held was written to blocks that belong to nobody by now: its content is nowhere else.
FREED = "p4 root, free space"


def large_xattrs(tree: Path) -> None:
    for number in range(6):
        os.setxattr(tree / "etc/file0", f"user.large{number}", bytes(range(1, 251)) * 3)


def links(tree: Path) -> None:
    kernel.links(tree, 700)


def some_names(tree: Path) -> None:
    """Let a directory fill a block."""
    (tree / "some").mkdir()
    for number in range(30):
        (tree / "some" / f"a-rather-long-name-of-a-file-{number:04}").touch()
    sync(tree)
    for number in range(0, 30, 3):
        (tree / "some" / f"a-rather-long-name-of-a-file-{number:04}").unlink()


def many_names(tree: Path) -> None:
    """Let a directory grow until it has a leaf and several data blocks."""
    kernel.many_names(tree, 250)


def share(tree: Path) -> None:
    """Let two files share extents, and write into one of them."""
    subprocess.run(["cp", "--reflink=always", tree / "big", tree / "shared"], check=True)
    sync(tree)
    with (tree / "shared").open("r+b") as stream:
        stream.seek(100_000)
        stream.write(b"no longer shared")


def extents(tree: Path) -> None:
    kernel.extents(tree, 60)


def random_changes(tree: Path, seed: int) -> None:
    random_edits(tree, seed, 8 + seed % 24, xattr_sizes=(5, 60, 200, 3000))


CASES = (
    create, append, truncate, rename, replace, remove, modes, small_xattr, large_xattrs, links, directories, some_names,
    many_names, extents, share,
)  # fmt: skip


# Behind the end of a name up to seven bytes of what lay there before stay; so do odd bytes of states in between.
ALLOWED = {"many_names": {"xfs.structures": 60}, "extents": {"xfs.records": 8}}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", FORMATS)
def test_edits_by_the_kernel(kind: str, tmp_path: Path, need: Callable[..., None]) -> None:
    """All cases on the usual format, the telling ones on others."""
    need("losetup", "mkfs.xfs", "sfdisk", "xfs_repair", root=True)
    base = tmp_path / "base.raw"
    make_root_disk(base, FORMATS[kind])
    usual = kind == "reflink"
    chosen = {"reflink": CASES, "rmap": (create, remove, many_names, extents, share)}
    changes = {change.__name__: change for change in chosen.get(kind, (create, many_names, extents))}
    changes |= {f"seed {seed}": partial(random_changes, seed=seed) for seed in range(SEEDS if usual else 1)}
    problems = []
    for name, change in changes.items():
        target = copied(base, "target.raw")
        with mounted_root(target) as tree:
            change(tree)
        edits = told(base, target)
        left = literals(edits)
        allowed = ALLOWED.get(name, {})
        if any(size > allowed.get(owner, 0) for owner, size in left.items() if owner != FREED):
            problems.append(f"{name}: literal bytes {left}")
        if not [edit for edit in edits if not isinstance(edit, Blocks)]:
            problems.append(f"{name}: nothing is told")
        total = compare_files(base, target).total
        if total.unexplained or not total.differing:
            problems.append(f"{name}: {total.unexplained} of {total.differing} bytes are not explained")
        repair = subprocess.run(["xfs_repair", "-n", partition_file(target)], capture_output=True, check=False)
        if repair.returncode:
            problems.append(f"{name}: {repair.stderr.decode()}")
    assert not problems, "\n".join(problems)


def test_forged_edits_are_damage(tmp_path: Path, need: Callable[..., None]) -> None:
    """Any number of a manifest may be wrong: that is store damage, or other bytes, which their sha256 tells."""
    need("losetup", "mkfs.xfs", "sfdisk", root=True)
    base = tmp_path / "base.raw"
    make_root_disk(base, FORMATS["reflink"])
    target = copied(base, "target.raw")
    with mounted_root(target) as tree:
        for change in (create, rename, large_xattrs, links, some_names):
            change(tree)
    edits = told(base, target)
    assert {"xfs.structures", "xfs.inodes", "xfs.records"} <= {str(edit.__struct_config__.tag) for edit in edits}
    choice = random.Random(1)
    with FileSource(base) as source:
        for edit in edits:
            if isinstance(edit, Blocks | FileContent):
                continue
            plain = msgspec.json.decode(msgspec.json.encode(edit))
            for _ in range(60):
                changed = msgspec.json.encode(forged(plain, choice))
                replay = Replay(source, [Time(0, 0)] * 99)
                with contextlib.suppress(StoreDamagedError, msgspec.ValidationError):
                    msgspec.json.decode(changed, type=type(edit)).apply(replay)
