"""ISO 9660 images of the real builders: read as pycdlib reads them, taken apart and put together exactly."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pycdlib
import pytest

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import CorruptError, RehydratorError, StoreDamagedError, UnsupportedError
from rehydrator.fs.iso9660.c_iso9660 import SECTOR_SIZE, SYSTEM_AREA, DirectoryRecord, VolumeDescription
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.fs.place import Kind
from rehydrator.layers.iso import IsoLayer
from rehydrator.layers.iso_record import IsoFile
from rehydrator.layers.table import format_of
from tests.support import isos, stores
from tests.support.cli import fine
from tests.support.containers import check_complete, exact
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker

LAYER = IsoLayer()
PATH = Path("image")


@pytest.fixture(scope="module")
def images(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Images by kind, each built once."""
    made: dict[str, Path] = {}

    def image(kind: str) -> Path:
        if kind not in made:
            made[kind] = isos.build(need, kind, tmp_path_factory.mktemp("iso"))
        return made[kind]

    return image


def independent(image: Path) -> dict[str, bytes]:
    """What pycdlib finds in an image, by Rock Ridge path."""
    iso = pycdlib.PyCdlib()
    iso.open(str(image))
    found = {}
    for directory, _, names in iso.walk(rr_path="/"):
        for name in names:
            stream = io.BytesIO()
            path = f"{directory.rstrip('/')}/{name}"
            iso.get_file_from_iso_fp(stream, rr_path=path)
            found[path] = stream.getvalue()
    iso.close()
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("kind", isos.BUILDERS)
def test_files_are_those_that_pycdlib_finds(images: Callable[[str], Path], kind: str) -> None:
    image = images(kind)
    with FileSource(image) as source:
        reader = IsoFilesystem(source).reader
        files = {node.path: node for node in reader.nodes.values() if not node.directory and not node.symlink}
        ours = {path: reader.content(node) for path, node in files.items()}
        assert ours == independent(image)
        assert {f"/{name}" for name in isos.FILES} <= set(ours)
        assert all(ours[f"/{name}"] == data for name, data in isos.FILES.items())
        assert reader.problems == []
        kargs = reader.find("/COREOS/KARGS.JSO")
        assert kargs is not None
        assert kargs.path == "/coreos/kargs.json"


@pytest.mark.oracle
@pytest.mark.parametrize("kind", isos.BUILDERS)
def test_images_come_back_exactly(images: Callable[[str], Path], kind: str) -> None:
    image = images(kind)
    with FileSource(image) as outer:
        found = format_of(outer)
        assert found is not None
        assert found.name == "iso"
        record, inner = exact(LAYER, outer)
        assert LAYER.describe(record).startswith("iso fedora-coreos-44, ")
        at = 0
        for file in record.files:  # the inside has the files at multiples of a sector
            assert inner.read(at, file.length) == outer.read(file.sector * SECTOR_SIZE, file.length)
            at += -(-file.length // SECTOR_SIZE) * SECTOR_SIZE
        assert at == inner.size


@pytest.mark.oracle
@pytest.mark.parametrize("kind", isos.BUILDERS)
def test_every_byte_has_one_owner(images: Callable[[str], Path], kind: str) -> None:
    with FileSource(images(kind)) as source:
        filesystem = IsoFilesystem(source)
        at = 0
        kinds: dict[Kind, int] = {}
        for place in filesystem.places([Extent(0, source.size)]):
            assert place.extent.offset == at
            at = place.extent.end
            kinds[place.kind] = kinds.get(place.kind, 0) + place.extent.length
            if place.kind is Kind.FREE:
                assert not any(source.read(*place.extent)), place
        assert at == source.size
        expected = sum(len(data) for data in isos.FILES.values())
        assert kinds[Kind.FILE_DATA] > expected
        assert {Kind.SYSTEM_AREA, Kind.VOLUME_DESCRIPTOR, Kind.PATH_TABLE, Kind.DIRECTORY, Kind.BOOT_CATALOG} <= set(
            kinds
        )
        assert list(filesystem.health()) == []


@pytest.mark.oracle
def test_names_of_structures(images: Callable[[str], Path]) -> None:
    with FileSource(images("x86_64")) as source:
        filesystem = IsoFilesystem(source)
        places = list(filesystem.places([Extent(0, source.size)]))
        names = {place.name for place in places}
        assert {
            "primary volume descriptor",
            "supplementary volume descriptor",
            "boot record",
            "path table L",
            "path table M (Joliet)",
            "directory record vmlinuz",
            "validation entry",
            "section header",
        } <= names
        isolinux = filesystem.reader.nodes["/isolinux/isolinux.bin"].extents[0].offset // SECTOR_SIZE
        assert f"boot entry of block {isolinux}" in names
        record = next(place for place in places if place.name == "directory record vmlinuz")
        assert record.path == "/images/pxeboot/vmlinuz"
        assert {"LocationOfExtent", "FileIdentifier", "NM", "TF"} <= {span.name for span in record.fields}
        parsed = DirectoryRecord.parse(source.read(record.start, DirectoryRecord.SIZE))
        assert parsed.DataLength == len(isos.FILES["images/pxeboot/vmlinuz"])


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["x86_64", "aarch64", "s390x"])
def test_the_image_of_a_release_refers_to_its_other_artifacts(
    images: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    """Whatever the order of the metadata, the image is told last, and costs next to nothing."""
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("live-iso", "iso", images(kind).read_bytes())
    for key, name in (("live-kernel", "vmlinuz"), ("live-initramfs", "initrd.img"), ("live-rootfs", "rootfs.img")):
        maker.add(key, "" if name == "vmlinuz" else "img", isos.FILES[f"images/pxeboot/{name}"])
    maker.add("metal", "raw.xz", metal_disk())
    maker.finish()
    store = tmp_path / "store"
    fine("build", "dehydrate", maker.root, store, "--level", "1")
    manifest = stores.manifest(store, "metal.iso.disk")
    assert [item["layer"] for item in manifest["layers"]] == ["iso"]
    assert manifest["body"]["rung"] == "relocated"
    assert set(manifest["body"]["references"]) == {f"metal.pxe.{role}" for role in ("kernel", "initramfs", "rootfs")}
    changes = json.loads(fine("info", "iso", "--json", "--store", store).out)["artifacts"][0]["changes"]
    told = {line.split()[0]: line for line in changes if line.startswith("/")}
    assert told["/images/pxeboot/rootfs.img"] == "/images/pxeboot/rootfs.img from metal.pxe.rootfs"
    assert told["/images/pxeboot/vmlinuz"] == "/images/pxeboot/vmlinuz from metal.pxe.kernel"
    assert told["/images/pxeboot/initrd.img"].startswith("/images/pxeboot/initrd.img from metal.pxe.initramfs")
    if kind == "s390x":
        assert told["/images/cdboot.img"].startswith("/images/cdboot.img from metal.pxe.kernel, metal.pxe.initramfs")
        assert manifest["body"]["literals"]["content_size"] < 50_000, "it has no copy of either"
    fine("rehydrate", tmp_path / "out", "--iso", "--store", store)
    assert next((tmp_path / "out").iterdir()).read_bytes() == images(kind).read_bytes()


@pytest.mark.oracle
def test_a_circle_of_directories_ends(images: Callable[[str], Path]) -> None:
    data = bytearray(images("aarch64").read_bytes())
    reader = IsoFilesystem(BytesSource(bytes(data))).reader
    root = reader.nodes["/"].extents[0].offset
    images_at = next(item.extent.offset for item in reader.structures if item.name == "directory record images")
    field = images_at + DirectoryRecord.offset_of("LocationOfExtent")
    data[field : field + 4] = (root // SECTOR_SIZE).to_bytes(4, "little")
    damaged = IsoFilesystem(BytesSource(bytes(data)))
    assert "directory /images" in {item.name for item in damaged.health()}
    exact(LAYER, BytesSource(bytes(data)))


@pytest.mark.oracle
def test_a_truncated_image_is_read_as_far_as_it_goes(images: Callable[[str], Path]) -> None:
    data = images("aarch64").read_bytes()
    for size in (SYSTEM_AREA + SECTOR_SIZE, len(data) // 3, len(data) - 7):
        short = BytesSource(data[:size])
        assert any("truncated" in item.problem for item in IsoFilesystem(short).health())
        exact(LAYER, short)


@pytest.mark.oracle
def test_what_is_refused(images: Callable[[str], Path]) -> None:
    data = bytearray(images("aarch64").read_bytes())
    field = SYSTEM_AREA + VolumeDescription.offset_of("LogicalBlockSize")
    data[field : field + 2] = (512).to_bytes(2, "little")
    with pytest.raises(UnsupportedError, match=r"expected 2048, found 512") as unsupported:
        LAYER.unwrap(BytesSource(bytes(data)), PATH)
    check_complete(unsupported.value)
    with pytest.raises(CorruptError, match="no primary volume descriptor") as corrupt:
        LAYER.unwrap(BytesSource(bytes(data[: SYSTEM_AREA + 100])), PATH)
    check_complete(corrupt.value)
    huge = bytes(data[:SYSTEM_AREA]) + images("aarch64").read_bytes()[SYSTEM_AREA:] + bytes(40 << 20)
    with pytest.raises(UnsupportedError, match="too much of this image belongs to no file") as large:
        LAYER.unwrap(BytesSource(huge), PATH)
    check_complete(large.value)


@pytest.mark.oracle
def test_forged_records_are_refused(images: Callable[[str], Path]) -> None:
    with FileSource(images("aarch64")) as outer:
        found = LAYER.unwrap(outer, PATH)
        first = found.record.files[0]
        for files in (
            [IsoFile(first.path, first.sector, 0), *found.record.files[1:]],
            [IsoFile(first.path, first.sector, 1 << 60), *found.record.files[1:]],
            [IsoFile(first.path, -1, first.length), *found.record.files[1:]],
            found.record.files[::-1],
            found.record.files[1:],
        ):
            with pytest.raises(StoreDamagedError):
                LAYER.wrap(found.inner, msgspec.structs.replace(found.record, files=files), found.tables)
        for size in (0, -1, 1 << 62):
            with pytest.raises(StoreDamagedError):
                LAYER.wrap(found.inner, msgspec.structs.replace(found.record, size=size), found.tables)
        with pytest.raises(StoreDamagedError):
            LAYER.wrap(found.inner, found.record, ())


@pytest.mark.oracle
def test_damage_is_told_or_harmless(images: Callable[[str], Path]) -> None:
    data = images("x86_64").read_bytes()
    order = random.Random(8)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(order.randrange(1, 6)):
            damaged[order.randrange(SYSTEM_AREA, SYSTEM_AREA + 40 * SECTOR_SIZE)] = order.randrange(256)
        source = BytesSource(bytes(damaged))
        try:
            exact(LAYER, source)
        except RehydratorError as error:
            check_complete(error)
