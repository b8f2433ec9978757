"""The committed real release, end to end through the command line."""

from __future__ import annotations

import filecmp
import hashlib
import io
import json
import lzma
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rehydrator.disk.sink import FileSink
from rehydrator.errors import OutputError
from tests.support.cli import fails, fine, leftovers, run
from tests.support.releases import sha256


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.fixture(scope="module")
def images(release_dir: Path) -> dict[str, dict[str, Any]]:
    """What the release's own metadata promises, by platform."""
    (meta,) = release_dir.glob("builds/*/x86_64/meta.json")
    found: dict[str, dict[str, Any]] = json.loads(meta.read_bytes())["images"]
    return found


def content_name(image: dict[str, Any]) -> str:
    return str(image["path"]).removesuffix(".xz")


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_dehydrating_twice_gives_the_same_store(real_store: Path, release_dir: Path, tmp_path: Path) -> None:
    fine("build", "dehydrate", release_dir / "stream.json", tmp_path / "again", "--no-compressed", "--jobs", "1")
    assert tree(tmp_path / "again") == tree(real_store)
    assert leftovers(tmp_path) == []
    assert filecmp.dircmp(tmp_path / "again", real_store).left_only == []


def test_the_store_is_small(real_store: Path) -> None:
    """Siblings of the canonical cost next to nothing, and the whole is smaller than the release."""
    report = json.loads(fine("list", "--json", "--store", real_store).out)
    for item in report["artifacts"]:
        assert item["rung"] == "edits"
        if item["platform"] != "metal":
            assert item["stored_size"] < 4096, item


def test_everything_comes_back(real_store: Path, images: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    result = fine("rehydrate", tmp_path / "out", "--all", "--store", real_store)
    assert result.out == b""
    assert {path.name: sha256_file(path) for path in (tmp_path / "out").iterdir()} == {
        content_name(image): image["uncompressed-sha256"] for image in images.values()
    }
    raw = (tmp_path / "out" / content_name(images["metal"])).stat()
    assert raw.st_size == images["metal"]["uncompressed-size"]
    assert raw.st_blocks * 512 < raw.st_size / 20, "raw files are sparse"


@pytest.mark.parametrize("platform", ["qemu", "openstack"])
@pytest.mark.parametrize("options", [[], ["--arch", "x86_64"], ["--arch", "all"], ["--skip-validate"]])
def test_one_to_standard_output(
    real_store: Path, images: dict[str, dict[str, Any]], platform: str, options: list[str]
) -> None:
    result = fine("rehydrate", "-", "--disk", platform, "--store", real_store, *options)
    assert sha256(result.out) == images[platform]["uncompressed-sha256"]
    assert ("sha256 ok" in result.err) == ("--skip-validate" not in options)


@pytest.mark.parametrize("options", [[], ["--compress", "zstd"]])
def test_no_file_is_called_right_before_it_has_its_name(
    real_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot be written: No space left on device", path="qemu")

    monkeypatch.setattr(FileSink, "commit", full)
    words = ("--disk", "qemu", "--store", str(real_store), "--progress", "plain", *options)
    assert "sha256 ok" not in fails(2, ["No space left on device"], "rehydrate", tmp_path, *words).err
    assert list(tmp_path.iterdir()) == []


def test_several_to_standard_output_are_a_tar(real_store: Path, images: dict[str, dict[str, Any]]) -> None:
    result = fine("rehydrate", "-", "--disk", "qemu", "--disk", "openstack", "--store", real_store)
    with tarfile.open(fileobj=io.BytesIO(result.out), mode="r:") as archive:
        members = archive.getmembers()
        assert {member.name for member in members} == {content_name(images[name]) for name in ("qemu", "openstack")}
        for member in members:
            stream = archive.extractfile(member)
            assert stream is not None
            promised = {content_name(image): image["uncompressed-sha256"] for image in images.values()}
            assert sha256(stream.read()) == promised[member.name]
            assert (member.mode, member.uid) == (0o644, 0)
    assert result.out.endswith(bytes(1024))


@pytest.mark.parametrize(("epoch", "mtime"), [("0", 0), ("1700000000", 1700000000)])
def test_the_time_in_a_tar_is_the_source_date(real_store: Path, epoch: str, mtime: int) -> None:
    result = fine(
        "rehydrate", "-", "--disk", "qemu", "--disk", "openstack", "--store", real_store,
        env={"SOURCE_DATE_EPOCH": epoch},
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(result.out)) as archive:
        assert {member.mtime for member in archive.getmembers()} == {mtime}


def test_an_existing_file_is_replaced(real_store: Path, images: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / content_name(images["qemu"])
    path.write_bytes(b"old" * 10_000_000)
    fine("rehydrate", tmp_path, "--disk", "qemu", "--store", real_store)
    assert sha256_file(path) == images["qemu"]["uncompressed-sha256"]
    assert leftovers(tmp_path) == []


def test_the_store_is_named_by_the_environment_or_the_place(real_store: Path, tmp_path: Path) -> None:
    assert fine("list", env={"REHYDRATOR_STORE": str(real_store)}).out
    shutil.copytree(real_store, tmp_path / "store")
    assert fine("list", cwd=tmp_path).out == fine("list", "--store", real_store).out


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["nothing chosen", "--disk"], ["rehydrate", "OUT"]),
        (["no artifact 'nimbus'", "openstack"], ["rehydrate", "OUT", "--disk", "nimbus"]),
        (["no artifact 'nimbus'"], ["rehydrate", "OUT", "--disk", "qemu", "--disk", "nimbus"]),
        (["no artifact 'iso'"], ["rehydrate", "OUT", "--iso"]),
        (["pxe-kernel", "pxe-rootfs"], ["rehydrate", "OUT", "--pxe"]),
        (["nothing for architecture riscv64", "x86_64"], ["rehydrate", "OUT", "--all", "--arch", "riscv64"]),
        (["no artifact 'nimbus'"], ["info", "nimbus"]),
        (["no artifact 'nimbus'"], ["verify", "nimbus"]),
    ],
)
def test_wrong_choices(real_store: Path, tmp_path: Path, words: list[str], arguments: list[str]) -> None:
    out = tmp_path / "out"
    fails(2, words, *(str(out) if word == "OUT" else word for word in arguments), "--store", real_store)
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["--wrong"], ["unknown"], ["rehydrate"], ["list", "extra"], ["build"]])
def test_wrong_command_lines(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert "Usage:" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["rehydrate", "-h"], ["build", "dehydrate", "-h"]])
def test_help(arguments: list[str]) -> None:
    assert "rehydrator" in fine(*arguments).text


def test_stream_metadata_and_signatures_are_verbatim(real_store: Path, release_dir: Path) -> None:
    assert fine("print-stream-json", "--store", real_store).out == (release_dir / "stream.json").read_bytes()
    for path in release_dir.glob("builds/*/x86_64/*.sig"):
        assert (real_store / "signatures" / path.name).read_bytes() == path.read_bytes()


def test_the_canonical_is_a_plain_zstd_file(
    real_store: Path, images: dict[str, dict[str, Any]], release_dir: Path
) -> None:
    pyzstd = pytest.importorskip("pyzstd", reason="missing: Python package pyzstd")
    digest = hashlib.sha256()
    with pyzstd.ZstdFile(real_store / "x86_64" / "canonical.raw.zst") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    assert digest.hexdigest() == images["metal"]["uncompressed-sha256"]
    (shipped,) = release_dir.glob("builds/*/x86_64/*metal*.raw.xz")
    with lzma.open(shipped) as stream:
        assert stream.read(1 << 16)[510:512] == b"\x55\xaa"
