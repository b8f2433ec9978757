"""Named edits: on the real release nothing is left without a name; on kernel-made changes they are always exact."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator import rungs
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.edits.blocks import Blocks, differing_blocks
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.literal import LiteralRun, write_runs
from rehydrator.edits.recognise import recognise
from rehydrator.edits.replay import Replay
from rehydrator.edits.table import Edit
from rehydrator.edits.times import Time, ext4_time, ext4_words
from rehydrator.edits.zero import Zero, ZeroRun
from rehydrator.errors import StoreDamagedError
from rehydrator.intake.intake import Content
from rehydrator.manifest.schema import EditedDisk, File, Identity
from rehydrator.release.artifact import Artifact
from rehydrator.store.blobs import BlobWriter
from rehydrator.store.reader import Store
from tests.support.blobs import Blobs
from tests.support.cli import fine
from tests.support.disks import metal_disk
from tests.support.mounted import make_disk, mounted, random_edits
from tests.support.one_partition import FREE

EXT4 = {
    "1k": ["-b", "1024", "-O", "metadata_csum_seed"],
    "4k": ["-b", "4096"],
    "nocsum": ["-b", "1024", "-O", "^metadata_csum"],
}


def _round_trip(base: Path, target: Path) -> list[Edit]:
    """Recognise, pass through JSON, replay, compare byte for byte; return the edits."""
    blobs = Blobs()
    with FileSource(base) as before, FileSource(target) as after:
        differing = list(differing_blocks(before, after))
        found = recognise(before, after, read_table(before), differing, blobs)
        body = EditedDisk("canonical", found.edits, found.times)
        body = msgspec.json.decode(msgspec.json.encode(body), type=EditedDisk)
        replay = Replay(before, body.times, blobs.content.__getitem__)
        for edit in body.edits:
            edit.apply(replay)
        assert list(differing_blocks(replay.disk, after)) == []
        assert replay.disk.nonzero() == after.nonzero()
        return body.edits


@pytest.mark.parametrize("platform", ["qemu", "openstack"])
def test_a_sibling_has_no_literal_bytes(real_store: Path, platform: str) -> None:
    with Store(real_store) as store:
        manifest = next(item for item in store.manifests("x86_64") if item.artifact.platform == platform)
        body = manifest.body
        assert isinstance(body, EditedDisk)
        ops = [edit.__struct_config__.tag for edit in body.edits]
        assert "blocks" not in ops
        assert {"grow", "platform", "ext4.inodes", "ext4.journal", "xfs.inodes", "xfs.log"} <= set(ops)
        assert sum(edit.literal_bytes() for edit in body.edits) == 0
        assert manifest.blobs == []
        text = msgspec.json.encode(manifest)
        assert b"console=" not in text, "kernel arguments are told, not stored"
        assert b"checksum" not in text
        assert b"_crc" not in text


@pytest.mark.parametrize("options", EXT4.values(), ids=EXT4.keys())
def test_kernel_made_changes_are_replayed_exactly(
    options: list[str], need: Callable[..., None], tmp_path: Path
) -> None:
    need("sfdisk", "losetup", "mount", root=True)
    base, target = tmp_path / "base", tmp_path / "target"
    make_disk(base, options)
    for seed in range(3):
        subprocess.run(["cp", "--sparse=always", base, target], check=True)
        with mounted(target) as trees:
            random_edits(trees.boot, seed)
            random_edits(trees.root, seed + 100)
        edits = _round_trip(base, target)
        assert any(not isinstance(edit, Blocks) for edit in edits)


def test_the_manifest_names_the_blobs_of_its_edits(need: Callable[..., None], tmp_path: Path) -> None:
    need("sfdisk", "losetup", "mount", root=True)
    raw, metal, sibling = tmp_path / "raw", tmp_path / "metal", tmp_path / "sibling"
    make_disk(raw, EXT4["1k"])
    for number, image in enumerate((metal, sibling)):
        subprocess.run(["cp", "--sparse=always", raw, image], check=True)
        with mounted(image) as trees, (trees.boot / "big").open("r+b") as stream:
            stream.write(random.Random(number).randbytes(2000))
    blobs = BlobWriter(tmp_path)
    contents = [_content(path) for path in (metal, sibling)]
    try:
        peeled = rungs.peel(contents[1], blobs)
        manifest = rungs.by_edits(peeled, rungs.canonical_of(contents[0]), blobs)
    finally:
        for content in contents:
            content.discard()
    assert manifest is not None
    assert isinstance(manifest.body, EditedDisk)
    [change] = [edit for edit in manifest.body.edits if isinstance(edit, FileContent)]
    assert change.blob in {ref.sha256 for ref in manifest.blobs}


def _content(path: Path) -> Content:
    artifact = Artifact(Identity(path.name, "x86_64", "raw", "disk", "1"), path, sha256="")
    file = File(path.name, path.stat().st_size, "")
    return Content(artifact, file, file, FileSource(path), temporary=False)


def test_two_mounts_differ_by_names_only(need: Callable[..., None], tmp_path: Path) -> None:
    """Siblings by the same edit, told from each other: times, generations, ids; nothing without a name."""
    need("sfdisk", "losetup", "mount", root=True)
    raw, first, second = tmp_path / "raw", tmp_path / "first", tmp_path / "second"
    make_disk(raw, EXT4["1k"])
    for image in (first, second):
        subprocess.run(["cp", "--sparse=always", raw, image], check=True)
        with mounted(image) as trees:
            (trees.boot / "etc" / "file1").write_text("the same text\n")
            (trees.root / "etc" / "file2").read_text()
    edits = _round_trip(first, second)
    # Blocks that the driver took and gave back differ with the CPU it ran on: what they held is nowhere else.
    assert [edit.owner for edit in edits if isinstance(edit, Blocks) and FREE not in edit.owner] == []


def test_replayed_file_systems_are_clean(need: Callable[..., None], real_store: Path, tmp_path: Path) -> None:
    need("qemu-img", "e2fsck", "xfs_repair")
    fine("rehydrate", tmp_path, "--disk", "openstack", "--store", real_store, "--progress", "none")
    image = next(tmp_path.glob("*.qcow2"))
    raw = tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    boot, root = tmp_path / "boot", tmp_path / "root"
    with FileSource(raw) as disk:
        for region in read_table(disk).regions:
            if region.name in ("p3 boot", "p4 root"):
                with (boot if region.name == "p3 boot" else root).open("wb") as out:
                    out.truncate(region.extent.length)
                    for extent in disk.nonzero().within(*region.extent):
                        out.seek(extent.offset - region.extent.offset)
                        out.write(disk.read(*extent))
    subprocess.run(["e2fsck", "-fn", boot], check=True, capture_output=True)
    subprocess.run(["xfs_repair", "-n", root], check=True, capture_output=True)


@pytest.mark.parametrize("time", [Time(0, 0), Time(1_800_000_000, 999_999_999), Time(-1, 5), Time(1 << 33, 1)])
def test_ext4_times_round_trip(time: Time) -> None:
    assert ext4_time(*ext4_words(time)) == time


@pytest.mark.parametrize("run", [ZeroRun(0, 1 << 60), ZeroRun(-1, 1), ZeroRun(1 << 60, 1), ZeroRun(4096, -1)])
def test_zeros_outside_of_the_partition_are_damage(run: ZeroRun) -> None:
    """Told before any room is made for them."""
    replay = Replay(BytesSource(metal_disk()))
    with pytest.raises(StoreDamagedError, match="leaves its partition"):
        Zero("p3 boot", [run]).apply(replay)


@pytest.mark.parametrize("offset", [-1, 7, 1 << 40])
def test_literal_runs_keep_the_length(offset: int) -> None:
    data = bytearray(8)
    write_runs(data, [LiteralRun(6, b"ab")])
    assert data == bytearray(b"\0" * 6 + b"ab")
    with pytest.raises(StoreDamagedError, match="leaves its structure"):
        write_runs(data, [LiteralRun(offset, b"cd")])
