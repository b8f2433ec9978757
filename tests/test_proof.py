"""The proof of dehydration: each chunk is compressed once, and what the store gives wrongly is found all the same."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator import proof, rungs
from rehydrator.codecs import deflate
from rehydrator.codecs.deflate import Encoder, Shape
from rehydrator.disk.digest import content_digest
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Padded, Source
from rehydrator.edits.zero import Zero, ZeroRun
from rehydrator.layers.gzip import GzipFile
from rehydrator.layers.table import format_of
from rehydrator.manifest.schema import EditedDisk, Manifest
from rehydrator.store.blobs import BlobWriter
from tests.support.cli import fine
from tests.support.compressible import compressible
from tests.support.containers import convert
from tests.support.disks import MIB, metal_disk, sibling, with_gpt
from tests.support.releases import ReleaseMaker
from tests.test_dehydrate import tar

PATH = Path("image")
VMDK = ("vmdk", "-o", "subformat=streamOptimized")
LARGE = with_gpt(compressible(1, 24 * MIB))
FORMATS: dict[str, tuple[str, ...]] = {"vmdk": VMDK, "qcow2": ("qcow2", "-c")}


@pytest.fixture
def image(tmp_path: Path, need: Callable[..., None]) -> Callable[[str, bytes], bytes]:
    """Return a function that lets qemu-img put a disk into a format of :data:`FORMATS`."""
    need("qemu-img")

    def make(kind: str, disk: bytes) -> bytes:
        (tmp_path / "raw").write_bytes(disk)
        return convert(tmp_path / "raw", tmp_path / f"made.{kind}", *FORMATS[kind]).read_bytes()

    return make


class Tally:
    """Numbers that a program in another process adds to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def add(self, number: int) -> None:
        with self._path.open("a") as stream:
            stream.write(f"{number}\n")

    def numbers(self) -> list[int]:
        return [int(word) for word in self._path.read_text().split()]


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally(tmp_path / "tally")


@pytest.mark.oracle
@pytest.mark.parametrize("kind", FORMATS)
def test_each_chunk_is_compressed_once(
    monkeypatch: pytest.MonkeyPatch,
    image: Callable[[str, bytes], bytes],
    tally: Tally,
    tmp_path: Path,
    kind: str,
) -> None:
    real = Encoder.compress

    def compress(encoder: Encoder, data: Data, shape: Shape = deflate.USUAL) -> bytes | None:
        tally.add(len(data))
        return real(encoder, data, shape)

    monkeypatch.setattr(Encoder, "compress", compress)
    monkeypatch.setattr(proof, "_HEAD", 1 << 16)
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", LARGE)
    maker.add("aws", kind, image(kind, LARGE))
    fine("build", "dehydrate", maker.finish(), tmp_path / "store", "--level", "1")
    chunks = sum(1 for at in range(0, len(LARGE), 1 << 16) if any(LARGE[at : at + (1 << 16)]))
    others = 16 + 1 + 2 * 65  # samples, a known answer, and the beginning again with what is made ahead of it
    assert chunks < len(tally.numbers()) < chunks + others < 2 * chunks


def test_a_gzip_file_is_made_once(monkeypatch: pytest.MonkeyPatch, tally: Tally, tmp_path: Path) -> None:
    """And of the beginning what is read of it."""
    real = GzipFile.read

    def count(file: GzipFile, offset: int, length: int) -> Data:
        tally.add(length)
        return real(file, offset, length)

    monkeypatch.setattr(GzipFile, "read", count)
    monkeypatch.setattr(proof, "_HEAD", 1 << 16)
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", LARGE)
    size = maker.add("gcp", "tar.gz", tar({"disk.raw": LARGE}), promise=False).stat().st_size
    fine("build", "dehydrate", maker.finish(), tmp_path / "store", "--level", "1")
    assert size <= sum(tally.numbers()) < size + CHUNK < 2 * size


@pytest.fixture
def maker(tmp_path: Path) -> ReleaseMaker:
    made = ReleaseMaker(tmp_path / "release")
    made.add("metal", "raw.xz", metal_disk())
    return made


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["vmdk", "ova", "tar.gz"])
def test_a_store_that_gives_other_content_is_not_proven(
    monkeypatch: pytest.MonkeyPatch,
    image: Callable[[str, bytes], bytes],
    maker: ReleaseMaker,
    tmp_path: Path,
    kind: str,
) -> None:
    """An edit too much in the manifest: the file is kept whole, and comes back."""
    disk = sibling(metal_disk(), 6)
    files = {
        "vmdk": lambda: image("vmdk", disk),
        "ova": lambda: tar({"disk.vmdk": image("vmdk", disk), "a.ovf": b"<xml/>"}),
        "tar.gz": lambda: tar({"disk.raw": disk}),
    }
    maker.add("aws", kind, files[kind](), promise=False)
    real = rungs.by_edits
    wrong = Zero("p4 root", [ZeroRun(0, MIB)])

    def by_edits(peeled: rungs.Peeled, base: rungs.Base, blobs: BlobWriter) -> Manifest | None:
        manifest = real(peeled, base, blobs)
        if manifest is None or not isinstance(manifest.body, EditedDisk):
            return manifest
        body = msgspec.structs.replace(manifest.body, edits=[*manifest.body.edits, wrong])
        return msgspec.structs.replace(manifest, body=body)

    monkeypatch.setattr(rungs, "by_edits", by_edits)
    result = fine("build", "dehydrate", maker.finish(), tmp_path / "store", "--level", "1")
    assert "does not hold, stored whole" in result.err
    fine("verify", "--store", tmp_path / "store")
    report = json.loads(fine("list", "--json", "--store", tmp_path / "store").out)
    (found,) = (item for item in report["artifacts"] if item["platform"] == "aws")
    assert found["rung"] == "stored"
    assert "what was told of it by other files gave other bytes" in found["notes"]


def taken(data: bytes) -> list[proof.TakenOff]:
    source: Source = BytesSource(data)
    found: list[proof.TakenOff] = []
    while (kind := format_of(source)) is not None:
        unwrapped = kind.layer.unwrap(source, PATH)
        found.append(proof.TakenOff(source, kind.layer, unwrapped, unwrapped.record))
        source = unwrapped.inner
    return found


def test_what_lies_around_a_compressing_layer_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = taken(tar({"disk.raw.gz": gzip.compress(compressible(1, MIB), 6)}))
    made = proof.prove(outer)
    assert made is not None
    assert [type(record).__name__ for record in made.layers] == ["TarRecord", "GzipRecord"]
    assert proof.prove(taken(tar({"disk.raw": compressible(1, MIB)}))) is None
    wrong = msgspec.structs.replace(outer[0].unwrapped, inner=BytesSource(bytes(outer[0].unwrapped.inner.size)))
    assert proof.prove([msgspec.structs.replace(outer[0], unwrapped=wrong), *outer[1:]]) is None


def test_a_digest_is_of_bytes_not_of_sources(tmp_path: Path) -> None:
    disk = bytes(3 * CHUNK) + compressible(2, MIB + 77) + bytes(2 * CHUNK)
    path = tmp_path / "disk"
    path.write_bytes(disk)
    with FileSource(path) as file:
        expected = content_digest(BytesSource(disk))
        assert content_digest(file) == expected
        assert content_digest(Padded(BytesSource(disk.rstrip(b"\0")), len(disk))) == expected
        overlay = Overlay(file)
        overlay.write(5, b"\0")
        assert content_digest(overlay) == expected
        overlay.write(5, b"x")
        assert content_digest(overlay) != expected
    assert content_digest(BytesSource(disk + b"\0")) != expected
    steps: list[int] = []
    content_digest(BytesSource(disk), steps.append)
    assert 0 < sum(steps) <= len(disk)
