"""Files as they were shipped: the compressed bytes, and the signatures over them."""

from __future__ import annotations

import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehydrator.codecs import lzma2
from rehydrator.disk.source import FileSource
from rehydrator.intake.compression import find_compression
from rehydrator.intake.intake import take_in
from rehydrator.layers.xz import XzLayer
from rehydrator.progress import Cancelled, Progress, Task
from rehydrator.release.inputs import Selection, read_inputs
from tests.support import stores
from tests.support.cli import fails, fine, run, run_alone
from tests.support.disks import MIB, metal_disk, sibling
from tests.support.releases import ReleaseMaker

FORGERIES: dict[str, Any] = {
    "another preset": {"encoder": "liblzma-6"},
    "another check": {"check": "crc32"},
    "another size": {"file_size": 10_000_000},
    "a giant": {"file_size": 1 << 60},
    "a negative size": {"file_size": -1},
    "tiny blocks": {"block_size": 1},
    "a negative block": {"block_size": -4096},
    "sizes of no block": {"sizes": [1, 2, 3]},
    "a header": {"header_size": 1 << 40},
    "gzip": {"layer": "gzip", "deflate": "zlib-6"},
    "gzip of a giant": {"layer": "gzip", "deflate": "zlib-6", "file_size": 1 << 60},
    "no compression": {"layer": "qcow2"},
}


def found(store: Path) -> dict[str, tuple[str, str]]:
    """Tell by platform whether the compressed file is exact, and how it is compressed."""
    report = json.loads(fine("info", "--json", "--store", store).out)
    return {item["platform"]: (item["compressed"], item["compression"]) for item in report["artifacts"]}


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def shipped(maker: ReleaseMaker) -> dict[str, bytes]:
    return {image["path"]: maker.shipped(key) for key, image in maker.images.items()}


def by_xz(data: bytes, *options: str) -> bytes:
    return subprocess.run(["xz", "-c", *options], input=data, check=True, capture_output=True).stdout


def test_files_come_back_as_shipped(small_release: ReleaseMaker, small_store: Path, tmp_path: Path) -> None:
    assert {name: exact for name, (exact, _) in found(small_store).items()} == dict.fromkeys(
        ("metal", "qemu", "aws", "vmware"), "exact"
    )
    fine("rehydrate", tmp_path / "out", "--all", "--compressed", "--store", small_store)
    assert files(tmp_path / "out") == shipped(small_release)
    fine("rehydrate", tmp_path / "plain", "--all", "--store", small_store)
    assert files(tmp_path / "plain") == small_release.content
    result = fine("rehydrate", "-", "--disk", "qemu", "--compressed", "--store", small_store)
    assert result.out == small_release.shipped("qemu")


@pytest.mark.oracle
@pytest.mark.parametrize("threads", ["-T1", "-T2"])
@pytest.mark.parametrize("program", ["gzip", "xz", "zip"])
def test_files_of_the_real_programs(maker: ReleaseMaker, program: str, threads: str, tmp_path: Path) -> None:
    """xz -9 by one thread and by several, GNU gzip with a file's name and time, zip -9j: as a release is compressed."""
    metal, disk = metal_disk(), sibling(metal_disk(), 3)
    maker.add("metal", "raw.xz", metal)
    maker.replace("metal", by_xz(metal, "-9", threads), metadata=True)
    suffix = {"gzip": "gz"}.get(program, program)
    shipped_file = maker.add("aws", f"raw.{suffix}", disk)
    plain = tmp_path / shipped_file.stem
    plain.write_bytes(disk)
    command = {
        "gzip": ["gzip", "-6", "-c"],
        "xz": ["xz", "-9", "-c", threads],
        "zip": ["zip", "-9j", "-"],
    }[program]
    maker.replace("aws", subprocess.run([*command, str(plain)], check=True, capture_output=True).stdout, metadata=True)
    fine("build", "dehydrate", maker.root, tmp_path / "store", "--level", "1")
    exact, how = found(tmp_path / "store")["aws"]
    assert exact == "exact"
    words = {"gzip": f"by gzip-6, name {plain.name}", "xz": "by liblzma-9", "zip": f"by gzip-9, name {plain.name}"}
    assert how.startswith(f"{program} {words[program]}")
    fine("rehydrate", tmp_path / "out", "--all", "--compressed", "--store", tmp_path / "store")
    assert files(tmp_path / "out") == shipped(maker)
    fine("verify", "--compressed", "--store", tmp_path / "store")


@pytest.fixture
def maker(tmp_path: Path) -> ReleaseMaker:
    """An empty release."""
    return ReleaseMaker(tmp_path / "release")


@pytest.fixture
def by_content(small_release: ReleaseMaker, tmp_path: Path) -> Path:
    """A store of a release in which nobody knows how qemu's file was compressed."""
    disk = small_release.content[small_release.images["qemu"]["path"].removesuffix(".xz")]
    strange = [{"id": lzma.FILTER_LZMA2, "preset": 1, "lc": 0, "lp": 2}]
    small_release.replace("qemu", lzma.compress(disk, filters=strange), metadata=True)
    result = fine("build", "dehydrate", small_release.root, tmp_path / "store")
    assert "note: only the content of this file comes back exactly: " in result.err
    assert "qemu.x86_64.qcow2.xz" in result.err
    return tmp_path / "store"


def test_what_nobody_can_compress_comes_back_by_content(
    by_content: Path, small_release: ReleaseMaker, tmp_path: Path
) -> None:
    assert found(by_content)["qemu"] == ("by content", "")
    assert found(by_content)["aws"][0] == "exact"
    assert "compressed    by content" in fine("info", "qemu", "--store", by_content).text
    for dest, chosen in ((tmp_path / "out", "--all"), ("-", "--all"), ("-", "--disk=qemu")):
        result = fails(3, ["qcow2.xz", "by content only", "--compressed"],
                       "rehydrate", dest, chosen, "--compressed", "--store", by_content)  # fmt: skip
        assert result.out == b""
    assert not (tmp_path / "out").exists() or not files(tmp_path / "out")
    fine("rehydrate", tmp_path / "out", "--disk", "qemu", "--store", by_content)
    (data,) = files(tmp_path / "out").values()
    assert data in small_release.content.values()
    fine("verify", "--compressed", "--store", by_content)


def test_looking_for_compressors_can_be_left_out(small_release: ReleaseMaker, tmp_path: Path) -> None:
    fine("build", "dehydrate", small_release.root, tmp_path / "store", "--no-compressed")
    assert {name: exact for name, (exact, _) in found(tmp_path / "store").items()} == {
        "metal": "by content", "qemu": "by content", "aws": "by content", "vmware": "exact",
    }  # fmt: skip


@pytest.mark.parametrize("case", FORGERIES)
def test_forged_compressions(small_store: Path, tmp_path: Path, case: str) -> None:
    """A wrong record gives a clear end and no file, and harms nobody who asks for the content."""
    document = stores.manifest(small_store, "qemu.qcow2.xz.disk")
    document["compression"] = document["compression"] | FORGERIES[case]
    stores.rewrite(small_store, "x86_64/manifests/qemu.qcow2.xz.disk.json", document)
    arguments = ("--disk", "qemu", "--store", small_store)
    fails(1, [], "rehydrate", tmp_path / "out", *arguments, "--compressed")
    assert not (tmp_path / "out").exists() or not files(tmp_path / "out")
    if case != "no compression":
        fine("rehydrate", tmp_path / "out", *arguments)
        assert "1 of" not in fine("verify", "--store", small_store).text
        assert "BAD" in run("verify", "--compressed", "--store", small_store).text


def test_a_missing_program_is_named(maker: ReleaseMaker, tmp_path: Path, need: Callable[..., None]) -> None:
    need("gzip")
    metal, disk = metal_disk(), sibling(metal_disk(), 3)
    maker.add("metal", "raw.xz", metal)
    maker.add("aws", "raw.gz", disk)
    by_program = subprocess.run(["gzip", "-9"], input=disk, check=True, capture_output=True).stdout
    maker.replace("aws", by_program, metadata=True)
    store = tmp_path / "store"
    fine("build", "dehydrate", maker.root, store)
    nothing = tmp_path / "empty"
    nothing.mkdir()
    without = {"PATH": str(nothing)}
    result = run_alone("rehydrate", tmp_path / "out", "--disk", "aws", "--compressed", "--store", store, env=without)
    assert result.code == 3
    assert "GNU gzip" in result.complaints[0]
    assert not files(tmp_path / "out")
    result = run_alone("build", "dehydrate", maker.root, tmp_path / "other", env=without)
    assert result.code == 0
    assert "GNU gzip" in result.err
    assert found(tmp_path / "other")["aws"] == ("by content", "")


def test_few_encoders_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_release: ReleaseMaker) -> None:
    """Each takes up to 1 GiB, so that their number is bounded by memory, whatever --jobs says."""
    slots = []

    class Slot:
        def __enter__(self) -> None:
            slots.append(1)

        def __exit__(self, *_: object) -> None:
            slots.append(-1)

    monkeypatch.setattr(lzma2, "RUNNING", Slot())
    assert lzma2.slots() >= 1
    fine("build", "dehydrate", small_release.root, tmp_path / "store")
    data = lzma.compress(b"some content", preset=9)
    XzLayer().unwrap(FileSource(_file(tmp_path / "x.xz", data)), tmp_path / "x.xz")
    assert slots == [1, -1]


class _Cancelling(Progress):
    """Is cancelled at a step of any task."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.steps = step

    def moved(self, task: Task) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.cancel()


@pytest.mark.parametrize(("suffix", "step"), [("xz", 20), ("xz", 70), ("gz", 20), ("zip", 20)])
def test_a_cancelled_search_reads_no_further(
    maker: ReleaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, step: int
) -> None:
    """Although zeros are compressed to next to nothing, so that there is nothing to compare for long."""
    maker.add("metal", f"raw.{suffix}", bytes(48 * MIB))
    (release,) = read_inputs((maker.finish(),), Selection()).releases
    quiet = Progress()
    taken = take_in(release.artifacts[0], tmp_path, quiet.task("read"))
    reads = []
    real = FileSource.read

    def read(source: FileSource, offset: int, length: int) -> bytes:
        reads.append(offset)
        return real(source, offset, length)

    monkeypatch.setattr(FileSource, "read", read)
    with pytest.raises(Cancelled):
        find_compression(taken, _Cancelling(step).task("compress again", taken.shipped.size))
    assert len(reads) <= step + 1
    taken.discard()


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def signed(maker: ReleaseMaker, home: Path) -> dict[str, str]:
    """Make a key and sign every shipped file with it, as a release does; return the environment that knows the key."""
    home.mkdir(mode=0o700)
    environment = os.environ | {"GNUPGHOME": str(home)}
    key = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Test <test@example.com>", "ed25519", "sign"]
    subprocess.run(key, env=environment, check=True, capture_output=True)
    for path in sorted(maker.directory.glob("fedora-*")):
        sign = ["gpg", "--batch", "--detach-sign", "--output", f"{path}.sig", str(path)]
        subprocess.run(sign, env=environment, check=True, capture_output=True)
    return environment


@pytest.fixture
def key_home(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Path:
    """A place for keys; gpg's socket needs a short path."""
    need("gpg")
    return tmp_path_factory.mktemp("key") / "home"


def test_signatures_verify(small_release: ReleaseMaker, key_home: Path, tmp_path: Path) -> None:
    environment = signed(small_release, key_home)
    store, out = tmp_path / "store", tmp_path / "out"
    fine("build", "dehydrate", small_release.root, store)
    fine("rehydrate", out, "--all", "--compressed", "--signatures", "--store", store)
    names = {image["path"] for image in small_release.images.values()}
    assert set(files(out)) == names | {f"{name}.sig" for name in names}
    for name in names:
        assert files(out)[f"{name}.sig"] == (small_release.directory / f"{name}.sig").read_bytes()
        verdict = ["gpg", "--batch", "--verify", out / f"{name}.sig", out / name]
        assert b"Good signature" in subprocess.run(verdict, env=environment, check=True, capture_output=True).stderr
    stores.flip(out / small_release.images["qemu"]["path"], 20)
    name = small_release.images["qemu"]["path"]
    verdict = ["gpg", "--batch", "--verify", out / f"{name}.sig", out / name]
    assert subprocess.run(verdict, env=environment, check=False, capture_output=True).returncode == 1
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)


def test_signatures_on_standard_output(small_release: ReleaseMaker, tmp_path: Path) -> None:
    name = small_release.images["qemu"]["path"]
    (small_release.directory / f"{name}.sig").write_bytes(b"signature of qemu")
    store = tmp_path / "store"
    fine("build", "dehydrate", small_release.root, store)
    chosen = ("rehydrate", "-", "--disk", "qemu", "--signatures", "--store", store)
    for options, shipped_name in ((("--compressed",), name), ((), name.removesuffix(".xz"))):
        result = fine(*chosen, *options)
        with tarfile.open(fileobj=io.BytesIO(result.out)) as archive:
            assert archive.getnames() == [shipped_name, f"{name}.sig"]
            stream = archive.extractfile(f"{name}.sig")
            assert stream is not None
            assert stream.read() == b"signature of qemu"
    result = fails(2, ["no signature", "aws"], "rehydrate", tmp_path / "out", "--all", "--signatures", "--store", store)
    assert not (tmp_path / "out").exists()
