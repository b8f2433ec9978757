"""Synthetic releases on every rung: whatever an artifact is, it comes back exact."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehydrator.dehydrate import order_of_telling
from rehydrator.manifest.schema import Identity
from rehydrator.release.artifact import Artifact
from tests.support import stores
from tests.support.cli import fails, fine, leftovers, run
from tests.support.disks import MIB, metal_disk, random_sparse, shuffled, sibling, with_gpt
from tests.support.releases import ReleaseMaker, sha256

METAL = metal_disk()
NOISE = random.Random(99).randbytes(300_000)


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def dehydrate(maker: ReleaseMaker, *options: str) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Dehydrate; check that everything comes back; return the store and ``list --json`` by key."""
    store, out = maker.root.parent / "store", maker.root.parent / "out"
    fine("build", "dehydrate", maker.root, store, "--level", "3", *options)
    fine("rehydrate", out, "--all", "--store", store)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == maker.content
    report = json.loads(fine("list", "--json", "--store", store).out)
    assert report["schema"] == 1
    return store, {item["key"]: item for item in report["artifacts"]}


@pytest.fixture
def maker(tmp_path: Path) -> ReleaseMaker:
    made = ReleaseMaker(tmp_path / "release")
    made.add("metal", "raw.xz", METAL)
    return made


def test_every_rung(maker: ReleaseMaker, qcow2_bytes: Callable[[bytes], bytes]) -> None:
    rootfs = METAL[1600 * 1024 : 2000 * 1024] + NOISE
    maker.add("qemu", "qcow2.xz", qcow2_bytes(sibling(METAL, 2)))
    maker.add("aws", "raw.gz", sibling(METAL, 3, 8 * MIB))
    maker.add("nutanix", "qcow2", qcow2_bytes(sibling(METAL, 4)))
    maker.add("gcp", "tar.gz", tar({"disk.raw": sibling(METAL, 6)}), promise=False)
    maker.add("exoscale", "raw.gz", sibling(METAL, 7), promise=False)
    maker.add("vmware", "ova", tar({"disk.vmdk": b"h" * 512 + METAL[MIB:], "a.ovf": b"<xml/>"}))
    maker.add("azure", "vhd.xz", sibling(METAL, 8) + NOISE[:512])
    maker.add("hyperv", "vhdx.zip", NOISE[::-1])
    maker.add("kubevirt", "ociarchive", NOISE[1:])
    maker.add("live-kernel", "", NOISE[:50_000])
    maker.add("live-initramfs", "img", NOISE[50_000:99_999])
    maker.add("live-rootfs", "img", rootfs)
    maker.add("live-iso", "iso", b"CD001".ljust(2048, b"\0") + NOISE[:49_152] + bytes(2048) + rootfs[307_200:])
    maker.finish()
    store, found = dehydrate(maker)
    rungs = {key: item["rung"] for key, item in found.items()}
    assert rungs.pop("azure.vhd.xz.disk") in {"edits", "relocated"}, "a disk with something behind it"
    assert rungs == {
        "metal.raw.xz.disk": "edits",
        "qemu.qcow2.xz.disk": "edits",
        "aws.raw.gz.disk": "edits",
        "nutanix.qcow2.disk": "edits",
        "gcp.tar.gz.disk": "edits",
        "exoscale.raw.gz.disk": "edits",
        "vmware.ova.disk": "relocated",
        "hyperv.vhdx.zip.disk": "stored",
        "kubevirt.ociarchive.disk": "stored",
        "metal.pxe.kernel": "stored",
        "metal.pxe.initramfs": "stored",
        "metal.pxe.rootfs": "relocated",
        "metal.iso.disk": "relocated",
    }
    fine("verify", "--store", store)
    assert found["metal.iso.disk"]["stored_size"] < 5000, "the iso's parts are in the store already"
    body = stores.manifest(store, "metal.iso.disk")["body"]
    assert set(body["references"]) >= {"metal.pxe.kernel", "metal.pxe.rootfs"}
    shorts = {"--iso": {"metal.iso.disk"}, "--pxe": {f"metal.pxe.{r}" for r in ("kernel", "initramfs", "rootfs")}}
    for option, keys in shorts.items():
        out = maker.root.parent / option
        fine("rehydrate", out, option, "--store", store)
        assert {path.name for path in out.iterdir()} == {found[key]["content_name"] for key in keys}


def test_disks_of_another_lineage(tmp_path: Path) -> None:
    """More blocks differ than edits are meant for; nearly all of them are found at other places."""
    maker = ReleaseMaker(tmp_path / "release")
    metal = with_gpt(random_sparse(5, 22 * MIB, 0.95))
    maker.add("metal", "raw", metal)
    maker.add("metal4k", "raw.gz", with_gpt(shuffled(metal, 5), sector=4096))
    maker.finish()
    _, found = dehydrate(maker)
    item = found["metal.4k.raw.gz.disk"]
    assert (item["rung"], item["short_name"]) == ("relocated", "metal4k")
    assert item["literal_bytes"] < MIB


def test_siblings_of_a_disk_of_another_lineage(tmp_path: Path, qcow2_bytes: Callable[[bytes], bytes]) -> None:
    """As in 2021: qemu's disk was formatted apart from metal's, and edited for each cloud."""
    maker = ReleaseMaker(tmp_path / "release")
    metal = with_gpt(random_sparse(5, 4 * MIB, 0.95))
    qemu = with_gpt(shuffled(metal, 6))
    maker.add("metal", "raw", metal)
    maker.add("aws", "raw.gz", sibling(qemu, 1, 5 * MIB))
    maker.add("openstack", "qcow2.xz", qcow2_bytes(sibling(qemu, 2)))
    maker.add("qemu", "qcow2.xz", qcow2_bytes(qemu))
    maker.finish()
    store, found = dehydrate(maker, "--no-compressed")
    assert found["qemu.qcow2.xz.disk"]["rung"] == "relocated"
    for key in ("aws.raw.gz.disk", "openstack.qcow2.xz.disk"):
        assert stores.manifest(store, key)["body"]["base"] == "qemu.qcow2.xz.disk"
        assert (found[key]["rung"], found[key]["stored_size"] < 3000) == ("edits", True)
    report = json.loads(run("explain", "--platform", "aws", "--store", store, "--output", "json").out)
    assert (report["a"]["name"], report["b"]["name"]) == ("qemu", "aws")
    changed = sum(ours != theirs for ours, theirs in zip(qemu, sibling(qemu, 1), strict=True))
    assert report["total"]["differing"] == changed
    assert report["identical"] is False
    fine("verify", "--store", store)
    told = fine("info", "openstack", "--store", store).out
    assert b"told from the disk of qemu.qcow2.xz.disk" in told


def test_disks_of_other_sizes(maker: ReleaseMaker) -> None:
    """A smaller disk is no edit of the canonical, but still its relative."""
    sizes = {"aws": MIB, "azure": 4 * MIB - 4096, "gcp": 4 * MIB + 512, "ibmcloud": 4 * MIB + 1}
    for key, size in sizes.items():
        maker.add(key, "raw.xz", sibling(METAL, 3)[:size].ljust(size, b"\0"))
    maker.finish()
    _, found = dehydrate(maker)
    for key, size in sizes.items():
        assert found[f"{key}.raw.xz.disk"]["rung"] == ("edits" if size > len(METAL) else "relocated")


def test_odd_contents(maker: ReleaseMaker) -> None:
    for number, content in enumerate((b"", b"x", bytes(100_000), b"\0" * 4095 + b"y")):
        maker.add(f"oci{number}", "ociarchive", content)
        maker.add(f"vhd{number}", "vhd.xz", content)
    maker.finish()
    dehydrate(maker)


@pytest.mark.parametrize("metal", [NOISE, bytes(MIB), b"", b"tiny", METAL[:-1]])
def test_odd_canonicals(tmp_path: Path, metal: bytes) -> None:
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal)
    maker.add("aws", "raw.xz", metal + b"more")
    maker.finish()
    dehydrate(maker)


@pytest.mark.parametrize("suffix", ["raw", "raw.gz", "raw.zip"])
def test_canonicals_in_other_wrappings(tmp_path: Path, suffix: str) -> None:
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", suffix, METAL)
    maker.finish()
    dehydrate(maker)


def test_a_qcow2_that_cannot_be_taken_apart_is_kept(maker: ReleaseMaker) -> None:
    maker.add("qemu", "qcow2.xz", b"QFI\xfb" + NOISE)
    maker.finish()
    store = maker.root.parent / "store"
    result = fine("build", "dehydrate", maker.root, store)
    assert "note: " in result.err
    assert "qemu.x86_64.qcow2: qcow2: at byte 0x4: unknown qcow2 version" in result.err
    assert stores.manifest(store, "qemu.qcow2.xz.disk")["body"]["rung"] == "stored"


def test_unknown_kinds(maker: ReleaseMaker) -> None:
    maker.add("future", "hologram.xz", NOISE)
    maker.finish()
    store = maker.root.parent / "store"
    fails(
        3,
        ["unknown kind of artifact: future hologram.xz", "--allow-unhandled"],
        "build",
        "dehydrate",
        maker.root,
        store,
    )
    assert not store.exists()
    _, found = dehydrate(maker, "--allow-unhandled")
    assert found["future.hologram.xz.disk"]["rung"] == "stored"


OPAQUE = "vmware.ova.disk"


def test_two_architectures(tmp_path: Path, qcow2_bytes: Callable[[bytes], bytes]) -> None:
    root = tmp_path / "release"
    makers = []
    for number, arch in enumerate(("x86_64", "aarch64")):
        made = ReleaseMaker(root, arch)
        metal = metal_disk(10 + number)
        made.add("metal", "raw.xz", metal)
        made.add("qemu", "qcow2.xz", qcow2_bytes(sibling(metal, 2)))
        made.add("vmware", "ova", NOISE)
        made.finish()
        makers.append(made)
    store = tmp_path / "store"
    fine("build", "dehydrate", root, store)
    assert len(json.loads(fine("list", "--json", "--store", store).out)["artifacts"]) == 6
    shared = [stores.manifest(store, OPAQUE, made.arch)["blobs"] for made in makers]
    assert shared[0] == shared[1] != [], "the same content is stored once"
    for made in makers:
        name = next(name for name in made.content if name.endswith(".qcow2"))
        out = fine("rehydrate", "-", "--disk", "qemu", "--arch", made.arch, "--store", store).out
        assert out == made.content[name]
        listed = json.loads(fine("list", "--json", "--arch", made.arch, "--store", store).out)
        assert {item["arch"] for item in listed["artifacts"]} == {made.arch}
    fine("rehydrate", tmp_path / "all", "--disk", "qemu", "--arch", "all", "--store", store)
    assert len(list((tmp_path / "all").iterdir())) == 2
    assert "of 20 files and artifacts are right" in fine("verify", "--store", store).text
    single = tmp_path / "single"
    fine("build", "dehydrate", root, single, "--arch", "aarch64")
    assert list(stores.index(single)["architectures"]) == ["aarch64"]
    fails(
        2,
        ["no input for architecture s390x", "aarch64, x86_64"],
        "build",
        "dehydrate",
        root,
        tmp_path / "n",
        "--arch",
        "s390x",
    )


def test_an_architecture_that_is_not_this_machine(tmp_path: Path) -> None:
    root = tmp_path / "release"
    for arch in ("mips", "vax"):
        made = ReleaseMaker(root, arch)
        made.add("metal", "raw.xz", metal_disk(len(arch)))
        made.finish()
    fine("build", "dehydrate", root, tmp_path / "store")
    fails(
        2,
        ["several architectures", "--arch: mips, vax"],
        "rehydrate",
        tmp_path / "o",
        "--all",
        "--store",
        tmp_path / "store",
    )


def test_two_canonicals_or_none(tmp_path: Path) -> None:
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("qemu", "raw.xz", METAL)
    maker.finish()
    fails(2, ["no metal raw disk"], "build", "dehydrate", maker.root, tmp_path / "store")
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "store").exists()


def test_an_empty_target_directory_is_taken(maker: ReleaseMaker, tmp_path: Path) -> None:
    maker.finish()
    (tmp_path / "store").mkdir()
    dehydrate(maker)


def test_list_and_info_as_text(small_store: Path) -> None:
    lines = fine("list", "--store", small_store).text.splitlines()
    assert lines[0].split()[:4] == ["NAME", "PLATFORM", "ARCH", "RUNG"]
    assert [line.split()[1:4] for line in lines[1:]] == [
        ["aws", "x86_64", "edits"],
        ["metal", "x86_64", "edits"],
        ["qemu", "x86_64", "edits"],
        ["vmware", "x86_64", "stored"],
    ]
    text = fine("info", "qemu", "--store", small_store).text
    for words in (
        "qcow2 v3, 64 KiB clusters",
        "disk grown to 6291456 bytes",
        "p3 boot: ",
        "literal bytes",
        "compressed    exact: xz by liblzma-0, crc64",
    ):
        assert words in text
    assert "the canonical disk itself" in fine("info", "metal.raw.xz.disk", "--store", small_store).text


def test_info_as_json(small_store: Path) -> None:
    report = json.loads(fine("info", "qemu", "vmware", "--json", "--store", small_store).out)
    assert report["schema"] == 1
    qemu, vmware = report["artifacts"]
    assert set(qemu) == {
        "name", "short_name", "key", "platform", "arch", "format", "role", "release", "rung", "shipped_size", "sha256",
        "content_name", "content_size", "content_sha256", "compressed", "compression", "stored_size",
        "literal_bytes", "layers", "changes", "notes",
    }  # fmt: skip
    assert (vmware["sha256"], vmware["compressed"]) == (vmware["content_sha256"], "exact")
    assert vmware["content_sha256"] == sha256(bytes(range(256)) * 64)
    assert qemu["literal_bytes"] > 0


def test_verify_of_named_artifacts(small_store: Path) -> None:
    text = fine("verify", "qemu", "--store", small_store, "--progress", "none").text
    everything = fine("verify", "--store", small_store).text
    assert int(everything.split()[0]) - int(text.split()[0]) == 3


@pytest.mark.parametrize("style", ["auto", "plain", "json", "none"])
def test_progress(small_store: Path, tmp_path: Path, style: str) -> None:
    result = run("rehydrate", tmp_path / "out", "--all", "--store", small_store, "--progress", style)
    assert result.code == 0
    lines = result.err.splitlines()
    assert "\x1b" not in result.err
    if style == "none":
        assert lines == []
    elif style == "json":
        events = [json.loads(line) for line in lines]
        assert sum(event["event"] == "finished" and event["ok"] for event in events) == 4
    else:
        assert sum("sha256 ok" in line for line in lines) == 4


def test_what_others_are_told_from_comes_first() -> None:
    kinds = [("metal", "iso"), ("metal", "pxe"), ("aws", "vmdk.xz"), ("qemu", "qcow2.xz"), ("metal", "4k.raw.xz")]
    found = [Artifact(Identity(platform, "x86_64", kind, "disk", "44"), Path(kind), "") for platform, kind in kinds]
    told = [item.identity.format for item in sorted(found, key=order_of_telling)]
    assert told == ["qcow2.xz", "vmdk.xz", "4k.raw.xz", "pxe", "iso"]
