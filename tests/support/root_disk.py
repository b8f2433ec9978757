"""A small disk that has nothing but an XFS root partition, and telling one as edits of another."""

from __future__ import annotations

import os
import random
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
from tests.support.mounted import loop_device, make_files

MIB = 1 << 20
START, SIZE = 1 * MIB, 320 * MIB
_TABLE = "label: gpt\n4: start={}, size={}, name=root\n"


def make_root_disk(path: Path, options: list[str]) -> None:
    """Make a disk with an XFS partition that has a few files."""
    with path.open("wb") as stream:
        stream.truncate(START + SIZE + MIB)
    subprocess.run(["sfdisk", "--quiet", path], input=_TABLE.format(START // 512, SIZE // 512), text=True, check=True)
    with loop_device(path, START, SIZE) as device:
        subprocess.run(["mkfs.xfs", "-q", "-L", "root", "-d", "agcount=2", *options, device], check=True)
    with mounted_root(path) as tree:
        make_files(tree)


@contextmanager
def mounted_root(path: Path) -> Iterator[Path]:
    """Mount the partition."""
    tree = path.with_name(path.name + ".mnt")
    tree.mkdir()
    try:
        with loop_device(path, START, SIZE) as device:
            subprocess.run(["mount", "-o", "nouuid", device, tree], check=True)
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
        return body.edits


def literals(edits: list[Edit]) -> dict[str, int]:
    """Return the literal bytes of edits by owner or op, without those that have none."""
    found: dict[str, int] = {}
    for edit in edits:
        owner = edit.owner if isinstance(edit, Blocks) else str(edit.__struct_config__.tag)
        found[owner] = found.get(owner, 0) + edit.literal_bytes()
    return {owner: size for owner, size in found.items() if size}


def partition_file(disk: Path) -> Path:
    """Return the partition of a disk as a file of its own."""
    path = disk.with_suffix(".xfs")
    subprocess.run(
        ["dd", f"if={disk}", f"of={path}", "bs=1M", "skip=1", f"count={SIZE // MIB}", "conv=sparse", "status=none"],
        check=True,
    )
    return path


def random_edits(tree: Path, seed: int) -> None:
    """Make random changes: create, rename, append, truncate, chmod, setxattr, unlink, symlink, mkdir, sync."""
    choice = random.Random(seed)
    for number in range(8 + seed % 24):
        files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
        file = choice.choice(files)
        match choice.randrange(10):
            case 0:
                (file.parent / f"new{number}").write_bytes(choice.randbytes(choice.choice([10, 1000, 50_000])))
            case 1:
                file.rename(file.with_name(f"renamed{number}"))
            case 2:
                with file.open("ab") as stream:
                    stream.write(b"appended\n" * choice.randrange(1, 300))
            case 3:
                os.truncate(file, choice.randrange(2000))
            case 4:
                file.chmod(0o600 | choice.randrange(64))
            case 5 if len(files) > 4:
                file.unlink()
            case 6:
                (file.parent / f"link{number}").symlink_to(file.name)
            case 7:
                (file.parent / f"dir{number}").mkdir()
            case 8:
                os.setxattr(file, f"user.{number}", choice.randbytes(choice.choice([5, 60, 200, 3000])))
            case _:
                subprocess.run(["sync", "-f", tree], check=True)
