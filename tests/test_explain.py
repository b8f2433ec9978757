"""``explain`` on the real release: what it prints, its exit codes, and that the account is right."""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import os
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from rehydrator.disk.source import FileSource
from tests.support.cli import PROGRAM, environment, fails, fine, run
from tests.support.disks import metal_disk
from tests.support.explaining import check_account, compare_files
from tests.support.stores import flip

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "REHYDRATOR_UPDATE_GOLDEN"  # set it to write the goldens anew; the difference is for a person to read


def shipped(release_dir: Path, platform: str) -> Path:
    (found,) = release_dir.glob(f"builds/*/x86_64/*-{platform}.*.xz")
    return found


@pytest.fixture(scope="session")
def raw(release_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metal disk of the real release; read-only."""
    path = tmp_path_factory.mktemp("explain") / "metal.x86_64.raw"
    with lzma.open(shipped(release_dir, "metal")) as stream, path.open("wb") as target:
        while piece := stream.read(1 << 20):
            if piece.count(0) == len(piece):
                target.seek(len(piece), os.SEEK_CUR)
            else:
                target.write(piece)
        target.truncate()
    return path


@pytest.mark.parametrize(
    ("name", "platform", "options"),
    [
        ("openstack.txt", "openstack", []),
        ("openstack.patch.txt", "openstack", ["-p"]),
        ("openstack.stat.txt", "openstack", ["--stat"]),
        ("openstack.hex.txt", "openstack", ["--hex", "--extents"]),
        ("openstack.json", "openstack", ["--output", "json", "-p"]),
        ("qemu.txt", "qemu", []),
        ("metal.txt", "metal", []),
    ],
)
def test_golden(name: str, platform: str, options: list[str], release_dir: Path) -> None:
    result = run("explain", shipped(release_dir, "metal"), shipped(release_dir, platform), *options)
    assert (result.code, result.err) == (0 if platform == "metal" else 1, "")
    golden = GOLDEN / f"explain.{name}"
    if os.environ.get(UPDATE):
        golden.write_text(result.text)
    assert result.text == golden.read_text()
    if name.endswith(".txt"):
        prose = [line for line in result.text.splitlines() if not line.lstrip().startswith(("|", "#", "/"))]
        commands = ("debugfs", "xfs_", "cmp")
        assert [line for line in prose if len(line) > 80 and not line.strip().startswith(commands)] == []


def test_account_is_that_of_cmp(release_dir: Path) -> None:
    """The number of differing bytes is what a plain loop over both disks counts."""
    report = compare_files(shipped(release_dir, "openstack"), shipped(release_dir, "qemu"))
    check_account(report)
    assert report.total.unexplained == 0
    assert [part.name for part in report.parts] == ["p3 boot", "p4 root"]
    assert report.verdict.startswith("qemu differs from openstack only in: kernel arguments")


def test_json_is_the_tree(release_dir: Path) -> None:
    document = json.loads(
        run("explain", shipped(release_dir, "metal"), shipped(release_dir, "qemu"), "--output", "json").out
    )
    assert document["schema"] == 1
    assert document["total"]["differing"] == document["total"]["explained"] > 0
    assert document["b"]["peeled"][0] == "xz"


@pytest.mark.parametrize("wrap", ["raw", "gz", "zip", "xz"])
def test_wrappings_of_one_disk_are_identical(wrap: str, tmp_path: Path) -> None:
    plain, other = tmp_path / "metal.raw", tmp_path / f"other.{wrap}"
    disk = metal_disk()
    plain.write_bytes(disk)
    match wrap:
        case "raw":
            other.write_bytes(disk)
        case "gz":
            other.write_bytes(gzip.compress(disk, 1))
        case "zip":
            with zipfile.ZipFile(other, "w") as archive:
                archive.write(plain, "metal.raw")
        case "xz":
            other.write_bytes(lzma.compress(disk, preset=0))
    result = fine("explain", plain, other)
    assert "0 of 0 differing bytes explained" in result.text
    if wrap != "raw":
        assert "only the compression differs" in " ".join(result.text.split())
        assert run("explain", plain, other, "--strict").code == 1


def test_unlike_containers(raw: Path, qcow2_of: Path) -> None:
    assert "hold the same disk; only the container differs" in " ".join(fine("explain", raw, qcow2_of).text.split())
    assert run("explain", raw, qcow2_of, "--strict").code == 1


def test_container_fields(qcow2_of: Path, tmp_path: Path, raw: Path) -> None:
    """Two qcow2 files of one disk differ in their records, which are told by field."""
    other = tmp_path / "other.qcow2"
    subprocess.run(
        ["qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=131072", raw, other], check=True, timeout=120
    )
    report = compare_files(qcow2_of, other)
    assert not report.identical
    assert {"cluster_bits"} <= {item.field for item in report.container}
    assert report.verdict.startswith("metal and other hold the same disk; only the container differs: qcow2 ")
    assert report.verdict.endswith("qcow2 cluster_bits")
    assert run("explain", qcow2_of, other).code == 1


@pytest.fixture(scope="session")
def qcow2_of(raw: Path, need: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metal disk in a qcow2 file."""
    if shutil.which("qemu-img") is None:
        pytest.skip("missing: qemu-img, in package qemu-utils (Fedora: qemu-img)")
    path = tmp_path_factory.mktemp("qcow2") / "metal.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, path], check=True, timeout=120)
    return path


def test_platform_is_the_same_as_two_files(release_dir: Path, real_store: Path) -> None:
    direct = run("explain", shipped(release_dir, "metal"), shipped(release_dir, "qemu"), "--stat")
    stored = run("explain", "--platform", "qemu", "--store", real_store, "--stat")
    assert (stored.code, stored.text) == (1, direct.text)
    assert run("explain", "--platform", "metal", "--store", real_store).code == 0


def test_against(release_dir: Path, real_store: Path, tmp_path: Path) -> None:
    good = shipped(release_dir, "openstack")
    assert "sha256 match: " in fine("explain", "--against", real_store, good).text
    bad = tmp_path / good.name.removesuffix(".xz")
    bad.write_bytes(lzma.decompress(good.read_bytes()))
    assert "sha256 match: " in fine("explain", "--against", real_store, bad).text
    changed = bytearray(bad.read_bytes())
    at = changed.index(b"ignition.platform.id=openstack")
    changed[at + 21 : at + 30] = b"openstuck"
    bad.write_bytes(changed)
    result = run("explain", "--against", real_store, bad)
    assert result.code == 1
    assert "sha256 mismatch:" in result.text
    assert "first divergence 0x" in result.text
    assert "the file differs from the store" in result.text
    assert "p3 boot ext4" in result.text


def test_against_compression_only(release_dir: Path, real_store: Path, tmp_path: Path) -> None:
    good = shipped(release_dir, "openstack")
    again = tmp_path / good.name
    again.write_bytes(lzma.compress(lzma.decompress(good.read_bytes()), preset=0))
    result = run("explain", "--against", real_store, again)
    assert result.code == 1
    assert "first divergence in the compression" in result.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing to compare"]),
        (["one.raw"], ["nothing to compare"]),
        (["nowhere.raw", "nowhere.raw"], ["nowhere.raw", "No such file"]),
        (["--against", "nowhere", "one.raw"], ["no rehydrator store here"]),
        (["--platform", "moon"], ["no artifact 'moon'"]),
        (["--platform", "qemu", "a.raw", "b.raw"], ["nothing to compare"]),
    ],
)
def test_wrong_use(arguments: list[str], words: list[str], real_store: Path) -> None:
    fails(2, words, "explain", "--store", real_store, *arguments)


def test_damaged_stream_leaves_nothing(release_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    broken = tmp_path / "broken.raw.xz"
    broken.write_bytes(shipped(release_dir, "metal").read_bytes())
    flip(broken, 200_000, 0xFF)
    result = run("explain", broken, shipped(release_dir, "metal"), env={"TMPDIR": str(scratch)})
    assert result.code == 1
    assert "xz stream is" in result.err
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("place", ["missing", "file"])
def test_no_place_for_temporary_files(release_dir: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    image, scratch = shipped(release_dir, "metal"), tmp_path / place
    result = run("explain", image, image, env={"TMPDIR": str(scratch)})
    assert result.code == 2
    assert f"{scratch}: no temporary file can be made" in result.err
    assert "Set TMPDIR" in result.err


def test_interrupt_leaves_nothing(release_dir: Path, tmp_path: Path) -> None:
    """Even while it decompresses; and once it has, the copy has no name any more."""
    command = [*PROGRAM, "explain", *map(str, [shipped(release_dir, "metal"), shipped(release_dir, "qemu")])]

    def decompresses(process: subprocess.Popen[bytes]) -> bool:
        held = (path.readlink() for path in Path(f"/proc/{process.pid}/fd").iterdir())
        return any(target.is_relative_to(tmp_path) for target in held)

    with subprocess.Popen(command, env=environment({"TMPDIR": str(tmp_path)}), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError):  # a descriptor that was closed meanwhile
                if decompresses(process):
                    break
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_not_written(raw: Path, release_dir: Path) -> None:
    before = raw.stat()
    raw.chmod(0o444)
    run("explain", raw, shipped(release_dir, "qemu"))
    after = raw.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert FileSource(raw).size == before.st_size


def test_truncated_container(qcow2_of: Path, tmp_path: Path) -> None:
    """What can't be taken apart is said to be so, with the place of the damage."""
    cut = tmp_path / "cut.qcow2"
    cut.write_bytes(qcow2_of.read_bytes()[:3_000_000])
    report = compare_files(qcow2_of, cut)
    check_account(report)
    assert report.verdict.startswith("cut could not be taken apart and is compared as it is: ")
    assert report.total.unexplained > 0
    assert any(note.image == "cut" and "qcow2" in note.text for note in report.health)
    assert run("explain", qcow2_of, cut, "--stat").code == 3
