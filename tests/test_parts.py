"""Archives are told file by file, and come back."""

from __future__ import annotations

import gzip
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator import rungs
from rehydrator.codecs.bincode import Integers
from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.engines import direct
from rehydrator.engines.direct import artifact_source
from rehydrator.errors import StoreDamagedError
from rehydrator.intake.intake import Content
from rehydrator.manifest.schema import (
    BlobRef,
    DerivedOsmet,
    File,
    Identity,
    Manifest,
    Part,
    Parts,
    Relocated,
    Rung,
    Stored,
    literal_bytes,
)
from rehydrator.osmet.c_osmet import DIGEST_SIZE, OSMET_MAGIC, Osmet, OsmetFileHeader, OsmetPartition
from rehydrator.osmet.derive import osmet_of
from rehydrator.osmet.record import OsmetRecord
from rehydrator.osmet.table import pack
from rehydrator.release.artifact import Artifact
from rehydrator.relocator import Relocator
from rehydrator.rungs import Bare, Peeled
from rehydrator.store.blobs import BlobReader, BlobWriter
from rehydrator.store.depot import Prefix, Signature
from rehydrator.store.origin import Directory
from tests.support.disks import metal_disk
from tests.support.osmets import make


def whole(source: Source) -> bytes:
    return b"".join(bytes(source.read(at, min(CHUNK, source.size - at))) for at in range(0, source.size, CHUNK))


class Depot:
    """A store of one disk, and of the blobs that were written below ``root``."""

    def __init__(self, root: Path, disk: Source) -> None:
        self._blobs = BlobReader(Directory(root))
        self._disk = disk

    def canonical(self, arch: str) -> Source:
        assert arch == "x86_64"
        return self._disk

    def manifest_by_key(self, arch: str, key: str) -> Manifest:
        raise AssertionError(f"{arch} {key} is not needed")

    def content(self, manifest: Manifest, make: Callable[[], Source]) -> Source:
        del manifest
        return make()

    def small_blob(self, ref: BlobRef) -> bytes:
        return self._blobs.small(ref)

    def large_blob(self, ref: BlobRef, prefix: Prefix | None = None) -> Source:
        assert prefix is None
        return self._blobs.large(ref, threads=1)

    def signature(self, manifest: Manifest) -> Signature | None:
        raise AssertionError(f"no signature of {manifest.artifact.key}")


def told(work: Path, disk: Source, files: list[bytes]) -> Manifest:
    """Return the manifest of files one behind the other."""
    path = work / "archive"
    path.write_bytes(b"".join(files))
    artifact = Artifact(Identity("metal", "x86_64", "pxe", "rootfs", "1"), path, sha256="")
    file = File(path.name, path.stat().st_size, "")
    content = Content(artifact, file, file, FileSource(path), temporary=False)
    try:
        relocator = Relocator(disk, BlobWriter(work), level=1, threads=1)
        return relocator.tell(Peeled(content, Bare(content.source, cuts=tuple(map(len, files)))))
    finally:
        content.discard()


def test_files_are_told_apart(tmp_path: Path) -> None:
    disk = metal_disk()
    order = random.Random(1)
    copied = disk[1 << 20 : 2 << 20]
    files = [b"small", copied, gzip.compress(disk[2 << 20 : 3 << 20]), b"", order.randbytes(5000)]
    manifest = told(tmp_path, BytesSource(disk), files)
    assert isinstance(manifest.body, Parts)
    kinds = [(type(part.body), len(part.layers)) for part in manifest.body.parts]
    assert kinds == [(Relocated, 0), (Relocated, 1), (Stored, 0)], "neighbours are one; the gzip file is another"
    assert literal_bytes(manifest.body) < 10_000
    assert manifest.rung is Rung.RELOCATED
    assert whole(artifact_source(manifest, Depot(tmp_path, BytesSource(disk)))) == b"".join(files)


def test_what_is_nowhere_else_is_kept_whole(tmp_path: Path) -> None:
    files = [random.Random(2).randbytes(9000), gzip.compress(b"nothing")]
    manifest = told(tmp_path, BytesSource(metal_disk()), files)
    assert isinstance(manifest.body, Stored)
    assert whole(artifact_source(manifest, Depot(tmp_path, BytesSource(b"")))) == b"".join(files)


@pytest.mark.oracle
def test_an_osmet_file_follows_from_the_disk(
    need: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mkfs.ext4", "mkfs.xfs", "sfdisk", root=True)
    made = make(tmp_path)
    files = [b"x" * 100, made.osmet.read_bytes(), b"y" * 100]
    with FileSource(made.disk) as disk:
        manifest = told(tmp_path, disk, files)
        assert isinstance(manifest.body, Parts)
        assert [type(part.body) for part in manifest.body.parts] == [Stored, DerivedOsmet, Stored]
        again = msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
        assert whole(artifact_source(again, Depot(tmp_path, disk))) == b"".join(files)
        # Who reads another part does not wait for the table.
        found: list[OsmetRecord] = []

        def noted(disk: Source, record: OsmetRecord) -> Source:
            found.append(record)
            return osmet_of(disk, record)

        monkeypatch.setattr(direct, "osmet_of", noted)
        archive = artifact_source(again, Depot(tmp_path, disk))
        assert bytes(archive.read(archive.size - 100, 100)) == b"y" * 100
        assert found == []
        assert bytes(archive.read(100, 8)) == OSMET_MAGIC
        assert len(found) == 1


def test_an_osmet_file_of_an_unknown_disk_is_kept(tmp_path: Path) -> None:
    header = OsmetFileHeader("0.26.0", 512, "CoreOS", "x86_64")
    empty = pack(Osmet(header, [OsmetPartition(1, 2, [])], bytes(DIGEST_SIZE), 4, Integers.VARIABLE, 0))
    files = [metal_disk()[1 << 20 : 2 << 20], OSMET_MAGIC + b"no table", empty + b"no xz"]
    manifest = told(tmp_path, BytesSource(metal_disk()), files)
    assert isinstance(manifest.body, Parts)
    assert [type(part.body) for part in manifest.body.parts] == [Relocated, Stored, Stored]


def nested(manifest: Manifest, levels: int) -> Manifest:
    body = manifest.body
    for _ in range(levels):
        body = Parts([Part(manifest.shipped.size, body)])
    return msgspec.structs.replace(manifest, body=body)


def another_size(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, body=Parts([Part(manifest.shipped.size + 1, manifest.body)]))


@pytest.mark.parametrize(
    ("forge", "words"),
    [(lambda manifest: nested(manifest, 9), "too many archives"), (another_size, "a part has another size")],
)
def test_forged_parts_are_damage(tmp_path: Path, forge: Callable[[Manifest], Manifest], words: str) -> None:
    disk = BytesSource(metal_disk())
    manifest = told(tmp_path, disk, [metal_disk()[1 << 20 : 2 << 20]])
    assert whole(artifact_source(nested(manifest, 3), Depot(tmp_path, disk))) == metal_disk()[1 << 20 : 2 << 20]
    with pytest.raises(StoreDamagedError, match=words):
        whole(artifact_source(forge(manifest), Depot(tmp_path, disk)))


@pytest.mark.oracle
@pytest.mark.parametrize(("kind", "count"), [("raw", 1), ("iso", 0)])
def test_a_disk_in_an_iso_is_no_base(need: Callable[..., None], tmp_path: Path, kind: str, count: int) -> None:
    """What lies in an ISO may begin as a partitioned disk does; others are told as edits of disks only."""
    need("genisoimage")
    (tmp_path / "tree").mkdir()
    raw, image = tmp_path / "tree/disk", tmp_path / "image.iso"
    raw.write_bytes(metal_disk())
    subprocess.run(["genisoimage", "-quiet", "-o", image, tmp_path / "tree"], check=True)
    path = {"raw": raw, "iso": image}[kind]
    file = File(path.name, path.stat().st_size, "0" * 64)
    artifact = Artifact(Identity("metal", "x86_64", kind, "disk", "44"), path, sha256="")
    with FileSource(path) as source:
        peeled = rungs.peel(Content(artifact, file, file, source, temporary=False), BlobWriter(tmp_path))
        assert bytes(peeled.disk.read(0, raw.stat().st_size)) == raw.read_bytes()
        assert len(list(rungs.relocated_bases(peeled))) == count
