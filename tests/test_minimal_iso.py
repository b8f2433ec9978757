"""miniso.dat by the release builder's packer, and the minimal ISO that comes out of a live ISO and out of a store."""

from __future__ import annotations

import itertools
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import CorruptError, UnsupportedError, UsageError
from rehydrator.explain.owners import DiskOwners
from rehydrator.fs.iso9660.iso9660 import Iso9660
from rehydrator.live.embed import MINISO
from rehydrator.live.minimal import minimal_iso
from rehydrator.live.miniso import minimal_image, miniso_node, read_miniso
from tests.support import isos
from tests.support.cli import fails, fine
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker

KINDS = ("x86_64", "aarch64", "s390x")
URL = "http://example.org/rootfs.img"
BARE = isos.KARGS.replace("coreos.liveiso=fedora-coreos-44 ", "")


@pytest.fixture(scope="module")
def pairs(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Live and minimal ISOs by kind, each built once."""
    made: dict[str, tuple[Path, Path]] = {}

    def pair(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            made[kind] = isos.with_minimal(need, kind, tmp_path_factory.mktemp("minimal"))
        return made[kind]

    return pair


def data_file(full: bytes) -> bytes:
    """miniso.dat of an image."""
    iso = Iso9660(BytesSource(full))
    node = miniso_node(iso)
    assert node is not None
    return iso.content(node)


def expected(minimal: bytes, arguments: str) -> bytes:
    """What coreos-installer makes of a minimal image: other arguments in both of their places."""
    made = bytearray(minimal)
    old = f"{isos.KARGS}\n".ljust(isos.KARGS_ROOM, "#").encode()
    new = f"{arguments}\n".ljust(isos.KARGS_ROOM, "#").encode()
    made[made.index(old) : made.index(old) + len(old)] = new
    at = made.index(b'{\n  "default": "')
    end = made.index(b"\n}\n", at) + 3
    document = json.loads(made[at:end])
    assert list(document) == ["default", "files", "size"]
    files = [{key: file[key] for key in ("path", "offset", "pad", "end")} for file in document["files"]]
    text = json.dumps(document | {"default": BARE, "files": files}, indent=2, ensure_ascii=False).encode()
    made[at:end] = text.ljust(end - at)
    return bytes(made)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_the_minimal_image_comes_out(pairs: Callable[[str], tuple[Path, Path]], kind: str) -> None:
    full, minimal = pairs(kind)
    with FileSource(full) as source:
        found = read_miniso(data_file(full.read_bytes())).content
        image = minimal_image(source, found)
        assert bytes(image.read(0, image.size)) == minimal.read_bytes()
        for url, arguments in (("", BARE), (URL, f"{BARE} coreos.live.rootfs_url={URL}")):
            made = minimal_iso(source, url)
            assert bytes(made.read(0, made.size)) == expected(minimal.read_bytes(), arguments)


@pytest.mark.oracle
def test_the_parts_of_the_file_have_names(pairs: Callable[[str], tuple[Path, Path]]) -> None:
    full, _ = pairs("x86_64")
    with FileSource(full) as source:
        live = DiskOwners(source).live
        assert live is not None
        parts = [area for area in live.areas if area.structure == MINISO]
        count = len(read_miniso(data_file(full.read_bytes())).content.table)
        names = [
            f"{part} in /coreos/miniso.dat" for part in ("header", f"table of {count} files", "digest", "packed image")
        ]
        assert [area.name for area in parts] == names
        assert all(one.extent.end == other.extent.offset for one, other in itertools.pairwise(parts))
        packed = bytes(source.read(*parts[-1].extent))
        assert lzma.decompress(packed[packed.index(b"\xfd7zXZ") :])


@pytest.mark.oracle
def test_from_a_store(pairs: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    full, minimal = pairs("x86_64")
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal_disk())
    maker.add("live-iso", "iso", full.read_bytes())
    maker.add("live-rootfs", "img", isos.FILES["images/pxeboot/rootfs.img"])
    maker.finish()
    store, out = tmp_path / "store", tmp_path / "out"
    fine("build", "dehydrate", maker.root, store, "--level", "1")
    fine("rehydrate", out, "--minimal-iso", "--rootfs-url", URL, "--iso", "--store", store)
    name = maker.images["live-iso"]["path"]
    assert {path.name for path in out.iterdir()} == {name, name.replace(".iso", ".minimal.iso")}
    made = (out / name.replace(".iso", ".minimal.iso")).read_bytes()
    assert made == expected(minimal.read_bytes(), f"{BARE} coreos.live.rootfs_url={URL}")
    assert fine("rehydrate", "-", "--minimal-iso", "--store", store).out == expected(minimal.read_bytes(), BARE)
    fails(2, ["no spaces"], "rehydrate", tmp_path / "no", "--minimal-iso", "--rootfs-url", "a b", "--store", store)
    fails(2, ["--minimal-iso"], "rehydrate", out, "--iso", "--rootfs-url", URL, "--store", store)
    fails(2, ["alone"], "rehydrate", "-", "--iso", "--minimal-iso", "--store", store)
    fails(3, ["too long"], "rehydrate", tmp_path / "no", "--minimal-iso", "--rootfs-url", "h" * 200, "--store", store)
    assert list((tmp_path / "no").iterdir()) == []


@pytest.mark.oracle
def test_images_that_give_no_minimal_one(pairs: Callable[[str], tuple[Path, Path]]) -> None:
    full, minimal = pairs("aarch64")
    with FileSource(minimal) as source, pytest.raises(UnsupportedError, match="does not hold a minimal one"):
        minimal_iso(source)
    with FileSource(full) as source, pytest.raises(UsageError, match="no spaces"):
        minimal_iso(source, "http://a b")
    data = bytearray(full.read_bytes())
    data[data.index(isos.FILES["images/pxeboot/vmlinuz"])] ^= 1
    with pytest.raises(CorruptError, match="another sha256"):
        minimal_iso(BytesSource(bytes(data)))


@pytest.mark.oracle
def test_damaged_tables(pairs: Callable[[str], tuple[Path, Path]]) -> None:
    full = pairs("aarch64")[0].read_bytes()
    data = data_file(full)
    good = read_miniso(data).content
    other = bytearray(data)
    other[8] = 2
    with pytest.raises(UnsupportedError, match="another version"):
        read_miniso(bytes(other))
    for size in (4, 9, 20, 40, 200):
        with pytest.raises(CorruptError):
            read_miniso(data[:size])
    first = good.table[0]
    tables = [
        [msgspec.structs.replace(first, full=1 << 31), *good.table[1:]],
        [msgspec.structs.replace(first, minimal=1 << 31), *good.table[1:]],
        [msgspec.structs.replace(first, length=(1 << 32) - 1), *good.table[1:]],
        good.table[::-1],
    ]
    for table in tables:
        with pytest.raises(CorruptError, match="impossible file"):
            minimal_image(BytesSource(full), msgspec.structs.replace(good, table=table))
    bomb = lzma.compress(bytes(40 << 20), lzma.FORMAT_XZ, preset=0)
    for packed, words in ((bomb, "does not end"), (good.xzpacked[:-9], "does not end"), (bytes(99), "can't be")):
        with pytest.raises(CorruptError, match=words):
            minimal_image(BytesSource(full), msgspec.structs.replace(good, xzpacked=packed))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"[]", "does not tell where its kernel arguments are"),
        (b'{"default": "x", "files": [{"path": "EFI/fedora/grub.cfg", "offset": 2}], "size": 9}', "no kernel argument"),
    ],
)
def test_images_without_arguments(need: Callable[..., None], tmp_path: Path, document: bytes, words: str) -> None:
    full, _ = isos.with_minimal(need, "aarch64", tmp_path, {"coreos/kargs.json": document})
    with FileSource(full) as source, pytest.raises(UnsupportedError, match=words):
        minimal_iso(source)
