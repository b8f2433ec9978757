"""The benchmark of sizes: what it adds up, what it takes the prototype of 2021 to keep, and the README's table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import environment, fine
from tests.support.containers import convert
from tests.support.disks import metal_disk, random_sparse, sibling
from tests.support.releases import ReleaseMaker
from tests.test_dehydrate import tar

ROOT = Path(__file__).parent.parent
ROOTFS = random_sparse(5, 1 << 20, 1.0, 64)
MARKS = "<!-- whole:begin -->\n{}<!-- whole:end -->\n"


def bench(*words: str | Path, code: int = 0) -> str:
    """Run the benchmark; return what it said about errors."""
    command = [sys.executable, ROOT / "scripts/bench", *words]
    done = subprocess.run(
        command, env=environment({"REHYDRATOR_PYTHON": sys.executable}), check=False, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def release(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> ReleaseMaker:
    """Metal, qemu, a disk in each container that the prototype takes off, and live files."""
    need("qemu-img")
    work = tmp_path_factory.mktemp("release")

    def wrapped(seed: int, *words: str) -> bytes:
        (work / "raw").write_bytes(sibling(metal_disk(), seed))
        return convert(work / "raw", work / "wrapped", *words).read_bytes()

    maker = ReleaseMaker(work / "release")
    maker.add("metal", "raw.xz", metal_disk())
    maker.add("qemu", "qcow2.xz", wrapped(2, "qcow2"))
    maker.add("openstack", "qcow2.gz", wrapped(3, "qcow2"))
    maker.add("gcp", "tar.gz", tar({"disk.raw": sibling(metal_disk(), 4)}), promise=False)
    maker.add(
        "vmware",
        "ova",
        tar({"coreos.ovf": b"<xml/>", "disk.vmdk": wrapped(5, "vmdk", "-o", "subformat=streamOptimized")}),
    )
    maker.add("live-kernel", "", b"kernel" * 1000)
    maker.add("live-initramfs", "img", b"initramfs" * 1000)
    maker.add("live-rootfs", "img", ROOTFS)
    maker.add("live-iso", "iso", bytes(65536) + ROOTFS + b"kernel" * 1000 + bytes(2048))
    maker.finish()
    return maker


@pytest.fixture(scope="module")
def store(release: ReleaseMaker) -> Path:
    path = release.root.parent / "store"
    fine("build", "dehydrate", release.root, path, "--level", "1", "--no-compressed")
    return path


def tables(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["tables"]
    return found


def test_the_shares_of_a_store_are_all_of_it(release: ReleaseMaker, store: Path, tmp_path: Path) -> None:
    bench(release.root, "--store", store, "--only", "store", "--work", tmp_path, "--json", tmp_path / "json", code=1)
    rows = {row["what"]: row["bytes"] for row in tables(tmp_path / "json")["whole"]["rows"]}
    shares = {name.strip(): size for name, size in rows.items() if name.startswith("  ")}
    total = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert rows["our store"] == sum(shares.values()) == total
    assert rows["as shipped, 9 files"] == sum(image["size"] for image in release.images.values())
    assert shares["canonical disk"] == (store / "x86_64/canonical.raw.zst").stat().st_size
    assert shares["live files"] > len(ROOTFS)
    assert shares["disks that were formatted on their own"] == 0


@pytest.mark.oracle
def test_what_the_prototype_kept(release: ReleaseMaker, store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    """All disks as batches of what is in their containers, the ISO as one from the root file system, the rest as is."""
    need("rsync", "zstd", "tar")
    words = ("--only", "store", "rsync", "--work", tmp_path, "--json", tmp_path / "json")
    bench(release.root, "--store", store, *words, code=1)
    sizes = {row["artifact"]: row for row in tables(tmp_path / "json")["sizes"]["rows"]}
    for name in ("live-kernel", "live-initramfs", "live-rootfs"):
        assert sizes[name]["rsync"] == sizes[name]["shipped"]
    disks = ("metal", "openstack", "gcp", "vmware", "live-iso")
    for name in disks:
        assert 0 < sizes[name]["rsync"] < sizes[name]["content"] / 4, name
    rows = [row for name, row in sizes.items() if name != "total"]
    assert sizes["total"]["rsync"] == sum(min(row["rsync"], row["shipped"]) for row in rows)
    whole = {row["what"]: row for row in tables(tmp_path / "json")["whole"]["rows"]}
    assert whole["2021: rsync"]["bytes"] == sizes["total"]["rsync"]
    notes = " ".join(tables(tmp_path / "json")["sizes"]["notes"])
    assert "rsync, gcp: decompressed first" in notes
    assert "rsync, vmware: its VMDK converted" in notes


def test_the_table_goes_between_its_marks(release: ReleaseMaker, store: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("before\n" + MARKS.format("old\n") + "after\n")
    words = ("--only", "store", "--work", tmp_path, "--readme", tmp_path / "README.md")
    bench(release.root, "--store", store, *words, code=1)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- whole:begin -->\n```\nwhole release ")
    assert "our store" in text
    assert text.endswith("```\n<!-- whole:end -->\nafter\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "dehydrate"), "--store leaves nothing to measure of dehydrate"),
        ((), "--store leaves nothing to measure of dehydrate"),
        (("--only", "rsync", "--readme", "README.md"), "--readme needs the sizes of our store"),
    ],
)
def test_options_that_exclude_each_other(release: ReleaseMaker, store: Path, words: tuple[str, ...], said: str) -> None:
    assert said in bench(release.root, "--store", store, *words, code=2)


def test_a_store_of_another_release(release: ReleaseMaker, small_store: Path, tmp_path: Path) -> None:
    said = bench(release.root, "--store", small_store, "--only", "store", "--work", tmp_path, code=2)
    assert "the store lacks fedora-coreos-" in said


def test_the_readme_has_a_table() -> None:
    """Of the release with everything, whose store takes little more than its canonical disk."""
    block = (ROOT / "README.md").read_text().partition("<!-- whole:begin -->")[2].partition("<!-- whole:end -->")[0]
    ours = next(line for line in block.splitlines() if line.startswith("our store"))
    assert float(ours.split()[-2]) <= 1.05
    assert "2021: rsync" in block


def test_what_comes_from_a_registry(
    release: ReleaseMaker, store: Path, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("docker-registry")
    bench(release.root, "--store", store, "--only", "transfer", "--work", tmp_path, "--json", tmp_path / "json")
    rows = tables(tmp_path / "json")["transfer"]["rows"]
    sizes = {(row["what"], row["cache"]): row["bytes"] for row in rows}
    canonical = (store / "x86_64/canonical.raw.zst").stat().st_size
    assert canonical < sizes["gcp", "nothing"] < canonical + 200_000
    # A list needs all manifests, an artifact its own and those of what it is made from.
    assert sizes["qemu", "the canonical disk"] < sizes["list", "nothing"] < 200_000
    assert {what for what, _ in sizes} == {"list", "metal", "qemu", "openstack", "gcp", "vmware"}
