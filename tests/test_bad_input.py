"""Bad releases: each ends with the right exit code, one clear line, and nothing left behind."""

from __future__ import annotations

import lzma
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import PROGRAM, Result, environment, fails, fine, leftovers, run
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker


def refused(code: int, words: list[str], maker: ReleaseMaker, *options: str) -> Result:
    """Dehydrate and expect a refusal that leaves nothing."""
    store = maker.root.parent / "store"
    result = fails(code, words, "build", "dehydrate", maker.root, store, *options)
    assert not store.exists()
    assert leftovers(maker.root.parent) == []
    return result


def middle_flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "cut by one byte": lambda data: data[:-1],
    "empty": lambda _: b"",
    "flipped": middle_flipped,
    "other": lambda data: b"<html>404</html>" + bytes(len(data)),
}


PAIRS = [
    ("metal", "truncated"),
    ("metal", "flipped"),
    ("qemu", "empty"),
    ("aws", "cut by one byte"),
    ("vmware", "other"),
]


@pytest.mark.parametrize(("key", "damage"), PAIRS)
def test_files_that_are_not_what_the_metadata_says(small_release: ReleaseMaker, key: str, damage: str) -> None:
    small_release.replace(key, DAMAGES[damage](small_release.shipped(key)), metadata=False)
    refused(1, [small_release.images[key]["path"], "expected"], small_release)


@pytest.mark.parametrize("key", ["metal", "aws"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_streams_that_were_shipped_so(small_release: ReleaseMaker, key: str, damage: str) -> None:
    """The metadata's sha256 fits the damaged file; then its content can't be what was promised."""
    small_release.replace(key, DAMAGES[damage](small_release.shipped(key)), metadata=True)
    refused(1, [small_release.images[key]["path"]], small_release)


def test_a_damaged_zip(small_release: ReleaseMaker) -> None:
    small_release.add("hyperv", "vhdx.zip", metal_disk(4))
    for damage in (DAMAGES["truncated"], DAMAGES["flipped"]):
        data = small_release.shipped("hyperv")
        small_release.replace("hyperv", damage(data), metadata=True)
        refused(1, ["vhdx.zip"], small_release)
        small_release.replace("hyperv", data, metadata=True)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "other"])
def test_a_damaged_qcow2_that_was_shipped_so(small_release: ReleaseMaker, damage: str, tmp_path: Path) -> None:
    """All digests fit: it is what the release has, so it is given back as it is."""
    inner = lzma.decompress(small_release.shipped("qemu"))
    small_release.add("qemu", "qcow2.xz", DAMAGES[damage](inner))
    small_release.finish()
    fine("build", "dehydrate", small_release.root, tmp_path / "store")
    fine("rehydrate", tmp_path / "out", "--all", "--store", tmp_path / "store")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == small_release.content


@pytest.mark.parametrize("field", ["sha256", "uncompressed-sha256", "size", "uncompressed-size"])
@pytest.mark.parametrize("key", ["qemu"])
def test_wrong_metadata(small_release: ReleaseMaker, key: str, field: str) -> None:
    value = small_release.images[key][field]
    small_release.images[key][field] = value - 1 if isinstance(value, int) else "0" * 64
    small_release.finish()
    refused(1, [small_release.images[key]["path"]], small_release)


@pytest.mark.parametrize("key", ["metal", "vmware"])
def test_missing_files(small_release: ReleaseMaker, key: str) -> None:
    (small_release.directory / small_release.images[key]["path"]).unlink()
    result = refused(2, [small_release.images[key]["path"], "No such file"], small_release)
    assert "done" not in result.err  # told before the long work


def test_a_file_of_another_size_is_told_before_the_long_work(small_release: ReleaseMaker) -> None:
    small_release.replace("vmware", small_release.shipped("vmware")[:-1], metadata=False)
    result = refused(1, [small_release.images["vmware"]["path"], "truncated"], small_release)
    assert "done" not in result.err


def test_a_directory_in_place_of_a_file(small_release: ReleaseMaker) -> None:
    path = small_release.directory / small_release.images["vmware"]["path"]
    path.unlink()
    path.mkdir()
    result = run("build", "dehydrate", small_release.root, small_release.root.parent / "store")
    assert result.code in {1, 2}
    assert len(result.complaints) == 1
    assert path.name in result.complaints[0]


def test_no_canonical(small_release: ReleaseMaker) -> None:
    del small_release.images["metal"]
    small_release.finish()
    refused(2, ["no metal raw disk"], small_release)


@pytest.mark.parametrize("key", ["../evil", "a/b", "-rf"])
def test_keys_that_lead_out(small_release: ReleaseMaker, key: str) -> None:
    small_release.images[key] = small_release.images["vmware"]
    small_release.finish()
    result = run("build", "dehydrate", small_release.root, small_release.root.parent / "store")
    assert result.code in {1, 2}
    assert "not a plain name" in result.complaints[0]
    assert leftovers(small_release.root.parent) == []


@pytest.mark.parametrize("what", ["directory", "file", "dangling link"])
def test_the_target_exists(small_release: ReleaseMaker, tmp_path: Path, what: str) -> None:
    store = tmp_path / "store"
    if what == "directory":
        store.mkdir()
        (store / "precious").write_text("x")
    elif what == "file":
        store.write_text("x")
    else:
        store.symlink_to("nowhere")
    fails(2, [str(store), "exists already"], "build", "dehydrate", small_release.root, store)
    assert leftovers(tmp_path) == []
    assert store.is_symlink() or store.exists()


def test_the_parent_of_the_target_is_missing(small_release: ReleaseMaker, tmp_path: Path) -> None:
    fails(2, ["no such directory"], "build", "dehydrate", small_release.root, tmp_path / "none" / "store")


def test_garbage_metadata(tmp_path: Path) -> None:
    """No text in place of the metadata brings the program down."""
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw", b"x" * 5000)
    maker.finish()
    order = random.Random(5)
    path = maker.directory / "meta.json"
    good = path.read_bytes()
    for _ in range(5):
        bad = bytearray(good)
        for _ in range(order.choice([1, 3])):
            bad[order.randrange(len(bad))] = order.randrange(256)
        path.write_bytes(bad)
        result = run("build", "dehydrate", maker.root, tmp_path / "store")
        assert result.code in {0, 1, 2, 3}
        assert len(result.complaints) == (result.code != 0), result.err
        assert "internal error" not in result.err
        if result.code == 0:
            subprocess.run(["rm", "-r", tmp_path / "store"], check=True)


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize("size", ["64k", "1m", "2m", "3m"])
def test_dehydrating_to_a_full_disk(
    small_release: ReleaseMaker, tmp_path: Path, need: Callable[..., None], size: str
) -> None:
    need("mount", root=True)
    with small_disk(tmp_path / "disk", size) as disk:
        result = fails(2, ["No space left"], "build", "dehydrate", small_release.root, disk / "store")
        assert "error: system" not in result.err, "the line must say where"
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize(("disk", "size"), [("aws", "1m"), ("qemu", "64k")])
def test_rehydrating_to_a_full_disk(
    small_store: Path, tmp_path: Path, need: Callable[..., None], disk: str, size: str
) -> None:
    need("mount", root=True)
    with small_disk(tmp_path / "disk", size) as full:
        fails(2, ["No space left", "Free some space"], "rehydrate", full, "--disk", disk, "--store", small_store)
        assert list(full.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rehydrate", "-", "--disk", "aws", "--progress", "none"), "standard output: cannot be written"),
        (("rehydrate", "-", "--disk", "aws", "--disk", "qemu", "--progress", "none"), "standard output: cannot be"),
        (("list",), "standard output: cannot be written"),
        (("info", "qemu", "--json"), "standard output: cannot be written"),
        (("verify", "--progress", "none"), "standard output: cannot be written"),
    ],
)
def test_a_full_device_as_standard_output(small_store: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in _complaint_of_a_full_device(*arguments, "--store", small_store)


def test_a_full_device_for_what_is_printed_verbatim(real_store: Path) -> None:
    line = _complaint_of_a_full_device("print-stream-json", "--store", real_store)
    assert "standard output: cannot be written" in line


def _complaint_of_a_full_device(*arguments: str | Path) -> str:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, check=False, env=environment()
        )
    assert process.returncode == 2
    (line,) = process.stderr.decode().splitlines()
    assert line.startswith("rehydrator: error: ")
    return line
