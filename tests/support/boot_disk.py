"""A small disk that has nothing but an ext4 boot partition, and telling one as edits of another."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource, Window
from rehydrator.edits.blocks import Blocks, differing_blocks
from rehydrator.edits.ext4_journal import Ext4Journal
from rehydrator.edits.recognise import recognise
from rehydrator.edits.replay import Replay
from rehydrator.edits.table import Edit
from rehydrator.manifest.schema import EditedDisk
from tests.support.blobs import Blobs
from tests.support.mounted import loop_device

MIB = 1 << 20
START = 1 * MIB
_TABLE = "label: gpt\n3: start={start}, size={size}, name=boot\n"


def make_boot_disk(path: Path, options: list[str], size: int = 32 * MIB) -> None:
    """Make a disk with an ext4 partition of ``size`` bytes."""
    with path.open("wb") as stream:
        stream.truncate(START + size + MIB)
    table = _TABLE.format(start=START // 512, size=size // 512)
    subprocess.run(["sfdisk", "--quiet", path], input=table, text=True, check=True)
    with loop_device(path, START, size) as device:
        subprocess.run(["mkfs.ext4", "-q", "-L", "boot", *options, device], check=True)


@contextmanager
def mounted_boot(path: Path, options: str = "rw") -> Iterator[Path]:
    """Mount the partition."""
    tree = path.with_name(path.name + ".mnt")
    tree.mkdir()
    try:
        with loop_device(path, START, path.stat().st_size - START - MIB) as device:
            subprocess.run(["mount", "-o", options, device, tree], check=True)
            try:
                yield tree
            finally:
                subprocess.run(["umount", tree], check=True)
    finally:
        tree.rmdir()


def copied(path: Path, name: str) -> Path:
    """Copy a disk, holes and all."""
    copy = path.with_name(name)
    subprocess.run(["cp", "--sparse=always", path, copy], check=True)
    return copy


def told(base: Path, target: Path) -> list[Edit]:
    """Return the edits, after they were replayed from JSON and gave the target exactly."""
    blobs = Blobs()
    with FileSource(base) as before, FileSource(target) as after:
        found = recognise(before, after, read_table(before), list(differing_blocks(before, after)), blobs)
        text = msgspec.json.encode(EditedDisk("canonical", found.edits, found.times))
        body = msgspec.json.decode(text, type=EditedDisk)
        replay = Replay(before, body.times, blobs.content.__getitem__)
        for edit in body.edits:
            edit.apply(replay)
        assert list(differing_blocks(replay.disk, after)) == []
        size = before.size - START - MIB
        target.with_suffix(".boot").write_bytes(bytes(Window(replay.disk, START, size).read(0, size)))
        return body.edits


def literals(edits: list[Edit]) -> dict[str, int]:
    """Return the literal bytes of edits by owner, without those that have none."""
    found = {edit.owner: edit.literal_bytes() for edit in edits if isinstance(edit, Blocks)}
    found["journal"] = sum(edit.literal_bytes() for edit in edits if isinstance(edit, Ext4Journal))
    return {owner: size for owner, size in found.items() if size}
