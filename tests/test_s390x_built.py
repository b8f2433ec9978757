"""A built s390x release with the disk for Secure Execution and an OCI archive: sound, healthy, given back exactly."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from rehydrator.checks.finding import Check
from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import FileSource
from rehydrator.explain.owners import DiskOwners
from rehydrator.literals import NOT_COMPRESSIBLE
from tests.support.cli import environment, fine
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
        "--arch", "s390x", "--content", "tiny", "--cloud-size", "2G", "--platforms", "metal,kubevirt,qemu-secex",
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


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


@pytest.fixture(scope="module")
def store(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store") / "store"
    fine("build", "dehydrate", release, store, "--arch", "s390x", "--progress", "none")
    return store


def test_rungs(store: Path) -> None:
    listed = json.loads(fine("list", "--store", store, "--json").text)["artifacts"]
    rungs = {item["short_name"]: item["rung"] for item in listed}
    assert rungs == {"metal": "edits", "kubevirt": "edits", "qemu-secex": "relocated"}


def test_hash_trees_are_not_stored(store: Path, raw: Path) -> None:
    (told,) = json.loads(fine("info", "qemu-secex", "--store", store, "--json").text)["artifacts"]
    assert "2 hash trees computed from the data" in told["changes"]
    found = partitions(raw)
    assert told["literal_bytes"] < found["boot"].extent.length // 16, "boot's tree alone has more"


def test_the_reason_for_what_is_kept_literally_is_told(store: Path) -> None:
    (told,) = json.loads(fine("info", "qemu-secex", "--store", store, "--json").text)["artifacts"]
    encrypted = [line for line in told["changes"] if NOT_COMPRESSIBLE in line]
    assert [re.sub(r"^\d+", "N", line) for line in encrypted] == [
        f"N literal bytes: p1 se, file data /sdboot, which {NOT_COMPRESSIBLE}"
    ]
    by_owner = [line for line in told["changes"] if " literal bytes: " in line]
    assert sum(int(line.partition(" ")[0]) for line in by_owner) == told["literal_bytes"]


def test_manifest_of_an_oci_archive_is_small(store: Path) -> None:
    (manifest,) = (store / "s390x/manifests").glob("kubevirt.*")
    assert b"schemaVersion" not in manifest.read_bytes()
    # That of the fixture has at most 1536; a slow machine writes the files of a platform at more different times.
    assert len(zstandard.ZstdCompressor(level=19).compress(manifest.read_bytes())) <= 2048


# Tells which programs are started.
_WATCHED = """
import sys
def tell(event, arguments):
    if event in ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"):
        print("started", event, file=sys.stderr)
    elif event == "subprocess.Popen":
        print("started", arguments[0], file=sys.stderr)
sys.addaudithook(tell)
from rehydrator.__main__ import main
main()
"""


def test_nothing_but_gzip_is_started(store: Path, release: Path, tmp_path: Path) -> None:
    """zipl's part is computed: all is given back where no other program can be found, least of all one for s390x."""
    programs, place = tmp_path / "bin", tmp_path / "files"
    programs.mkdir()
    place.mkdir()
    gzip = shutil.which("gzip")
    assert gzip is not None
    (programs / "gzip").symlink_to(gzip)
    command = (sys.executable, "-c", _WATCHED, "rehydrate", place, "--all", "--store", store, "--progress", "none")
    done = subprocess.run(command, env=environment({"PATH": str(programs)}), check=True, capture_output=True, text=True)
    started = {line.partition(" ")[2] for line in done.stderr.splitlines() if line.startswith("started ")}
    assert {Path(item).name for item in started} == {"gzip"}
    images = json.loads(next(release.glob("builds/*/s390x/meta.json")).read_bytes())["images"]
    assert {path.name: sha256_of(path) for path in place.iterdir()} == {
        item["path"]: item["sha256"] for item in images.values()
    }
