"""The disk for Secure Execution as the release builder makes it: sound, healthy, and given back exactly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.checks.finding import Check
from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import FileSource
from rehydrator.explain.owners import DiskOwners
from tests.support.cli import fine
from tests.support.mounted import loop_device
from tests.test_boot import errors

pytestmark = pytest.mark.builder

BUILD = Path(__file__).parent.parent / "scripts/build-release"
NAME = "qemu-secex.s390x"


@pytest.fixture(scope="module")
def release(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("losetup", "veritysetup", "qemu-s390x-static", "qemu-img", root=True)
    out = tmp_path_factory.mktemp("secex")
    options = [
        "--arch", "s390x", "--content", "tiny", "--cloud-size", "2G", "--platforms", "metal,qemu-secex",
        "--uncompressed",
    ]  # fmt: skip
    done = subprocess.run([BUILD, out, *options], capture_output=True, text=True, check=False)
    if "cannot find all packages" in done.stderr:
        pytest.skip(f"missing: Debian packages: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def raw(release: Path) -> Path:
    image = release / "disk.raw"
    (container,) = release.rglob(f"*-{NAME}.qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "raw", container, image], check=True)
    return image


def partitions(image: Path) -> dict[str, Region]:
    with FileSource(image) as disk:
        return {item.name.partition(" ")[2]: item for item in read_table(disk).regions if item.partition}


def test_partitions_and_file_systems(raw: Path) -> None:
    found = partitions(raw)
    assert list(found) == ["se", "boot", "root", "boothash", "roothash"]
    for name, command in (("se", ["e2fsck", "-fn"]), ("boot", ["e2fsck", "-fn"]), ("root", ["xfs_repair", "-n"])):
        with loop_device(raw, *found[name].extent) as device:
            subprocess.run([*command, device], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["boot", "root"])
def test_hash_trees(raw: Path, name: str) -> None:
    found = partitions(raw)
    with loop_device(raw, *found[f"{name}hash"].extent) as device:
        done = subprocess.run(["veritysetup", "dump", device], capture_output=True, text=True, check=True)
    fields = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    told = {key.strip(): value.strip() for key, value in fields.items()}
    assert told["Data block size"] == "512"
    assert int(told["Data blocks"]) == found[name].extent.length // 512
    assert (told["Hash algorithm"], len(told["Salt"])) == ("sha256", 64)


def test_it_is_healthy(raw: Path) -> None:
    image = raw.with_name(f"a-{NAME}.raw")
    raw.rename(image)
    try:
        assert errors(image) == {}
        text = fine("check", image).text
        assert "/sdboot: lies where the bootmap says" in text
        assert f"{Check.PARMLINE} " not in text, "it is encrypted"
        with FileSource(image) as disk:
            owners = DiskOwners(disk)
            assert [item.name for item in owners.partitions if owners.boot_disk(item)] == ["p1 se"]
    finally:
        image.rename(raw)


def test_it_is_given_back(release: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    fine("build", "dehydrate", release, store, "--progress", "none")
    assert "artifacts are right" in fine("verify", "--store", store, "--progress", "none").text
    listed = json.loads(fine("list", "--store", store, "--json").text)["artifacts"]
    assert {item["short_name"]: item["rung"] for item in listed} == {"metal": "edits", "qemu-secex": "relocated"}
