"""The committed s390x release: told by edits, given back on a machine without s390x programs, beside x86_64."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zstandard

from rehydrator.boot.zipl.build import build
from rehydrator.boot.zipl.c_zipl import BootRecord
from rehydrator.boot.zipl.installed import read_installed
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource, Window
from rehydrator.edits.blocks import Blocks
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.platform import Platform
from rehydrator.edits.zipl import Zipl
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.manifest.schema import EditedDisk
from rehydrator.store.reader import Store
from tests.support import stores
from tests.support.cli import environment, fails, fine

OPENSTACK = "openstack.qcow2.xz.disk"
# Ends the program when it is about to start another one.
_ALONE = """
import sys
STARTS = ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system")
def refuse(event, _arguments):
    if event in STARTS:
        raise SystemExit(f"started a program: {event}")
sys.addaudithook(refuse)
from rehydrator.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def given_back(both_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of s390x, rehydrated by a program that can't start others, s390x's least of all."""
    place = tmp_path_factory.mktemp("given-back")
    command = (sys.executable, "-c", _ALONE, "rehydrate", place, "--all", "--arch", "s390x", "--store", both_store)
    subprocess.run(command, env=environment({"PATH": ""}), check=True, capture_output=True)
    return place


def test_a_platform_is_told_without_literal_blocks(both_store: Path) -> None:
    with Store(both_store) as store:
        manifest = store.manifest_by_key("s390x", OPENSTACK)
    assert isinstance(manifest.body, EditedDisk)
    edits = manifest.body.edits
    assert [edit for edit in edits if isinstance(edit, Blocks | FileContent)] == []
    assert sum(edit.literal_bytes() for edit in edits) == 0
    assert manifest.blobs == []
    assert [edit for edit in edits if isinstance(edit, Platform)] == [Platform("p3 boot", "openstack")]
    assert [edit for edit in edits if isinstance(edit, Zipl)] == [Zipl("p3 boot")]
    assert msgspec.json.encode(Zipl("p3 boot")) == b'{"op":"zipl","partition":"p3 boot"}'
    text = stores.manifest_path(both_store, OPENSTACK, "s390x").read_bytes()
    assert b"ignition" not in text, "the command line is told, not stored"
    assert len(zstandard.ZstdCompressor(level=19).compress(text)) <= 1536
    told = " ".join(fine("info", "openstack", "--arch", "s390x", "--store", both_store).text.split())
    assert "kernel arguments -ignition.platform.id=metal +ignition.platform.id=openstack;" in told
    assert "zipl: parmline = BLS options + ignition.firstboot;" in told


def test_rehydration_starts_no_program(given_back: Path, s390x_release: Path) -> None:
    images = json.loads(next(s390x_release.glob("builds/*/s390x/meta.json")).read_bytes())["images"]
    promised = {item["path"].removesuffix(".xz"): item["uncompressed-sha256"] for item in images.values()}
    assert {path.name: _sha256(path) for path in given_back.iterdir()} == promised
    assert len(promised) == 3


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.mark.parametrize(("key", "sector"), [("metal", 512), ("metal4k", 4096)])
def test_the_bootmap_of_a_real_zipl_is_computed(given_back: Path, key: str, sector: int) -> None:
    """Also that of the disk with 4096-byte sectors, for which zipl was told the wrong block size."""
    with FileSource(next(given_back.glob(f"*-{key}.s390x.raw"))) as disk:
        table = read_table(disk)
        assert table.sector_size == sector
        boot = next(Window(disk, *region.extent) for region in table.regions if region.name == "p3 boot")
        record = bytes(disk.read(0, BootRecord.SIZE))
        installed = read_installed(record, Ext4(boot))
        built = build(installed.parts, installed.file.blocks)
        assert built.bootmap == installed.file.content
        assert built.boot_record == record
        assert installed.parts.grid.sector == 512


def test_one_store_has_both_architectures(both_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*arguments: str) -> list[str]:
        text = fine(*arguments, "--json", "--store", both_store).text
        return sorted(f"{item['arch']} {item['short_name']}" for item in json.loads(text)["artifacts"])

    x86_64 = ["x86_64 metal", "x86_64 openstack", "x86_64 qemu"]
    s390x = ["s390x metal", "s390x metal4k", "s390x openstack"]
    assert listed("list") == s390x + x86_64
    assert listed("list", "--arch", "s390x") == s390x
    assert listed("info", "--arch", "all") == s390x + x86_64
    for machine, own in (("x86_64", x86_64), ("s390x", s390x)):
        monkeypatch.setattr(platform, "machine", lambda name=machine: name)
        assert listed("info") == own
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    fails(2, ["several architectures", "this machine's aarch64", "s390x, x86_64 or all"], "info", "--store", both_store)


def test_architectures_are_chosen(both_store: Path, tmp_path: Path) -> None:
    def given(*disks: str, arch: str) -> list[str]:
        place = tmp_path / "-".join((arch, *disks))
        options = [word for disk in disks for word in ("--disk", disk)]
        fine("rehydrate", place, *options, "--arch", arch, "--store", both_store, "--progress", "none")
        return sorted(path.name.split("-")[-1] for path in place.iterdir())

    assert given("openstack", arch="s390x") == ["openstack.s390x.qcow2"]
    assert given("openstack", arch="all") == ["openstack.s390x.qcow2", "openstack.x86_64.qcow2"]
    assert given("metal4k", "qemu", arch="all") == ["metal4k.s390x.raw", "qemu.x86_64.qcow2"]
    no_disk = ("rehydrate", tmp_path / "none", "--store", both_store, "--disk")
    fails(2, ["no artifact 'qemu' for s390x"], *no_disk, "qemu", "--arch", "s390x")
    fails(2, ["no artifact 'azure' for s390x, x86_64"], *no_disk, "azure", "--arch", "all")
    fails(2, ["nothing for architecture ppc64le", "s390x, x86_64"], *no_disk, "qemu", "--arch", "ppc64le")


def test_two_releases_are_in_the_store_as_each_would_be_alone(
    both_store: Path, real_store: Path, release_dir: Path, s390x_release: Path
) -> None:
    printed = json.loads(fine("print-stream-json", "--store", both_store).text)["architectures"]
    assert set(printed) == {"x86_64", "s390x"}
    for arch, release in (("x86_64", release_dir), ("s390x", s390x_release)):
        assert printed[arch] == json.loads((release / "stream.json").read_bytes())["architectures"][arch]
    assert stores.index(real_store)["architectures"]["x86_64"] == stores.index(both_store)["architectures"]["x86_64"]
    assert "artifacts are right" in fine("verify", "--store", both_store, "--progress", "none").text
