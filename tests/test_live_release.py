"""A release with live artifacts: rootfs.img lies in the ISO as well, and is compressed once for both."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.disk.extents import BLOCK, Data
from rehydrator.layers import squashfs_codec
from rehydrator.manifest.schema import Parts, Relocated, references_of
from rehydrator.store.reader import Store
from tests.support import isos
from tests.support.cli import fine, run
from tests.support.compressible import compressible
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker
from tests.test_benchmark import bench, tables
from tests.test_proof import Tally
from tests.test_rehydrate import sha256_file
from tests.test_rootfs import cpio, squashfs

FILES = {f"file{number}": compressible(number, 40_000, holes=0) for number in range(1, 9)}
CONTENT = sum(map(len, FILES.values()))
ROOTFS = "images/pxeboot/rootfs.img"


@pytest.fixture(scope="module")
def release(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> ReleaseMaker:
    """Metal with some files on it, and the live artifacts of them."""
    need("mksquashfs", "cpio")
    top = tmp_path_factory.mktemp("live")
    (top / "tree").mkdir()
    for name, data in FILES.items():
        (top / "tree" / name).write_bytes(data)
    squashfs(top / "tree", top / "root.squashfs", "-b", "4K")
    (top / "version").write_text("44\n")
    rootfs = cpio(top, "root.squashfs", "version")
    disk = bytearray(metal_disk())
    at = 2 << 20
    for data in FILES.values():
        disk[at : at + len(data)] = data
        at += -(-len(data) // BLOCK) * BLOCK
    maker = ReleaseMaker(top / "release")
    maker.add("metal", "raw", bytes(disk))
    files = isos.FILES | {ROOTFS: rootfs}
    maker.add("live-kernel", "", files["images/pxeboot/vmlinuz"])
    maker.add("live-initramfs", "img", files["images/pxeboot/initrd.img"])
    maker.add("live-rootfs", "img", rootfs)
    maker.add("live-iso", "iso", isos.build(need, "aarch64", top, files).read_bytes())
    maker.finish()
    return maker


@pytest.fixture(scope="module")
def store(release: ReleaseMaker) -> Path:
    """The store of the release."""
    path = release.root.parent / "store"
    fine("build", "dehydrate", release.root, path, "--level", "1")
    return path


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tally:
    """The sizes of all blocks that are compressed."""
    found = Tally(tmp_path / "tally")
    real = squashfs_codec._Chunks.compress

    def compress(encoder: squashfs_codec._Chunks, data: Data, *, metadata: bool = False) -> bytes | None:
        if not metadata:
            found.add(len(data))
        return real(encoder, data, metadata=metadata)

    monkeypatch.setattr(squashfs_codec._Chunks, "compress", compress)
    return found


def test_the_iso_is_told_from_the_rootfs(store: Path) -> None:
    with Store(store) as opened:
        iso = opened.manifest_by_key("x86_64", "metal.iso.disk")
        rootfs = opened.manifest_by_key("x86_64", "metal.pxe.rootfs")
    assert references_of(iso.body) == {"metal.pxe.rootfs", "metal.pxe.kernel", "metal.pxe.initramfs"}
    assert references_of(rootfs.body) == set()
    assert isinstance(rootfs.body, Parts)
    assert isinstance(rootfs.body.parts[0].body, Relocated)


def test_dehydration_compresses_each_block_to_find_its_encoder_and_to_prove_it(
    release: ReleaseMaker, tally: Tally, tmp_path: Path
) -> None:
    fine("build", "dehydrate", release.root, tmp_path / "store", "--level", "1")
    samples = 16
    assert 2 * CONTENT <= sum(tally.numbers()) <= 2 * CONTENT + samples * BLOCK


@pytest.mark.parametrize(
    "words",
    [
        ("verify",),
        ("verify", "--jobs", "1"),
        ("rehydrate", "out", "--all"),
        ("rehydrate", "out", "--iso", "--pxe", "--jobs", "1"),
        ("rehydrate", "-", "--iso", "--pxe"),
        ("rehydrate", "out", "--iso"),
    ],
    ids=" ".join,
)
def test_each_block_is_compressed_once(store: Path, tally: Tally, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(*words, "--store", store, cwd=tmp_path)
    assert done.code == 0, done.err
    assert sum(tally.numbers()) == CONTENT


def test_nothing_is_left(release: ReleaseMaker, store: Path, tmp_path: Path) -> None:
    """Of what is kept for both of them; files are those of the release."""
    (tmp_path / "tmp").mkdir()
    fine("rehydrate", tmp_path / "out", "--all", "--store", store, env={"TMPDIR": str(tmp_path / "tmp")})
    assert list((tmp_path / "tmp").iterdir()) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(release.content)
    assert {sha256_file(path) for path in (tmp_path / "out").iterdir()} == {
        image["sha256"] for image in release.images.values()
    }


@pytest.mark.parametrize("words", [("verify",), ("rehydrate", "-", "--iso", "--pxe")], ids=" ".join)
@pytest.mark.parametrize("room", ["none", "little"])
def test_without_room_it_is_compressed_again(
    store: Path, tally: Tally, tmp_path: Path, need: Callable[..., None], words: tuple[str, ...], room: str
) -> None:
    """In a container that has nothing to write to, or in a directory that becomes full."""
    directory = tmp_path / "missing"
    if room == "little":
        need("mount", root=True)
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], check=True)
    try:
        done = run(*words, "--store", store, cwd=tmp_path, env={"TMPDIR": str(directory)})
    finally:
        subprocess.run(["umount", directory], check=False, capture_output=True)
    assert done.code == 0, done.err
    assert CONTENT < sum(tally.numbers()) <= 3 * CONTENT


@pytest.mark.oracle
def test_the_benchmark_has_mksquashfs_beside_it(release: ReleaseMaker, store: Path, tmp_path: Path) -> None:
    """And the encoders alone beside all files; how long they take is not looked at."""
    words = ("--only", "live", "all", "--runs", "1", "--work", tmp_path, "--json", tmp_path / "json")
    bench(release.root, "--store", store, *words)
    rows = {row["what"]: row for name in ("times", "all") for row in tables(tmp_path / "json")[name]["rows"]}
    assert rows["rehydrate the live ISO to a pipe"]["size"] == release.images["live-iso"]["size"]
    made = (release.root.parent / "root.squashfs").stat().st_size
    assert rows["its root file system alone"]["size"] == rows["mksquashfs of the same tree"]["size"] == made
    assert "xz -9 of what its osmet files hold" not in rows, "there are none"
    assert rows["compressions of all files alone"]["cpu"] > 0
