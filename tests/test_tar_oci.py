"""OCI archives as the image builder's stage makes them: their documents follow from four values, others are kept."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rehydrator.disk.source import BytesSource
from rehydrator.errors import MismatchError
from rehydrator.layers.tar import TarLayer
from rehydrator.layers.tar_record import OciImage, TarMember, TarRecord
from rehydrator.layers.views import view_of
from tests.test_tar_layer import PATH, content, exact

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from release_builder.oci import make_oci_archive
from release_builder.tools import Runner

LAYER = TarLayer()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive by real tar and gzip, with documents written as the stage writes them."""
    top = tmp_path_factory.mktemp("oci")
    (top / "tree/disk").mkdir(parents=True)
    (top / "tree/disk/x.qcow2").write_bytes(bytes(range(256)) * 999)
    make_oci_archive(Runner(), top / "tree", top / "x.ociarchive", "s390x")
    return (top / "x.ociarchive").read_bytes()


def members(data: bytes) -> dict[str, bytes]:
    """The files of an archive, read by another program."""
    with tarfile.open(fileobj=io.BytesIO(data)) as held:
        files = ((item.name, held.extractfile(item)) for item in held if item.isfile())
        return {name: stream.read() for name, stream in files if stream}


def rewritten(data: bytes, change: Callable[[dict[str, Any]], object], **form: Any) -> bytes:  # noqa: ANN401 - json's
    """The archive with each document changed and written in another form, under the old name."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, held in members(data).items():
            text = held
            if held.startswith(b"{"):
                document = json.loads(held)
                change(document)
                text = json.dumps(document, **form).encode()
            info = tarfile.TarInfo(name)
            info.size = len(text)
            out.addfile(info, io.BytesIO(text))
    return made.getvalue()


def test_documents_are_left_out(archive: bytes) -> None:
    record, blob = exact(BytesSource(archive))
    held = members(archive)
    config = next(json.loads(item) for item in held.values() if b"rootfs" in item[:400])
    layer = next(name for name, item in held.items() if item == content(blob))
    assert record.oci is not None
    assert config["created"].startswith("20")
    assert record.oci == OciImage(
        "s390x", record.members[0].mtime, config["rootfs"]["diff_ids"][0].removeprefix("sha256:"), Path(layer).name
    )
    assert sorted(item.oci for item in record.members if item.oci) == ["config", "index", "layer", "layout", "manifest"]
    assert not any(item.text or item.data for item in record.members)
    assert LAYER.describe(record) == "ustar tar of an OCI image for s390x"
    assert len(msgspec.json.encode(record)) < 900


def test_looking_tells_the_documents(archive: bytes) -> None:
    record = LAYER.look(BytesSource(archive), PATH).record
    assert record.oci is None
    assert content(LAYER.wrap(LAYER.look(BytesSource(archive), PATH).inner, record)) == archive


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], dict[str, Any]]] = {
    "another form": (lambda _: None, {"separators": (",", ":")}),
    "sorted keys": (lambda _: None, {"sort_keys": True}),
    "another command": (lambda item: item.get("config", {}).update({"Cmd": ["bash"]}), {}),
    "a fraction of a second": (lambda item: "os" in item and item.update(created="2026-11-26T04:15:56.5+00:00"), {}),
    "another zone": (lambda item: "os" in item and item.update(created="2026-11-26T04:15:56+01:00"), {}),
    "no time": (lambda item: "os" in item and item.update(created="today"), {}),
    "no layer": (lambda item: "os" in item and item["rootfs"].update(diff_ids=[]), {}),
    "two layers": (lambda item: "os" in item and item["rootfs"]["diff_ids"].append("sha256:00"), {}),
    "annotations": (lambda item: "layers" in item and item.update(annotations={"a": "b"}), {}),
    "stale digests": (lambda item: "os" in item and item.update(architecture="amd64"), {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_documents_are_kept(archive: bytes, name: str) -> None:
    change, form = CHANGES[name]
    record, _ = exact(BytesSource(rewritten(archive, change, **form)))
    assert record.oci is None
    assert sum(bool(item.text) for item in record.members) == 4


@pytest.mark.parametrize("created", [1 << 60, -(1 << 60)])
def test_forged_times(created: int) -> None:
    record = TarRecord([TarMember("blobs/sha256/", 1, oci="layer")], oci=OciImage("x", created, "", ""))
    with pytest.raises(MismatchError, match="impossible time"):
        LAYER.wrap(BytesSource(b"x"), record)


def test_forged_digests() -> None:
    record = TarRecord([TarMember("blobs/sha256/", 1, oci="layer")], oci=OciImage("x", 1, "", "f" * 100))
    with pytest.raises(MismatchError, match="does not fit its tar field"):
        LAYER.wrap(BytesSource(b"x"), record)


def test_roles_are_names_in_comparisons(archive: bytes) -> None:
    record, _ = exact(BytesSource(archive))
    view = view_of(record)
    assert {"layout", "index", "config blob", "manifest blob", "layer blob", "diff_id", "layer"} <= set(view)
    assert str(view["created"]).endswith("UTC")
