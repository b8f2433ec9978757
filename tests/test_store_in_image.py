"""A store that a container image carries, read where the image lies: in a registry or in a layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from kill_test.registry import docker_registry
from rehydrator.errors import CorruptError, RehydratorError
from rehydrator.oci.c_oci import Descriptor, Manifest
from rehydrator.oci.layer_files import layer_files
from rehydrator.oci.layout import LayoutWriter
from rehydrator.oci.store_image import SeenConfig, find_store
from tests.support.cli import fails, fine
from tests.support.images import put_base

PLACE = "usr/share/rehydrator/store"


@pytest.fixture(scope="module")
def image(real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that carries the store of the committed release."""
    work = tmp_path_factory.mktemp("image")
    with LayoutWriter(work / "base") as writer:
        writer.tag(put_base(writer), "runtime")
    fine("build", "image", real_store, f"oci:{work / 'image'}:44", "--base", f"oci:{work / 'base'}")
    return work / "image"


@pytest.fixture(scope="module")
def registry(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    need("docker-registry", "skopeo")
    with docker_registry(tmp_path_factory.mktemp("registry") / "root") as place:
        yield place


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def copied(image: Path, registry: str, name: str, *options: str) -> str:
    """Copy the image to a registry as other programs do; return the reference."""
    target = f"{registry}/{name}:44"
    words = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", *options]
    subprocess.run([*words, f"oci:{image}:44", f"docker://{target}"], check=True)
    return target


def sizes(cache: dict[str, str]) -> list[int]:
    root = Path(cache["XDG_CACHE_HOME"]) / "rehydrator" / "blobs"
    return sorted(path.stat().st_size for path in root.iterdir())


def files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", ()),
        ("docker", ("--format", "v2s2")),
    ],
)
def test_commands_read_it_in_place(
    image: Path, registry: str, real_store: Path, tmp_path: Path, cache: dict[str, str], name: str, options: tuple[str]
) -> None:
    words = ("--store", copied(image, registry, name, *options), "--plain-http")
    assert fine("list", *words, env=cache).out == fine("list", "--store", real_store).out
    canonical = (real_store / "x86_64/canonical.raw.zst").stat().st_size
    assert max(sizes(cache)) < canonical  # its layer was not fetched
    fine("rehydrate", tmp_path / "there", "--disk", "qemu", *words, env=cache)
    fine("rehydrate", tmp_path / "here", "--disk", "qemu", "--store", real_store)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert [size for size in sizes(cache) if size >= canonical] == [canonical]  # and its layer is gone


def test_nothing_is_fetched_twice(image: Path, registry: str, tmp_path: Path, cache: dict[str, str]) -> None:
    words = ("--store", copied(image, registry, "again"), "--plain-http")
    fine("rehydrate", tmp_path / "one", "--disk", "qemu", *words, env=cache)
    before = sizes(cache)
    fine("verify", *words, env=cache)
    assert sizes(cache) == before


def test_pull(image: Path, registry: str, real_store: Path, tmp_path: Path) -> None:
    fine("pull", copied(image, registry, "pulled"), tmp_path / "store", "--plain-http")
    assert files_of(tmp_path / "store") == files_of(real_store)
    fine("pull", f"oci:{image}:44", tmp_path / "other")
    assert files_of(tmp_path / "other") == files_of(real_store)


def test_an_image_in_a_layout(image: Path, tmp_path: Path, cache: dict[str, str]) -> None:
    fine("verify", "--store", f"oci:{image}:44", env=cache)


def test_an_image_without_a_store(image: Path) -> None:
    base = image.parent / "base"
    fails(3, ["is a container image without a store", "build image"], "list", "--store", f"oci:{base}")


def layer(size: int) -> Descriptor:
    return Descriptor(media_type="layer", digest="sha256:" + "0" * 64, size=size)


@pytest.mark.parametrize(
    ("labels", "diff_ids"),
    [
        ({"io.rehydrator.layers": "a,b,c", "io.rehydrator.architectures": "x86_64"}, ["a", "b", "c"]),
        ({"io.rehydrator.layers": "a,d", "io.rehydrator.architectures": "x86_64"}, ["a", "b", "c"]),
        ({"io.rehydrator.layers": "a,c", "io.rehydrator.architectures": "x86_64"}, ["a", "b"]),
        ({"io.rehydrator.layers": "a"}, ["a"]),
    ],
)
def test_labels_that_do_not_fit(labels: dict[str, str], diff_ids: list[str]) -> None:
    config = json.dumps({"config": {"Labels": labels}, "rootfs": {"diff_ids": diff_ids}}).encode()

    manifest = Manifest(config=layer(1), layers=[layer(index) for index in range(3)])
    with pytest.raises(CorruptError, match=r"other layers than its label io\.rehydrator\.layers"):
        find_store(manifest, msgspec.json.decode(config, type=SeenConfig), Path("image"))


def test_layers_on_top_do_not_matter() -> None:
    labels = {"io.rehydrator.layers": "b,c", "io.rehydrator.architectures": "s390x"}
    config = json.dumps({"config": {"Labels": labels}, "rootfs": {"diff_ids": ["a", "b", "c", "d"]}}).encode()

    manifest = Manifest(config=layer(9), layers=[layer(index) for index in range(4)])
    found = find_store(manifest, msgspec.json.decode(config, type=SeenConfig), Path("image"))
    assert (found.canonicals["s390x"].size, found.rest.size) == (1, 2)


def tar(*files: tuple[str, bytes]) -> bytes:
    """A layer made by Python's tarfile."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


LONG = "signatures/" + "n" * 120 + ".sig"
FILES = {"store.json": b"{}", "blobs/empty": b"", LONG: b"s" * 1000, "big": bytes(range(256)) * 10_000}
LAYER = tar(("etc/passwd", b"root"), *((f"{PLACE}/{name}", data) for name, data in FILES.items()))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("skips", [False, True])
def test_files_of_a_layer(tmp_path: Path, pack: Callable[[bytes], bytes], skips: bool) -> None:
    (tmp_path / "layer").write_bytes(pack(LAYER))
    found = {}
    for file in layer_files(tmp_path / "layer"):
        found[file.name] = b"" if skips else b"".join(file.content)
        assert file.size == len(FILES[file.name])
    assert list(found) == list(FILES)
    assert skips or found == FILES


def damaged(kind: str) -> bytes:
    data = bytearray(LAYER)
    match kind:
        case "cut":
            return gzip.compress(bytes(data[: len(data) // 2]))
        case "gzip cut":
            return gzip.compress(bytes(data))[:-500]
        case "checksum":
            data[3] ^= 1
        case "huge pax header":
            name = "x" * (1 << 17)
            return tar((f"{PLACE}/{name}", b""))
    return bytes(data)


@pytest.mark.parametrize("kind", ["cut", "gzip cut", "checksum", "huge pax header"])
def test_damaged_layers(tmp_path: Path, kind: str) -> None:
    (tmp_path / "layer").write_bytes(damaged(kind))
    with pytest.raises(RehydratorError, match="layer"):
        hashlib.sha256(b"".join(piece for file in layer_files(tmp_path / "layer") for piece in file.content))
