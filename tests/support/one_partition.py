"""Small disks that have nothing but one partition, and telling one as edits of another."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource
from rehydrator.edits.blocks import Blocks, differing_blocks
from rehydrator.edits.recognise import recognise
from rehydrator.edits.replay import Replay
from rehydrator.edits.table import Edit
from rehydrator.manifest.schema import EditedDisk
from tests.support.blobs import Blobs
from tests.support.mounted import STEADY_EXT4, loop_device

MIB = 1 << 20
START = 1 * MIB
FREE = "free space"  # in the owner of literal bytes: what freed blocks held is nowhere else


def make_disk(path: Path, partition: str, size: int, mkfs: list[str]) -> None:
    """Make a disk whose only partition (number and name, such as ``3 boot``) has ``size`` bytes, and format it."""
    with path.open("wb") as stream:
        stream.truncate(START + size + MIB)
    number, name = partition.split()
    table = f"label: gpt\n{number}: start={START // 512}, size={size // 512}, name={name}\n"
    subprocess.run(["sfdisk", "--quiet", path], input=table, text=True, check=True)
    with loop_device(path, START, size) as device:
        subprocess.run([*mkfs, "-L", name, device], check=True)


def size_of(disk: Path) -> int:
    """Return the size of the partition in bytes."""
    return disk.stat().st_size - START - MIB


@contextmanager
def mounted_partition(path: Path, options: str = STEADY_EXT4) -> Iterator[Path]:
    """Mount the partition, of ext4 unless options for another file system are given."""
    tree = path.with_name(path.name + ".mnt")
    tree.mkdir()
    try:
        with loop_device(path, START, size_of(path)) as device:
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


def partition_file(disk: Path) -> Path:
    """Return the partition of a disk as a file of its own."""
    path = disk.with_suffix(".partition")
    skip, count = f"skip={START // MIB}", f"count={size_of(disk) // MIB}"
    subprocess.run(["dd", f"if={disk}", f"of={path}", "bs=1M", skip, count, "conv=sparse", "status=none"], check=True)
    return path


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
        return body.edits


def literals(edits: list[Edit]) -> dict[str, int]:
    """Return the literal bytes of edits by owner or op, without those that have none."""
    found: dict[str, int] = {}
    for edit in edits:
        owner = edit.owner if isinstance(edit, Blocks) else str(edit.__struct_config__.tag)
        found[owner] = found.get(owner, 0) + edit.literal_bytes()
    return {owner: size for owner, size in found.items() if size}
