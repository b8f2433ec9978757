"""Edits of ext4 with values that can't be: store damage, never another error."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator.disk.source import FileSource
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.table import Edit
from rehydrator.edits.times import Time
from rehydrator.engines.direct import edited_disk
from rehydrator.errors import StoreDamagedError
from rehydrator.manifest.schema import EditedDisk
from tests.support.boot_disk import make_boot_disk
from tests.support.ext4_changes import FORMATS, Changes, fill
from tests.support.forged import forged
from tests.support.one_partition import copied, mounted_partition, told

_TRIALS = 40
_OPS = (
    "ext4.inodes", "ext4.extents", "ext4.xattrs", "ext4.allocation", "ext4.superblock", "ext4.directory", "file",
    "ext4.journal",
)  # fmt: skip
_CONTENT = bytes(100)


def make_edits(base: Path) -> list[Edit]:
    """Let the kernel make changes of all kinds."""
    make_boot_disk(base, FORMATS["orphan file"])
    with mounted_partition(base) as tree:
        fill(tree)
    target = copied(base, "target.raw")
    with mounted_partition(target) as tree:
        changes = Changes(tree, 3)
        for change in (changes.many_names, changes.large_attribute, changes.orphan, changes.sync, changes.pieces):
            change()
        (tree / "pieces").mkdir()
        for changes.number in range(3):
            changes.pieces()
            changes.large_attribute()
            changes.orphan()
            changes.rmdir()
            changes.remove_tree()
            changes.sync()
        changes.close()
    return told(base, target)


@pytest.mark.oracle
def test_forged_edits_are_damage(tmp_path: Path, need: Callable[..., None]) -> None:
    """Any value of a manifest may be wrong: that is store damage, or other bytes, which their sha256 tells."""
    need("losetup", "mkfs.ext4", "sfdisk", root=True)
    edits = make_edits(tmp_path / "base.raw")
    choice = random.Random(1)
    times = [Time(0, 0)] * 99
    with FileSource(tmp_path / "base.raw") as source:
        for op in _OPS:
            index, edit = next((index, edit) for index, edit in enumerate(edits) if op == edit.__struct_config__.tag)
            earlier = [item for item in edits[:index] if not isinstance(item, FileContent)]
            plain = msgspec.json.decode(msgspec.json.encode(edit))
            for _ in range(_TRIALS):
                changed = msgspec.json.encode(forged(plain, choice, texts=True))
                with contextlib.suppress(StoreDamagedError, msgspec.ValidationError):
                    wrong = msgspec.json.decode(changed, type=type(edit))
                    edited_disk(source, EditedDisk("canonical", [*earlier, wrong], times), lambda _name: _CONTENT)
