"""A store in a container image: layers, labels, digests, and what skopeo, umoci and tar make of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.oci.c_oci import (
    History,
    Index,
    MediaType,
)
from rehydrator.oci.digest import MAX_DOCUMENT
from rehydrator.oci.layout import Layout, LayoutWriter
from rehydrator.oci.stored import gzip_stored
from tests.support.cli import fails, fine, run
from tests.support.images import put_base

PLACE = "usr/share/rehydrator/store"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with a small image in it."""
    root = tmp_path_factory.mktemp("base") / "base"
    with LayoutWriter(root) as writer:
        writer.tag(put_base(writer), "runtime")
    return root


@pytest.fixture(scope="module")
def image(base: Path, real_store: Path) -> Path:
    """The image of the store of the committed release."""
    root = base.parent / "image"
    fine("build", "image", real_store, f"oci:{root}", "--base", f"oci:{base}", "--progress", "none")
    return root


def document(root: Path, digest: str) -> dict[str, Any]:
    """A document of a layout, read without the code under test."""
    data = (root / "blobs" / digest.replace(":", "/")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest.removeprefix("sha256:")
    found = json.loads(data)
    assert isinstance(found, dict)
    return found


def parts(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the config of the only image of a layout."""
    (entry,) = json.loads((root / "index.json").read_text())["manifests"]
    manifest = document(root, entry["digest"])
    return manifest, document(root, manifest["config"]["digest"])


def layer(root: Path, number: int) -> tarfile.TarFile:
    manifest, _ = parts(root)
    blob = root / "blobs" / manifest["layers"][number]["digest"].replace(":", "/")
    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob.read_bytes())))


def test_layers_hold_the_store(image: Path, real_store: Path) -> None:
    manifest, config = parts(image)
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 3
    assert config["history"][-2]["comment"] == "the canonical disk of x86_64"
    found = {}
    for number in (1, 2):
        with layer(image, number) as archive:
            for member in archive.getmembers():
                assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
                assert member.mode == (0o755 if member.isdir() else 0o644)
                if member.isfile():
                    stream = archive.extractfile(member)
                    assert stream
                    found[member.name] = stream.read()
            names = archive.getnames()
            assert names[:2] == ["usr/share/rehydrator", PLACE]
            assert [name for name in names if name in found] == sorted(name for name in names if name in found)
    with layer(image, 1) as archive:
        assert [item.name for item in archive if item.isfile()] == [f"{PLACE}/x86_64/canonical.raw.zst"]
    assert found == {
        f"{PLACE}/{path.relative_to(real_store)}": path.read_bytes()
        for path in real_store.rglob("*") if path.is_file()
    }  # fmt: skip


def test_diff_ids_are_those_of_the_tar_streams(image: Path) -> None:
    manifest, config = parts(image)
    for item, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        data = (image / "blobs" / item["digest"].replace(":", "/")).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (item["size"], item["digest"].removeprefix("sha256:"))
        assert "sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest() == diff_id


def test_config_is_that_of_the_base_with_labels(image: Path, real_store: Path) -> None:
    _, config = parts(image)
    assert config["config"] | {"Labels": {}} == {
        "User": "65532:65532", "Env": ["PATH=/usr/bin", f"REHYDRATOR_STORE=/{PLACE}"], "Entrypoint": ["rehydrator"],
        "StopSignal": "SIGTERM", "Labels": {},
    }  # fmt: skip
    labels = config["config"]["Labels"]
    stream = json.loads((real_store / "stream.json").read_text())
    assert labels["org.opencontainers.image.version"] == "44.20261122.20.0"
    assert labels["org.opencontainers.image.created"] == config["created"] == stream["metadata"]["last-modified"]
    assert labels["org.opencontainers.image.source"] == "https://example.com/rehydrator"
    assert labels["io.rehydrator.stream"] == stream["stream"]
    assert labels["io.rehydrator.architectures"] == "x86_64"
    assert labels["io.rehydrator.seal"] == json.loads((real_store / "store.json").read_text())["seal"]


def test_the_same_digests_again(image: Path, base: Path, real_store: Path, tmp_path: Path) -> None:
    """In another directory, from files of another time and mode, and into a layout that has something already."""
    store = tmp_path / "store"
    for path in sorted(real_store.rglob("*"), reverse=True):
        if path.is_file():
            copy = store / path.relative_to(real_store)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
    target = tmp_path / "image"
    for tag in ("first", "second"):
        told = fine("build", "image", store, f"oci:{target}:{tag}", "--base", f"oci:{base}:runtime").text.strip()
        (entry,) = json.loads((image / "index.json").read_text())["manifests"]
        assert told == entry["digest"]
    assert {path.name for path in (target / "blobs/sha256").iterdir()} == {
        path.name for path in (image / "blobs/sha256").iterdir()
    }
    assert Layout(target).tags == ["first", "second"]


def test_labels_and_time_of_creation_do_not_touch_layers(
    image: Path, base: Path, real_store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    fine(
        "build", "image", real_store, f"oci:{other}", "--base", f"oci:{base}",
        "--label", "org.opencontainers.image.revision=abc=def", env={"SOURCE_DATE_EPOCH": "86400"},
    )  # fmt: skip
    manifest, config = parts(other)
    assert manifest["layers"] == parts(image)[0]["layers"]
    assert config["created"] == "1970-01-02T00:00:00Z"
    assert config["config"]["Labels"]["org.opencontainers.image.revision"] == "abc=def"


def test_several_platforms_share_the_layers(real_store: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    with LayoutWriter(base) as writer:
        told = (History(created_by="ADD file"), History(created_by="USER", empty_layer=True))
        images = [put_base(writer, name, history) for name, history in (("amd64", told), ("s390x", told[1:]))]
        writer.tag(writer.put(Index(manifests=images), MediaType.INDEX), "all")
    target = tmp_path / "image"
    digest = fine("build", "image", real_store, f"oci:{target}", "--base", f"oci:{base}:all").text.strip()
    index = document(target, digest)
    assert [item["platform"]["architecture"] for item in index["manifests"]] == ["amd64", "s390x"]
    first, second = (document(target, item["digest"]) for item in index["manifests"])
    assert first["layers"] == second["layers"]
    assert first["config"] != second["config"]
    histories = [document(target, item["config"]["digest"])["history"] for item in (first, second)]
    assert [step.get("created_by") for step in histories[0]][:2] == ["ADD file", "USER"]
    for history in histories:
        assert sum("empty_layer" not in step for step in history) == len(first["layers"])


@pytest.mark.oracle
def test_skopeo_and_umoci_take_it(image: Path, real_store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("skopeo", "umoci")
    inspected = json.loads(subprocess.check_output(["skopeo", "inspect", f"oci:{image}:latest"]))
    assert inspected["Labels"]["io.rehydrator.architectures"] == "x86_64"
    manifest, _ = parts(image)
    assert inspected["Layers"] == [item["digest"] for item in manifest["layers"]]
    copied = tmp_path / "copied"
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    subprocess.run(
        ["skopeo", "--policy", policy, "copy", "--quiet", f"oci:{image}:latest", f"oci:{copied}:latest"], check=True
    )
    (entry,) = json.loads((copied / "index.json").read_text())["manifests"]
    assert entry["digest"] == inspected["Digest"]
    stat = json.loads(subprocess.check_output(["umoci", "stat", "--image", f"{image}:latest", "--json"]))
    assert [item["layer"]["digest"] for item in stat["history"] if item["layer"]] == inspected["Layers"]
    bundle = tmp_path / "bundle"
    subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", f"{image}:latest", bundle], check=True, capture_output=True
    )
    fine("verify", "--store", bundle / "rootfs" / PLACE)
    assert (bundle / "rootfs" / PLACE / "store.json").read_bytes() == (real_store / "store.json").read_bytes()


def test_a_damaged_store_makes_no_image(base: Path, real_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for path in real_store.rglob("*"):
        if path.is_file():
            copy = store / path.relative_to(real_store)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    canonical = store / "x86_64/canonical.raw.zst"
    data = bytearray(canonical.read_bytes())
    data[-1] ^= 1
    canonical.write_bytes(data)
    target = tmp_path / "image"
    fails(1, ["canonical.raw.zst", "sha256"], "build", "image", store, f"oci:{target}", "--base", f"oci:{base}")
    assert not target.exists()


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("number", "damage", "words"),
    [
        (0, flip, ["another digest"]), (1, flip, ["another digest"]), (2, flip, ["another digest"]),
        (0, cut, ["another size"]), (1, cut, ["another size"]), (2, cut, ["another size"]),
        (2, Path.unlink, ["cannot be"]),
    ],
)  # fmt: skip
def test_a_damaged_base_is_told(
    number: int, damage: Callable[[Path], None], words: list[str], real_store: Path, tmp_path: Path
) -> None:
    """Manifest, config and layer of the base, in this order."""
    base, target = tmp_path / "base", tmp_path / "image"
    with LayoutWriter(base) as writer:
        writer.tag(put_base(writer), "latest")
    (entry,) = json.loads((base / "index.json").read_text())["manifests"]
    manifest = document(base, entry["digest"])
    digest = (entry["digest"], manifest["config"]["digest"], manifest["layers"][0]["digest"])[number]
    blob = base / "blobs" / digest.replace(":", "/")
    damage(blob)
    result = run("build", "image", real_store, f"oci:{target}", "--base", f"oci:{base}")
    assert result.code in (1, 2), result.err
    assert blob.name in result.complaints[0]
    assert [word for word in words if word not in result.complaints[0]] == []
    assert not target.exists()


def write_index(root: Path, *manifests: dict[str, Any]) -> None:
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def entry(**more: object) -> dict[str, Any]:
    return {"mediaType": MediaType.MANIFEST.value, "digest": "sha256:" + "0" * 64, "size": 2, **more}


@pytest.mark.parametrize(
    ("code", "words", "manifests"),
    [
        (2, ["no tag"], []),
        (2, ["several images"], [entry(), entry(digest="sha256:" + "1" * 64)]),
        (3, ["digest of an unknown kind"], [entry(digest="sha256:../../../../etc/passwd")]),
        (3, ["digest of an unknown kind"], [entry(digest="md5:" + "0" * 32)]),
        (1, ["too large"], [entry(size=MAX_DOCUMENT + 1)]),
        (1, ["too large"], [entry(size=-1)]),
        (1, ["not a valid Index"], [entry(size="2")]),
        (3, ["no OCI image"], [entry(mediaType="application/vnd.docker.distribution.manifest.v2+json")]),
    ],
)
def test_a_forged_base_is_refused(
    code: int, words: list[str], manifests: list[dict[str, Any]], real_store: Path, tmp_path: Path
) -> None:
    base, target = tmp_path / "base", tmp_path / "image"
    with LayoutWriter(base):
        pass
    write_index(base, *manifests)
    fails(code, words, "build", "image", real_store, f"oci:{target}", "--base", f"oci:{base}")
    assert not target.exists()


def test_a_store_is_no_base(real_store: Path, tmp_path: Path) -> None:
    """And is told before anything is made of it."""
    fine("push", real_store, f"oci:{tmp_path}/artifact")
    made = ("build", "image", real_store, f"oci:{tmp_path}/image", "--base", f"oci:{tmp_path}/artifact")
    result = fails(3, ["the base is no image of a container", MediaType.CONFIG], *made)
    assert (result.err.count("\n"), (tmp_path / "image").exists()) == (1, False)


def test_wrong_use(image: Path, base: Path, real_store: Path, tmp_path: Path) -> None:
    new = f"oci:{tmp_path / 'new'}"
    wrong: list[tuple[list[str], list[str | Path]]] = [
        (["holds a store already"], [real_store, new, "--base", f"oci:{image}"]),
        (["no image in an OCI layout"], [real_store, tmp_path / "new", "--base", f"oci:{base}"]),
        (["no image in an OCI layout"], [real_store, "oci:", "--base", f"oci:{base}"]),
        (["no tag 'other'", "runtime"], [real_store, new, "--base", f"oci:{base}:other"]),
        (["no OCI image layout"], [real_store, new, "--base", f"oci:{tmp_path}"]),
        (["no rehydrator store"], [tmp_path, new, "--base", f"oci:{base}"]),
        (["KEY=VALUE"], [real_store, new, "--base", f"oci:{base}", "--label", "word"]),
        (["No such file"], [real_store, f"oci:{tmp_path}/no/such/place", "--base", f"oci:{base}"]),
        (["is no OCI image layout"], [real_store, f"oci:{real_store}", "--base", f"oci:{base}"]),
    ]
    for words, arguments in wrong:
        fails(2, words, "build", "image", *arguments)
        assert not (tmp_path / "new").exists()
    assert (real_store / "store.json").exists()


def test_one_writer_at_a_time(base: Path, real_store: Path, tmp_path: Path) -> None:
    target = tmp_path / "image"
    with LayoutWriter(target):
        fails(2, ["another program"], "build", "image", real_store, f"oci:{target}", "--base", f"oci:{base}")
    fine("build", "image", real_store, f"oci:{target}", "--base", f"oci:{base}")


def test_what_a_killed_run_left_is_cleared_away(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "image"
    with LayoutWriter(target) as writer:
        writer.put_bytes(b"whole", MediaType.LAYER)
    partial = target / "blobs/sha256/.blob.1234.part"
    partial.write_bytes(b"half")
    with LayoutWriter(target):
        assert not partial.exists()


@given(st.lists(st.integers(0, 200_000), max_size=4), st.integers(1, 70_000))
def test_stored_gzip(lengths: list[int], step: int) -> None:
    """Whatever the pieces are, zlib reads the content back, and other pieces give the same bytes."""
    data = b"".join(bytes([number + 1]) * length for number, length in enumerate(lengths))

    def pieces() -> Iterator[bytes]:
        yield from (data[at : at + step] for at in range(0, len(data), step))

    made = b"".join(gzip_stored(pieces()))
    assert made == b"".join(gzip_stored([data]))
    assert gzip.decompress(made) == data
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    inflater.decompress(made)
    assert inflater.eof
    assert len(made) <= len(data) + 5 * (len(data) // 65535 + 1) + 18
