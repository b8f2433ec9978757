"""The containers of synthesized images, beside files that the real tools make of the same disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from rehydrator.codecs.deflate_pool import Work
from rehydrator.disk.sink import HashSink, copy
from rehydrator.disk.source import Source
from rehydrator.errors import UnsupportedError
from rehydrator.layers import packed
from rehydrator.store.reader import Store
from rehydrator.synthesis.ovf import with_disk
from rehydrator.synthesis.usual import FORMATS
from rehydrator.synthesis.wish import Wish
from rehydrator.synthesize import synthesis
from release_builder import oci, ova
from release_builder.tools import Runner
from tests.support.cli import fine
from tests.support.containers import sparse_raw
from tests.support.disks import MIB
from tests.support.releases import RELEASE, ReleaseMaker

STEM = f"fedora-coreos-{RELEASE}"
EPOCH = 1_700_000_000
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
COMPAT = ("-O", "qcow2", "-o", "compat=1.1")
AWS = ("-O", "vmdk", "-o", "adapter_type=lsilogic,compat6,subformat=streamOptimized")
WORDS = ("--kargs", "a=1", "--size", "16M")


def convert(source: Path, target: Path, *options: str) -> None:
    subprocess.run(["qemu-img", "convert", "-f", "raw", *options, source, target], check=True)


def gcp(disk: Path, target: Path) -> None:
    """Pack a disk as gcp's image is packed; it has to be named disk.raw."""
    archive = target.with_suffix(".plain")
    tar: list[str | Path] = [
        "tar",
        "--format=oldgnu",
        "--sparse",
        "--owner=0",
        "--group=0",
        "-cf",
        archive,
        "-C",
        disk.parent,
        disk.name,
    ]
    subprocess.run(tar, check=True)
    with target.open("wb") as out:
        subprocess.run(["gzip", "--no-name", "--stdout", "-9", archive], stdout=out, check=True)
    archive.unlink()


def sparse(disk: Path, target: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", disk, target], check=True)
    return target


class Shipping:
    """A release in the making whose files, but for metal's, the real tools make of metal's disk."""

    def __init__(self, work: Path, disk: bytes) -> None:
        self.work = work
        self.raw = sparse(sparse_raw(work / "dense.raw", len(disk), {0: disk}), work / "disk.raw")
        self.maker = ReleaseMaker(work / "release")
        self.maker.add("metal", "raw.xz", disk)
        self.runner = Runner()

    def vmware(self, target: Path) -> None:
        vmdk = target.with_suffix(".vmdk")
        convert(self.raw, vmdk, *AWS)
        ova.make_ova(self.runner, ova.Machine("vmware", RELEASE), vmdk, self.raw.stat().st_size, target)

    def powervs(self, target: Path) -> None:
        ova.make_powervs(self.runner, ova.Machine("powervs", RELEASE), sparse(self.raw, self.work / "a.raw"), target)

    def kubevirt(self, target: Path) -> None:
        tree = self.work / "tree"
        (tree / "disk").mkdir(parents=True)
        convert(self.raw, tree / "disk" / f"{target.stem}.qcow2", *COMPAT)
        oci.make_oci_archive(self.runner, tree, target, "amd64")

    def add(self, platform: str, suffix: str, make: Callable[[Path], None]) -> None:
        target = self.work / f"{STEM}-{platform}.x86_64.{suffix}"
        make(target)
        shutil.rmtree(self.work / "ova", ignore_errors=True)  # the parts of an archive
        self.maker.ship(platform, suffix, target.read_bytes())


@pytest.fixture(scope="module")
def shipped(tiny_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Path:
    """A store of the same disk in many containers."""
    need("qemu-img", "tar", "gzip", "zip")
    work = tmp_path_factory.mktemp("shipped")
    release = Shipping(work, tiny_bytes)
    raw = release.raw
    release.add("qemu", "qcow2", lambda target: convert(raw, target, *COMPAT))
    release.add("nutanix", "qcow2", lambda target: convert(raw, target, "-c", *COMPAT))
    release.add("aws", "vmdk", lambda target: convert(raw, target, *AWS))
    release.add("gcp", "tar.gz", lambda target: gcp(raw, target))
    release.add("powervs", "ova.gz", release.powervs)
    release.add("vmware", "ova", release.vmware)
    release.add("kubevirt", "ociarchive", release.kubevirt)
    release.maker.add("digitalocean", "raw.gz", tiny_bytes)
    release.add("hyperv", "vhdx", lambda target: convert(raw, target, "-O", "vhdx"))
    vhdx = work / f"{STEM}-hyperv.x86_64.vhdx"
    subprocess.run(["zip", "-9", "-q", "-j", f"{vhdx}.zip", vhdx], check=True)
    release.maker.ship("hyperv", "vhdx.zip", Path(f"{vhdx}.zip").read_bytes())
    store = work / "store"
    fine("build", "dehydrate", release.maker.finish(), store, "--level", "1", "--progress", "none")
    return store


@pytest.fixture(params=["shipped", "tiny_store"])
def store(request: pytest.FixtureRequest) -> Path:
    """A store whose files are the templates, or one that has none in the format."""
    found: Path = request.getfixturevalue(request.param)
    return found


def make(store: Path, out: Path, platform: str, *words: str, epoch: int = EPOCH) -> Path:
    env = {"SOURCE_DATE_EPOCH": str(epoch)}
    done = fine("synthesize", platform, out, *words, "--store", store, env=env)
    return Path(done.out.decode().split()[1])


@pytest.fixture(scope="module")
def raw(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk that the other formats have to hold."""
    return make(tiny_store, tmp_path_factory.mktemp("raw"), "other", "--format", "raw", *WORDS)


# -- the disk, whatever is around it


def _unpacked(archive: Path, member: str) -> Path:
    directory = archive.with_name("unpacked")
    directory.mkdir()
    subprocess.run(["tar", "-C", directory, "-xf", archive], check=True)  # finds gzip by itself
    return directory / member


def _unzipped(archive: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        [member] = opened.infolist()
        assert (opened.testzip(), member.filename) == (None, archive.stem)
        assert member.date_time == (2023, 11, 14, 22, 13, 20)
        return Path(opened.extract(member, archive.parent))


def _layer(archive: Path) -> Path:
    [layer] = archive.parent.glob("copied/" + layer_of(archive))
    return _unpacked(layer, f"disk/{archive.stem}.qcow2")


@cache
def layer_of(archive: Path) -> str:
    """Return the digest of an archive's layer, after skopeo compared all digests and copied it."""
    copied = archive.parent / "copied"
    subprocess.run(["skopeo", "copy", f"oci-archive:{archive}", f"dir:{copied}"], check=True, capture_output=True)
    [layer] = json.loads((copied / "manifest.json").read_bytes())["layers"]
    return str(layer["digest"]).removeprefix("sha256:")


HOLDS: dict[str, Callable[[Path], Path]] = {
    "tar": lambda made: _unpacked(made, "disk.raw"),
    "tar.gz": lambda made: _unpacked(made, "disk.raw"),
    "ova": lambda made: _unpacked(made, "disk.vmdk"),
    "ova.gz": lambda made: _unpacked(made, "disk.raw"),
    "vhdx.zip": _unzipped,
    "ociarchive": _layer,
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_holds_the_disk(
    name: str, store: Path, raw: Path, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("qemu-img", "tar", "skopeo")
    made = make(store, tmp_path, "other", "--format", name, *WORDS)
    assert made.name == f"{STEM}-other.x86_64.{name}"
    disk = HOLDS[name](made) if name in HOLDS else made
    form = {"vhd": "vpc"}.get(disk.suffix[1:], disk.suffix[1:])
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", form, raw, disk], check=True, capture_output=True)
    if form in ("qcow2", "vhdx"):
        subprocess.run(["qemu-img", "check", disk], check=True, capture_output=True)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_wish_gives_the_same_bytes(name: str, store: Path, tmp_path: Path) -> None:
    def content(directory: str, epoch: int) -> bytes:
        return make(store, tmp_path / directory, "new", "--format", name, epoch=epoch).read_bytes()

    once = content("a", EPOCH)
    assert once == content("b", EPOCH)
    assert once != content("c", EPOCH + 2)
    assert b"-metal." not in once


# -- the same bytes as the tools


@pytest.mark.oracle
@pytest.mark.parametrize(("platform", "options"), [("other", ()), ("nutanix", ("-c",))])
def test_qcow2_is_what_qemu_img_writes(platform: str, options: tuple[str, ...], shipped: Path, tmp_path: Path) -> None:
    disk = make(shipped, tmp_path, platform, "--format", "raw", *WORDS)
    made = make(shipped, tmp_path, platform, "--format", "qcow2", *WORDS)
    convert(disk, tmp_path / "theirs", *options, *COMPAT)
    assert made.read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.oracle
def test_a_qcow2_with_many_tables_is_what_qemu_img_writes(
    real_store: Path, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("qemu-img")
    disk = make(real_store, tmp_path, "other", "--format", "raw")
    made = make(real_store, tmp_path, "other", "--format", "qcow2")
    convert(disk, tmp_path / "theirs", *COMPAT)
    assert made.read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.oracle
def test_vmdk_is_what_qemu_img_writes_but_for_its_id(store: Path, raw: Path, tmp_path: Path) -> None:
    made = make(store, tmp_path / "made", "other", "--format", "vmdk", *WORDS)
    theirs = tmp_path / made.name
    convert(raw, theirs, *AWS)
    ours, expected = (path.read_bytes() for path in (made, theirs))
    texts = [content[512 : 21 * 512].rstrip(b"\0").split(b"\n") for content in (ours, expected)]
    assert [line for line in texts[0] if not line.startswith(b"CID=")] == [
        line for line in texts[1] if not line.startswith(b"CID=")
    ]
    assert texts[0] != texts[1]
    assert (ours[:512], ours[21 * 512 :]) == (expected[:512], expected[21 * 512 :])


@pytest.mark.oracle
def test_gcp_archive_is_what_tar_and_gzip_write(store: Path, raw: Path, tmp_path: Path) -> None:
    made = make(store, tmp_path, "other", "--format", "tar.gz", *WORDS)
    disk = sparse(raw, tmp_path / "disk.raw")
    disk.chmod(0o644)
    os.utime(disk, (EPOCH, EPOCH))
    gcp(disk, tmp_path / "theirs")
    assert made.read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize(("platform", "name"), [("other", "vmdk"), ("other", "ova"), ("nutanix", "qcow2")])
def test_a_chunk_is_compressed_once(platform: str, name: str, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []

    def counted(disk: Source, number: int, packing: packed.Packing) -> Work[bytes | None]:
        compressed.append(number)
        return once(disk, number, packing)

    once = packed.compression
    monkeypatch.setattr(packed, "compression", counted)
    with Store(shipped) as store, contextlib.closing(HashSink()) as sink:
        copy(synthesis(store, "x86_64", Wish(platform=platform), name).content, sink)
    assert compressed
    assert compressed == sorted(set(compressed))


# -- archives that describe their disk


@pytest.mark.oracle
def test_an_ova_describes_its_disk(store: Path, tmp_path: Path) -> None:
    made = make(store, tmp_path, "other", "--format", "ova", *WORDS)
    with tarfile.open(made) as archive:
        assert [member.mtime for member in archive] == [EPOCH, EPOCH]
        archive.extractall(tmp_path, filter="data")
    root = ET.parse(tmp_path / "coreos.ovf").getroot()
    [file], [disk] = root.iter(f"{OVF}File"), root.iter(f"{OVF}Disk")
    vmdk = tmp_path / file.attrib[f"{OVF}href"]
    assert file.attrib[f"{OVF}size"] == disk.attrib[f"{OVF}populatedSize"] == str(vmdk.stat().st_size)
    assert disk.attrib[f"{OVF}capacity"] == str(16 * MIB)
    assert made.name.removesuffix("ova").encode() + b"vmdk" in vmdk.read_bytes()[:2048]


@pytest.mark.oracle
def test_a_powervs_archive_describes_its_disk(store: Path, tmp_path: Path) -> None:
    made = make(store, tmp_path, "other", "--format", "ova.gz", *WORDS)
    listed = subprocess.run(["gzip", "-lvN", made], check=True, capture_output=True, text=True).stdout
    assert made.stem in listed
    subprocess.run(["tar", "-C", tmp_path, "-xzf", made, "coreos.ovf"], check=True)
    assert f'size="{16 * MIB}"' in (tmp_path / "coreos.ovf").read_text()


@pytest.mark.oracle
def test_an_oci_archive_is_an_image(store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("skopeo")
    made = make(store, tmp_path, "other", "--format", "ociarchive", *WORDS)
    layer = tmp_path / "copied" / layer_of(made)
    config = json.loads(
        subprocess.run(["skopeo", "inspect", "--config", f"oci-archive:{made}"], check=True, capture_output=True).stdout
    )
    assert (config["architecture"], config["os"], config["created"][:19]) == ("amd64", "linux", "2023-11-14T22:13:20")
    unpacked = subprocess.run(["gzip", "-dc"], stdin=layer.open("rb"), check=True, capture_output=True).stdout
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(unpacked).hexdigest()}"]
    with tarfile.open(made) as archive:
        blobs = [member.name for member in archive if member.name.startswith("blobs/sha256/")]
        assert blobs == sorted(blobs)
        assert {member.mtime for member in archive} == {EPOCH}


# -- which format, and whose records


@pytest.mark.parametrize(
    ("platform", "suffix"),
    [
        ("azure", "vhd"),
        ("gcp", "tar.gz"),
        ("hetzner", "raw"),
        ("openstack", "qcow2"),
        ("new", "qcow2"),
        ("aws", "vmdk"),
        ("powervs", "ova.gz"),
    ],
)
def test_a_platform_has_its_usual_format(platform: str, suffix: str, store: Path, tmp_path: Path) -> None:
    assert make(store, tmp_path, platform).name == f"{STEM}-{platform}.x86_64.{suffix}"


@pytest.mark.parametrize(("platform", "suffix"), [("digitalocean", "raw"), ("hyperv", "vhdx.zip")])
def test_the_release_says_the_format_of_what_it_ships(
    platform: str, suffix: str, shipped: Path, tiny_store: Path, tmp_path: Path
) -> None:
    assert make(shipped, tmp_path, platform).name == f"{STEM}-{platform}.x86_64.{suffix}"
    assert make(tiny_store, tmp_path, platform).name != f"{STEM}-{platform}.x86_64.{suffix}"


def test_shipped_files_are_templates(shipped: Path, tmp_path: Path) -> None:
    """The OVF is that of the release, which names its version; nothing else of the release's platform is left."""
    made = make(shipped, tmp_path, "other", "--format", "ova")
    with tarfile.open(made) as archive:
        stream = archive.extractfile("coreos.ovf")
        assert stream is not None
        text = stream.read().decode()
    assert f"<ovf:Version>{RELEASE}</ovf:Version>" in text
    assert b"-vmware." not in made.read_bytes()


def test_a_compressed_sibling_is_not_the_first_choice(shipped: Path, tmp_path: Path) -> None:
    larger, smaller = (make(shipped, tmp_path, name, "--format", "qcow2").stat().st_size for name in ("a", "nutanix"))
    assert larger > 2 * MIB > smaller


# -- OVF texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<File href="other.vmdk" id="f"/><Disk fileRef="f"/>', "does not name its disk"),
        ('<File href="d" id="f"/><Disk fileRef="g"/>', "does not describe its disk"),
        ('<File href="d" id="f"/><Disk fileRef="f" capacityAllocationUnits="miles"/>', "unknown units"),
    ],
)
def test_an_ovf_of_something_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        with_disk(text, "d", 1, 2)


def test_units_of_an_ovf_are_kept() -> None:
    text = "<File href='d' id='f' size='1'/><x:Disk capacity = '1' capacityAllocationUnits='byte * 2^30' fileRef='f'/>"
    told = with_disk(text, "d", 7, (3 << 30) + 1)
    assert "<File href='d' id='f' size='7'/>" in told
    assert "capacity = '4' capacityAllocationUnits='byte * 2^30'" in told
