"""rootfs.img and an initramfs, made by the real tools: told from the canonical disk's content, and compared."""

from __future__ import annotations

import gzip
import itertools
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator.disk.extents import BLOCK
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.engines.direct import artifact_source
from rehydrator.fs.probe import probe
from rehydrator.fs.squashfs.owner import SquashfsFilesystem
from rehydrator.intake.intake import Content
from rehydrator.layers.cpio_record import CpioRecord
from rehydrator.layers.squashfs_record import SquashfsRecord
from rehydrator.manifest.schema import File, Identity, Manifest, Parts, Rung, literal_bytes, notes_of
from rehydrator.release.artifact import Artifact
from rehydrator.relocator import Relocator
from rehydrator.rungs import peel
from rehydrator.store.blobs import BlobWriter
from tests.support.cli import fine, run
from tests.support.codecs import with_wheels
from tests.support.compressible import compressible
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker
from tests.test_parts import Depot, whole

FILES = {f"usr/file {size}": compressible(size, size, holes=0) for size in (300, 5_000, 70_000, 200_000)}
MTIME = 1_700_000_000


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("rootfs")
    for name, data in FILES.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(data)
    (top / "usr/link").symlink_to("file 300")
    return top


@pytest.fixture(scope="module")
def disk() -> BytesSource:
    """A canonical with each file somewhere at a whole block."""
    content = bytearray(random.Random(1).randbytes(3 * BLOCK))
    for data in FILES.values():
        content += data + bytes(-len(data) % BLOCK)
    return BytesSource(bytes(content))


def squashfs(tree: Path, target: Path, *options: str, compression: str = "gzip") -> None:
    words = ["-noappend", "-quiet", "-no-progress", "-comp", compression, *options]
    subprocess.run(["mksquashfs", tree, target, *words], check=True, capture_output=True)


def cpio(directory: Path, *names: str) -> bytes:
    command = ["cpio", "-o", "-H", "newc", "--quiet", "-D", str(directory)]
    return subprocess.run(command, input="\n".join(names).encode(), check=True, capture_output=True).stdout


def told(work: Path, disk: BytesSource, data: bytes) -> Manifest:
    """Return the manifest of a file after comparing what comes back."""
    path = work / "artifact"
    path.write_bytes(data)
    file = File("artifact", len(data), "0" * 64)
    identity = Identity("metal", "x86_64", "pxe", "rootfs", "44")
    artifact = Artifact(identity, path, sha256="")
    content = Content(artifact, file, file, FileSource(path), temporary=False)
    (work / "store").mkdir()
    blobs = BlobWriter(work / "store")
    manifest = Relocator(disk, blobs, level=3, threads=1).tell(peel(content, blobs))
    assert whole(artifact_source(manifest, Depot(work / "store", disk))) == data
    return manifest


@pytest.mark.oracle
def test_rootfs_of_squashfs(tree: Path, disk: BytesSource, tmp_path: Path) -> None:
    """All content comes from the canonical: literal are the tables, and the names in the archive."""
    squashfs(tree, tmp_path / "root.squashfs")
    (tmp_path / "version").write_text("44\n")
    manifest = told(tmp_path, disk, cpio(tmp_path, "root.squashfs", "version"))
    assert manifest.rung is Rung.RELOCATED
    assert isinstance(manifest.layers[0], CpioRecord)
    assert isinstance(manifest.body, Parts)
    root, version = manifest.body.parts
    assert [type(record) for record in root.layers] == [SquashfsRecord]
    assert version.size == 3
    assert literal_bytes(manifest.body) < BLOCK


@pytest.mark.oracle
def test_rootfs_of_erofs(tree: Path, disk: BytesSource, tmp_path: Path, need: Callable[..., None]) -> None:
    """Its blocks hold content as it is, which is found."""
    need("mkfs.erofs")
    image = tmp_path / "root.erofs"
    subprocess.run(["mkfs.erofs", image, tree], check=True, capture_output=True)
    with FileSource(image) as source:
        found = probe(source)
    assert found is not None
    assert found.type == "erofs"
    manifest = told(tmp_path, disk, cpio(tmp_path, "root.erofs"))
    assert manifest.rung is Rung.RELOCATED
    assert literal_bytes(manifest.body) < 0.1 * sum(map(len, FILES.values()))


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No versions of libraries but those that are installed."""
    yield from with_wheels(monkeypatch, tmp_path / "none")


@pytest.mark.oracle
@pytest.mark.usefixtures("without_wheels")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mksquashfs lz4", "a squashfs whose compressor is not known here (expected gzip, xz, zstd, found lz4)"),
        ("mksquashfs lzo", "found lzo)"),
        ("mksquashfs zstd", "one of zstd-1.5.6-15, zstd-1.5.5-15, zstd-1.5.2-15, which are not at hand: run "),
        ("mkfs.erofs -zlz4hc", "blocks compressed by lz4 are literal"),
        ("mkfs.erofs", "only the ends of files are literal"),
    ],
)
def test_the_manifest_says_why_a_file_system_is_kept(
    tree: Path, disk: BytesSource, tmp_path: Path, need: Callable[..., None], command: str, said: str
) -> None:
    program, *options = command.split()
    need(program)
    if program == "mksquashfs":
        squashfs(tree, tmp_path / "root", compression=options[0])
    else:
        subprocess.run([program, *options, tmp_path / "root", tree], check=True, capture_output=True)
    (tmp_path / "version").write_text("44\n")
    manifest = told(tmp_path, disk, cpio(tmp_path, "root", "version"))
    note, *_ = notes_of(manifest)
    assert said in note
    assert str(tmp_path) not in note
    if isinstance(manifest.body, Parts):
        assert [bool(part.notes) for part in manifest.body.parts] == [True, False]


@pytest.mark.oracle
def test_commands_say_why_a_file_system_is_kept(tree: Path, tmp_path: Path) -> None:
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal_disk())
    squashfs(tree, tmp_path / "root.squashfs", compression="lz4")
    maker.add("live-rootfs", "img", cpio(tmp_path, "root.squashfs"))
    result = fine("build", "dehydrate", maker.finish(), tmp_path / "made", "--progress", "none")
    assert "-live-rootfs.x86_64.img: squashfs: at byte 0x0: a squashfs whose compressor is not known here" in result.err
    told = " ".join(fine("info", "--store", tmp_path / "made").text.split())
    assert "note squashfs: at byte 0x0: a squashfs whose compressor is not known here" in told


@pytest.mark.oracle
def test_initramfs_as_it_is(tree: Path, tmp_path: Path) -> None:
    """One that lies in the canonical is not taken apart; what was appended is literal."""
    early = cpio(tree, *FILES)
    initramfs = early + gzip.compress(random.Random(2).randbytes(50_000), mtime=0)
    canonical = BytesSource(bytes(BLOCK) + initramfs + bytes(-len(initramfs) % BLOCK))
    appended = gzip.compress(cpio(tree, "usr"), mtime=0)
    manifest = told(tmp_path, canonical, initramfs + appended)
    assert manifest.rung is Rung.RELOCATED
    assert not manifest.layers
    assert literal_bytes(manifest.body) < 512 + len(appended)


@pytest.mark.oracle
def test_explain_names_files_and_superblock_fields(tree: Path, tmp_path: Path) -> None:
    images = []
    for number, name in enumerate("ab"):
        side = tmp_path / name
        side.mkdir()
        subprocess.run(["cp", "-a", tree, side / "tree"], check=True)
        if name == "b":
            (side / "tree/usr/file 5000").write_bytes(compressible(99, 6_000))
            (side / "tree/usr/new").write_bytes(b"new\n" * 1000)
        squashfs(side / "tree", side / "root.squashfs", "-mkfs-time", str(MTIME + number), "-all-time", str(MTIME))
        images.append(tmp_path / f"{name}.img")
        images[-1].write_bytes(cpio(side, "root.squashfs"))
    said = run("explain", *images).text
    assert "M /usr/file 5000" in said
    assert "A /usr/new" in said
    assert "M /usr/file 70000" not in said
    assert "mkfs_time" in said
    assert "root.squashfs: /usr/file 5000" in said


@pytest.mark.oracle
def test_every_byte_and_every_file_have_a_name(tree: Path, tmp_path: Path) -> None:
    squashfs(tree, tmp_path / "fs", "-b", "8K")
    with FileSource(tmp_path / "fs") as source:
        filesystem = SquashfsFilesystem(source)
        places = list(filesystem.places(source.extents()))
        assert places[0].extent.offset == 0
        assert all(one.extent.end == two.extent.offset for one, two in itertools.pairwise(places))
        assert places[-1].extent.end == source.size
        assert {place.path for place in places if place.path} == {f"/{name}" for name in FILES}
        command = ["unsquashfs", "-l", str(tmp_path / "fs")]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        names = [line.removeprefix("squashfs-root") or "/" for line in listed.splitlines()]
        assert sorted(filesystem.nodes) == sorted(name for name in names if name.startswith("/"))
        assert {name: filesystem.content(filesystem.nodes[f"/{name}"], 1 << 20) for name in FILES} == FILES
        assert not list(filesystem.health())
