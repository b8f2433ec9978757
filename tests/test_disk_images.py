"""Disk images in image indexes, in layouts and in a registry, as inputs of dehydration."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from kill_test.registry import docker_registry
from rehydrator.errors import InputError, RehydratorError, UnsupportedError
from rehydrator.oci.layout import Layout
from rehydrator.oci.reference import parse_layout
from rehydrator.progress import Progress
from rehydrator.registry.access import Access
from rehydrator.registry.images import fetched_release
from rehydrator.release.artifact import Inputs
from tests.support.cli import fails, fine, run
from tests.support.disk_index import RELEASE, Disk, DiskIndex, upload
from tests.support.disks import MIB, metal_disk, sibling
from tests.support.stores import flip

QUICK = ("--no-compressed", "--level", "1", "--progress", "none")
VERSION = "org.opencontainers.image.version"
LABELS = {VERSION: RELEASE, "com.coreos.osname": "fedora-coreos"}


@pytest.fixture(scope="session")
def disks(qcow2_bytes: Callable[[bytes], bytes]) -> list[Disk]:
    """Disks of two architectures, with the names of the tools that make them, of releases, and none."""
    metal = metal_disk()
    qemu = qcow2_bytes(sibling(metal, 2, 6 * MIB))
    return [
        Disk("metal", ".raw.gzip", gzip.compress(metal, 6, mtime=0), "disk.raw.gz"),
        Disk("qemu", ".qcow2", qemu, "disk.qcow2"),
        Disk("aws", ".raw.xz", lzma.compress(sibling(metal, 3), preset=0), where="manifest"),
        Disk("openstack", "+qcow2", qemu, f"fcos-{RELEASE}-openstack.x86_64.qcow2", arch="x86_64"),
        Disk("linux", ".ova", bytes(range(256)) * 64, f"fcos-{RELEASE}-vmware.x86_64.ova"),
        Disk("metal", ".raw", metal, arch="arm64"),
    ]


NAMES = {
    f"fedora-coreos-{RELEASE}-metal.x86_64.raw.gz": "metal.raw.gz.disk",
    f"fedora-coreos-{RELEASE}-qemu.x86_64.qcow2": "qemu.qcow2.disk",
    f"fedora-coreos-{RELEASE}-aws.x86_64.raw.xz": "aws.raw.xz.disk",
    f"fcos-{RELEASE}-openstack.x86_64.qcow2": "openstack.qcow2.disk",
    f"fcos-{RELEASE}-vmware.x86_64.ova": "vmware.ova.disk",
}
ARM = f"coreos-{RELEASE}-metal.aarch64.raw"


def read(reference: str, *architectures: str) -> Inputs:
    """What an index of a layout holds."""

    def wanted(arch: str) -> bool:
        return not architectures or arch in architectures

    with fetched_release(parse_layout(reference), Access(), wanted, Progress()) as inputs:
        return inputs


def test_what_an_index_tells(disks: list[Disk], tmp_path: Path) -> None:
    inputs = read(DiskIndex(disks, {VERSION: RELEASE}, LABELS).write(tmp_path / "layout"))
    found = {item.arch: {file.name: file.identity.key for file in item.artifacts} for item in inputs.releases}
    assert found == {"x86_64": NAMES, "aarch64": {ARM: "metal.raw.disk"}}
    assert {item.release for item in inputs.releases} == {RELEASE}
    assert [note.partition(" sha256:")[0] for note in inputs.notes] == ["x86_64"]
    assert inputs.notes[0].endswith(": a container image, left out")
    (arm,) = read(f"oci:{tmp_path / 'layout'}", "aarch64").releases
    assert [file.name for file in arm.artifacts] == [ARM]


def test_live_and_other_keys(tmp_path: Path) -> None:
    keys = {
        "metal4k": (".raw", "metal.4k.raw.disk"),
        "live-iso": (".iso", "metal.iso.disk"),
        "live-kernel": (".bin", "metal.pxe.kernel"),
        "qemu-secex": (".qcow2", "qemu-secex.qcow2.disk"),
    }
    index = DiskIndex([Disk(key, kind, key.encode()) for key, (kind, _) in keys.items()])
    (release,) = read(index.write(tmp_path / "layout", "44.1")).releases
    assert [item.identity.key for item in release.artifacts] == [key for _, key in keys.values()]
    assert release.release == "44.1"


def shipped(directory: Path) -> dict[str, bytes]:
    """The files of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def expected(disks: list[Disk]) -> dict[str, bytes]:
    """What rehydration has to give: the files as they are, but for metal's disk, which is taken out in any case."""
    found = {name: disk.data for name, disk in zip([*NAMES, ARM], disks, strict=True)}
    metal = next(iter(NAMES))
    found[metal.removesuffix(".gz")] = gzip.decompress(found.pop(metal))
    return found


@pytest.fixture
def store(disks: list[Disk], tmp_path: Path) -> Path:
    reference = DiskIndex(disks, {VERSION: RELEASE}, LABELS).write(tmp_path / "layout")
    fine("build", "dehydrate", reference, tmp_path / "store", *QUICK)
    return tmp_path / "store"


def test_from_a_layout(store: Path, disks: list[Disk], tmp_path: Path) -> None:
    fine("rehydrate", tmp_path / "out", "--all", "--arch", "all", "--store", store, "--progress", "none")
    assert shipped(tmp_path / "out") == expected(disks)
    fine("verify", "--store", store, "--progress", "none")
    listed = json.loads(fine("list", "--json", "--store", store).out)["artifacts"]
    assert {item["rung"] for item in listed if item["platform"] in {"metal", "qemu", "aws", "openstack"}} == {"edits"}


def test_metal_as_shipped(disks: list[Disk], tmp_path: Path) -> None:
    """Although nobody promises what is in it."""
    reference = DiskIndex(disks[:1], {VERSION: RELEASE}).write(tmp_path / "layout")
    fine("build", "dehydrate", reference, tmp_path / "store", "--level", "1", "--progress", "none")
    fine("rehydrate", tmp_path / "out", "--all", "--compressed", "--store", tmp_path / "store", "--progress", "none")
    assert shipped(tmp_path / "out") == {f"coreos-{RELEASE}-metal.x86_64.raw.gz": disks[0].data}


@pytest.mark.oracle
def test_from_a_registry(store: Path, disks: list[Disk], tmp_path: Path, need: Callable[..., None]) -> None:
    """The same store, whoever holds the images; what was fetched is not fetched again."""
    need("docker-registry")
    with docker_registry(tmp_path / "registry") as host:
        upload(tmp_path / "layout", f"{host}/os/disks", "stable")
        env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        words = ("build", "dehydrate", f"{host}/os/disks:stable")
        fine(*words, tmp_path / "arm", *QUICK, "--plain-http", "--arch", "aarch64", env=env)
        cached = tmp_path / "cache" / "rehydrator" / "blobs"
        assert [path.read_bytes() for path in cached.iterdir()] == [disks[-1].data]
        fine(*words, tmp_path / "pulled", *QUICK, "--plain-http", env=env)
        assert {path.read_bytes() for path in cached.iterdir()} == {disk.data for disk in disks}
        for path in (tmp_path / "registry").rglob("blobs/sha256/*/*/data"):
            if path.stat().st_size > 10_000:
                path.unlink()
        fine(*words, tmp_path / "again", *QUICK, "--plain-http", env=env)
    seals = {json.loads((tmp_path / name / "store.json").read_bytes())["seal"] for name in ("store", "pulled", "again")}
    assert len(seals) == 1


BAD: dict[str, tuple[DiskIndex, type[RehydratorError], str]] = {
    "empty": (DiskIndex(), InputError, "no disk image that is wanted.*those for none"),
    "containers only": (DiskIndex(labels=LABELS), InputError, "no disk image that is wanted.*those for none"),
    "another type": (DiskIndex([Disk("qemu", "s.qcow2", b"x")]), InputError, "no disk image that is wanted"),
    "no platform": (DiskIndex([Disk("linux", ".qcow2", b"x", "disk.qcow2")]), InputError, "the platform of a disk"),
    "no architecture": (DiskIndex([Disk("qemu", ".qcow2", b"x", arch="")]), InputError, "the architecture of a disk"),
    "no release": (DiskIndex([Disk("qemu", ".qcow2", b"x")]), InputError, "the release of a disk.*annotation"),
    "parts": (DiskIndex([Disk("qemu", ".raw", b"x", "a", layers=2)]), UnsupportedError, "several parts.*one layer"),
    "no file": (DiskIndex([Disk("qemu", ".raw", b"x", "a", layers=0)]), UnsupportedError, "several parts.*found 0"),
    "a way out": (DiskIndex([Disk("../qemu", ".raw", b"x")], {VERSION: "1"}), InputError, "not a plain name"),
    "a way out, release": (DiskIndex([Disk("qemu", ".raw", b"x")], {VERSION: "../1"}), InputError, "not a plain name"),
    "a way out, title": (
        DiskIndex([Disk("qemu", ".raw", b"x", "../a-qemu.x86_64.raw")], {VERSION: "1"}), InputError, "not a plain name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    index, kind, words = BAD[case]
    index.write(tmp_path / "layout")
    with pytest.raises(kind, match=words):
        read(f"oci:{tmp_path / 'layout'}@{digest_of(tmp_path / 'layout')}")


def digest_of(layout: Path) -> str:
    """The digest of the only index."""
    return Layout(layout).index.manifests[0].digest


def test_no_image_for_an_architecture(disks: list[Disk], tmp_path: Path) -> None:
    reference = DiskIndex(disks).write(tmp_path / "layout")
    words = ["no disk image that is wanted", "aarch64, x86_64", str(tmp_path / "layout")]
    fails(2, words, "build", "dehydrate", reference, tmp_path / "store", "--arch", "s390x")


def test_what_is_no_index(small_store: Path, tmp_path: Path) -> None:
    fine("push", small_store, f"oci:{tmp_path / 'layout'}")
    fails(3, ["no index of disk images"], "build", "dehydrate", f"oci:{tmp_path / 'layout'}", tmp_path / "other")


def test_no_build_to_choose(tmp_path: Path) -> None:
    fails(2, ["--build"], "build", "dehydrate", f"oci:{tmp_path}", tmp_path / "store", "--build", "latest")


DAMAGE: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "other bytes": (lambda path: flip(path, 5000), 1, "sha256 is not that"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), 1, "another size"),
    "gone": (Path.unlink, 2, "No such file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_blobs(disks: list[Disk], tmp_path: Path, case: str) -> None:
    change, code, words = DAMAGE[case]
    reference = DiskIndex(disks[:2], {VERSION: RELEASE}).write(tmp_path / "layout")
    blob = next(path for path in (tmp_path / "layout").rglob("blobs/sha256/*") if path.read_bytes() == disks[1].data)
    change(blob)
    result = run("build", "dehydrate", reference, tmp_path / "store", *QUICK)
    assert (result.code, words in result.err, blob.name in result.err) == (code, True, True), result.err
    assert not (tmp_path / "store").exists()
