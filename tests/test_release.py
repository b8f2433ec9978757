"""Release readers: build directories and stream metadata in all their layouts, and what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rehydrator.errors import CorruptError, InputError, RehydratorError, UsageError
from rehydrator.release.artifact import Artifact
from rehydrator.release.formats import parse_format
from rehydrator.release.inputs import Selection, read_inputs
from rehydrator.release.stream import merge_streams
from tests.support.releases import RELEASE, ReleaseMaker, sha256

FORMATS: dict[str, tuple[str, str, bool]] = {
    # of the stream metadata of fedora-coreos and rhcos: container, compression, known
    "raw.xz": ("raw", "xz", True),
    "4k.raw.xz": ("4k.raw", "xz", True),
    "raw.gz": ("raw", "gzip", True),
    "raw": ("raw", "none", True),
    "qcow2.xz": ("qcow2", "xz", True),
    "qcow2.gz": ("qcow2", "gzip", True),
    "qcow2": ("qcow2", "none", True),
    "vmdk.xz": ("vmdk", "xz", True),
    "vhd.xz": ("vhd", "xz", True),
    "vhd.gz": ("vhd", "gzip", True),
    "vhdx.zip": ("vhdx", "zip", True),
    "tar.gz": ("tar", "gzip", True),
    "tar.xz": ("tar", "xz", True),
    "ova": ("ova", "none", True),
    "ova.gz": ("ova", "gzip", True),
    "ociarchive": ("ociarchive", "none", True),
    "iso": ("iso", "none", True),
    "pxe": ("pxe", "none", True),
    "raw.zst": ("raw.zst", "none", False),
    "exe": ("exe", "none", False),
    "": ("", "none", False),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    found = parse_format(name)
    assert (found.container, found.compression, found.known) == FORMATS[name]
    assert found.container + found.suffix == name


def summary(artifact: Artifact) -> tuple[str, str, str, str]:
    identity = artifact.identity
    return (identity.platform, identity.format, identity.role, artifact.content_name.partition(RELEASE)[2])


@pytest.fixture
def maker(tmp_path: Path) -> ReleaseMaker:
    made = ReleaseMaker(tmp_path / "release")
    for key, suffix in (
        ("metal", "raw.xz"),
        ("metal4k", "raw.xz"),
        ("qemu", "qcow2.xz"),
        ("gcp", "tar.gz"),
        ("hyperv", "vhdx.zip"),
        ("live-iso", "iso"),
        ("live-kernel", ""),
        ("live-initramfs", "img"),
        ("live-rootfs", "img"),
        ("ostree", "ociarchive"),
    ):
        made.add(key, suffix, key.encode(), promise=key != "gcp")
    made.finish()
    return made


def test_keys_of_a_build(maker: ReleaseMaker) -> None:
    inputs = read_inputs([maker.root], Selection())
    assert [summary(item) for item in inputs.releases[0].artifacts] == [
        ("metal", "raw.xz", "disk", "-metal.x86_64.raw"),
        ("metal", "4k.raw.xz", "disk", "-metal4k.x86_64.raw"),
        ("qemu", "qcow2.xz", "disk", "-qemu.x86_64.qcow2"),
        ("gcp", "tar.gz", "disk", "-gcp.x86_64.tar.gz"),
        ("hyperv", "vhdx.zip", "disk", "-hyperv.x86_64.vhdx"),
        ("metal", "iso", "disk", "-live-iso.x86_64.iso"),
        ("metal", "pxe", "kernel", "-live-kernel.x86_64"),
        ("metal", "pxe", "initramfs", "-live-initramfs.x86_64.img"),
        ("metal", "pxe", "rootfs", "-live-rootfs.x86_64.img"),
    ]
    assert inputs.notes == ("x86_64 ostree: not an artifact for download, left out",)
    assert [item.identity.key for item in inputs.releases[0].artifacts if item.is_canonical] == ["metal.raw.xz.disk"]
    assert inputs.stream is None


@pytest.mark.parametrize("where", ["", "builds", f"builds/{RELEASE}/x86_64", f"builds/{RELEASE}/x86_64/meta.json"])
def test_all_ways_to_name_a_build(maker: ReleaseMaker, where: str) -> None:
    stream = b'{"stream": "testing"}'
    (maker.root / "stream.json").write_bytes(stream)
    inputs = read_inputs([maker.root / where], Selection(("x86_64",)))
    assert [(item.arch, item.release, len(item.artifacts)) for item in inputs.releases] == [("x86_64", RELEASE, 9)]
    assert inputs.stream == (stream if where in {"", "builds"} else None)


def test_the_newest_build_comes_first(maker: ReleaseMaker) -> None:
    path = maker.root / "builds" / "builds.json"
    older = {"id": "39.0.0.0", "arches": ["x86_64"]}
    document = json.loads(path.read_bytes())
    document["builds"].append(older)
    path.write_text(json.dumps(document))
    assert read_inputs([maker.root], Selection()).releases[0].release == RELEASE
    document["builds"] = [older]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="No such file"):
        read_inputs([maker.root], Selection())


def test_a_build_without_arches_is_looked_through(maker: ReleaseMaker) -> None:
    other = ReleaseMaker(maker.root, "aarch64")
    other.add("metal", "raw.xz", b"arm")
    other.finish()
    path = maker.root / "builds" / "builds.json"
    path.write_text(json.dumps({"schema-version": "1.0.0", "builds": [{"id": RELEASE}]}))
    assert [item.arch for item in read_inputs([maker.root], Selection()).releases] == ["aarch64", "x86_64"]
    assert [item.arch for item in read_inputs([maker.root], Selection(("aarch64",))).releases] == ["aarch64"]


def test_architectures_that_were_not_fetched_are_passed_over(maker: ReleaseMaker) -> None:
    path = maker.root / "builds" / "builds.json"
    listed = {"id": RELEASE, "arches": ["s390x", "x86_64"]}
    path.write_text(json.dumps({"schema-version": "1.0.0", "builds": [listed]}))
    for arch in ((), ("x86_64",), ("all",)):
        inputs = read_inputs([maker.root], Selection(arch))
        assert [item.arch for item in inputs.releases] == ["x86_64"]
        assert inputs.notes[0] == "s390x: builds.json lists it, but it is not here; left out"
    with pytest.raises(UsageError, match="no input for architecture s390x"):
        read_inputs([maker.root], Selection(("s390x",)))


@pytest.fixture
def several(maker: ReleaseMaker) -> ReleaseMaker:
    """Three builds: the newest of two architectures, an older one that has a tag, one that is not here any more."""
    other = ReleaseMaker(maker.root, "aarch64")
    other.add("metal", "raw.xz", b"arm")
    other.finish()
    old = ReleaseMaker(maker.root, "x86_64", "39.20250101.1.0")
    old.add("metal", "raw.xz", b"old")
    old.finish()
    document = {
        "schema-version": "1.0.0",
        "builds": [
            {"id": RELEASE, "arches": ["x86_64", "aarch64"]},
            {"id": old.release, "arches": ["x86_64"]},
            {"id": "38.0", "arches": ["x86_64"]},
        ],
        "tags": [
            {"name": "stable", "created": "2026-01-01T00:00:00Z", "target": old.release},
            {"name": old.release, "created": "2026-01-01T00:00:00Z", "target": RELEASE},
            {"name": "gone", "created": "2026-01-01T00:00:00Z", "target": "37.0"},
        ],
        "timestamp": "2026-01-02T00:00:00Z",
    }
    (maker.root / "builds" / "builds.json").write_text(json.dumps(document))
    (maker.root / "builds" / "latest").symlink_to(RELEASE)
    return maker


SELECTED: dict[str, tuple[Selection, list[tuple[str, str]]]] = {
    "the newest": (Selection(), [(RELEASE, "x86_64"), (RELEASE, "aarch64")]),
    "latest": (Selection(build="latest"), [(RELEASE, "x86_64"), (RELEASE, "aarch64")]),
    "an id": (Selection(build=RELEASE), [(RELEASE, "x86_64"), (RELEASE, "aarch64")]),
    "an older id, which is a tag too": (Selection(build="39.20250101.1.0"), [("39.20250101.1.0", "x86_64")]),
    "a tag": (Selection(build="stable"), [("39.20250101.1.0", "x86_64")]),
    "one architecture": (Selection(("aarch64",), RELEASE), [(RELEASE, "aarch64")]),
    "two architectures": (Selection(("aarch64", "x86_64")), [(RELEASE, "x86_64"), (RELEASE, "aarch64")]),
}


@pytest.mark.parametrize("case", SELECTED)
@pytest.mark.parametrize("where", ["", "builds"])
def test_selected_builds(several: ReleaseMaker, case: str, where: str) -> None:
    selection, expected = SELECTED[case]
    found = read_inputs([several.root / where], selection)
    assert [(item.release, item.arch) for item in found.releases] == expected


REFUSED: dict[str, tuple[str, Selection, type[RehydratorError], str]] = {
    "unknown": ("", Selection(build="next"), UsageError, "no build or tag 'next'.*latest, stable, "),
    "a tag of nothing": ("", Selection(build="gone"), InputError, "'gone' of a build that it does not list.*37.0"),
    "not here": ("", Selection(build="38.0"), InputError, "No such file"),
    "without that architecture": ("", Selection(("aarch64",), "stable"), UsageError, "no input for .* aarch64.*x86_64"),
    "one of two architectures": ("", Selection(("aarch64", "s390x")), UsageError, "no input for architecture s390x"),
    "a single build": ("builds/latest", Selection(build="stable"), UsageError, "no builds to choose from.*--build"),
    "one architecture": (f"builds/{RELEASE}/x86_64", Selection(build=RELEASE), UsageError, "no builds to choose from"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_selections_that_cannot_be_met(several: ReleaseMaker, case: str) -> None:
    where, selection, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        read_inputs([several.root / where], selection)


@pytest.mark.parametrize("where", ["builds/latest", f"builds/{RELEASE}"])
def test_a_build_of_several_architectures_by_its_path(several: ReleaseMaker, where: str) -> None:
    found = read_inputs([several.root / where], Selection())
    assert [(item.release, item.arch) for item in found.releases] == [(RELEASE, "aarch64"), (RELEASE, "x86_64")]


@pytest.mark.parametrize("where", ["", "builds"])
def test_latest_without_a_list_of_builds(several: ReleaseMaker, where: str) -> None:
    (several.root / "builds" / "builds.json").unlink()
    found = read_inputs([several.root / where], Selection(("x86_64",)))
    assert [(item.release, item.arch) for item in found.releases] == [(RELEASE, "x86_64")]


def test_stream_metadata_of_another_build_is_left_out(several: ReleaseMaker) -> None:
    text = json.dumps(stream_of(several)).encode()
    (several.root / "stream.json").write_bytes(text)
    assert read_inputs([several.root], Selection()).stream == text
    found = read_inputs([several.root], Selection(build="stable"))
    assert (found.stream, found.notes) == (None, (f"stream.json lists {RELEASE}, not 39.20250101.1.0; left out",))


BUILDS: dict[str, tuple[object, type[RehydratorError], str]] = {
    "no build": ({"schema-version": "1.0.0", "builds": []}, InputError, "lists no build"),
    "schema": ({"schema-version": "2.0.0", "builds": [{"id": "1"}]}, UsageError, "unknown builds.json schema"),
    "shape": ({"schema-version": "1.0.0", "builds": {}}, CorruptError, "not a valid"),
    "id": ({"schema-version": "1.0.0", "builds": [{"id": "../1"}]}, InputError, "leads out"),
    "arch": ({"schema-version": "1.0.0", "builds": [{"id": RELEASE, "arches": [".."]}]}, InputError, "leads out"),
    "missing": ({"schema-version": "1.0.0", "builds": [{"id": "41.0", "arches": ["x86_64"]}]}, InputError, "No such"),
    "missing, no arches": ({"schema-version": "1.0.0", "builds": [{"id": "41.0"}]}, InputError, "No such"),
}


@pytest.mark.parametrize("case", BUILDS)
def test_wrong_builds_json(maker: ReleaseMaker, case: str) -> None:
    document, kind, words = BUILDS[case]
    (maker.root / "builds" / "builds.json").write_text(json.dumps(document))
    with pytest.raises(kind, match=words):
        read_inputs([maker.root], Selection())


@pytest.mark.parametrize("name", ["../metal.raw", "/etc/passwd", "a/b", "..", ""])
def test_names_that_lead_out_of_a_build(maker: ReleaseMaker, name: str) -> None:
    maker.images["qemu"]["path"] = name
    maker.finish()
    with pytest.raises(InputError, match="leads out"):
        read_inputs([maker.root], Selection())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"buildid": 3}', '{"images": {}}'])
def test_wrong_meta_json(maker: ReleaseMaker, text: str) -> None:
    (maker.directory / "meta.json").write_text(text)
    for path in (maker.root, maker.directory / "meta.json"):
        with pytest.raises((CorruptError, InputError)) as caught:
            read_inputs([path], Selection())
        assert caught.value.path == str(maker.directory / "meta.json")


def stream_of(maker: ReleaseMaker) -> dict[str, Any]:
    formats: dict[str, Any] = {
        key: {"release": RELEASE, "formats": {suffix: {"disk": file(maker, key)}}}
        for key, suffix in (("metal", "raw.xz"), ("qemu", "qcow2.xz"))
    }
    pxe = {role: file(maker, f"live-{role}") for role in ("kernel", "initramfs", "rootfs")}
    formats["metal"]["formats"] |= {"pxe": pxe, "iso": {"disk": file(maker, "live-iso")}}
    return {"stream": "stable", "architectures": {maker.arch: {"artifacts": formats, "images": {}}}}


def file(maker: ReleaseMaker, key: str) -> dict[str, str]:
    image = maker.images[key]
    location = f"https://example.com/{RELEASE}/{image['path']}?token=a%20b"
    found = {"location": location, "signature": location + ".sig", "sha256": image["sha256"]}
    return found | {name: image[name] for name in ("uncompressed-sha256",) if name in image}


@pytest.mark.parametrize("flat", [True, False])
def test_stream_metadata(maker: ReleaseMaker, tmp_path: Path, flat: bool) -> None:
    root = tmp_path / "flat" if flat else maker.root
    if flat:
        shutil.copytree(maker.directory, root, ignore=shutil.ignore_patterns("meta.json"))
    name = maker.images["qemu"]["path"]
    ((root if flat else maker.directory) / f"{name}.sig").write_bytes(b"signature")
    text = json.dumps(stream_of(maker)).encode()
    (root / "stream.json").write_bytes(text)
    inputs = read_inputs([root / "stream.json"], Selection())
    assert inputs.stream == text
    artifacts = inputs.releases[0].artifacts
    assert [item.identity.key for item in artifacts] == [
        "metal.raw.xz.disk",
        "metal.pxe.kernel",
        "metal.pxe.initramfs",
        "metal.pxe.rootfs",
        "metal.iso.disk",
        "qemu.qcow2.xz.disk",
    ]
    assert {item.path.parent for item in artifacts} == {root if flat else maker.directory}
    assert [item.identity.platform for item in artifacts if item.signature] == ["qemu"]
    if flat:
        assert read_inputs([root], Selection()) == inputs


def test_stream_metadata_with_missing_files(maker: ReleaseMaker) -> None:
    path = maker.root / "stream.json"
    path.write_text(json.dumps(stream_of(maker)))
    (maker.directory / maker.images["qemu"]["path"]).unlink()
    with pytest.raises(InputError, match="1 of 6 files for x86_64") as caught:
        read_inputs([path], Selection())
    assert maker.images["qemu"]["path"] in str(caught.value)
    shutil.rmtree(maker.directory)
    with pytest.raises(InputError, match="none of the files"):
        read_inputs([path], Selection())


def test_architectures_without_files_are_passed_over(maker: ReleaseMaker) -> None:
    document = stream_of(maker)
    other = json.loads(json.dumps(document["architectures"]["x86_64"]).replace("x86_64", "s390x"))
    document["architectures"]["s390x"] = other
    document["architectures"]["ppc64le"] = {"artifacts": {}}
    path = maker.root / "stream.json"
    path.write_text(json.dumps(document))
    assert [item.arch for item in read_inputs([path], Selection()).releases] == ["x86_64"]
    with pytest.raises(UsageError, match="no input for architecture s390x"):
        read_inputs([path], Selection(("s390x",)))


@pytest.mark.parametrize(
    "location", ["https://example.com/", "https://example.com/..", "https://example.com/%2E%2E", ""]
)
def test_locations_without_a_name(maker: ReleaseMaker, location: str) -> None:
    document = stream_of(maker)
    document["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]["location"] = location
    (maker.root / "stream.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="no file name"):
        read_inputs([maker.root / "stream.json"], Selection())


def test_two_inputs_with_one_architecture(maker: ReleaseMaker) -> None:
    with pytest.raises(UsageError, match="two inputs bring architecture x86_64"):
        read_inputs([maker.root, maker.directory], Selection())


@pytest.mark.parametrize("make", ["nothing", "empty", "text"])
def test_no_release(tmp_path: Path, make: str) -> None:
    path = tmp_path / make
    if make == "empty":
        path.mkdir()
    elif make == "text":
        path.write_text("hello")
    with pytest.raises(InputError) as caught:
        read_inputs([path], Selection())
    assert caught.value.path == str(path)


def test_streams_are_joined() -> None:
    one = b'{"stream": "s", "architectures": {"a": 1}}'
    two = b'{"stream": "s", "architectures": {"b": 2}}'
    assert merge_streams([]) is None
    assert merge_streams([one, one]) == one
    joined = merge_streams([one, two])
    assert joined is not None
    assert json.loads(joined)["architectures"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "other", [b'{"stream": "t", "architectures": {"b": 2}}', b'{"stream": "s", "architectures": {"a": 2}}']
)
def test_streams_that_do_not_fit(other: bytes) -> None:
    with pytest.raises(UsageError, match="can't be joined"):
        merge_streams([b'{"stream": "s", "architectures": {"a": 1}}', other])


def test_the_real_release(release_dir: Path) -> None:
    """Both descriptions of the committed release tell the same artifacts."""
    build = read_inputs([release_dir / "builds"], Selection())
    stream = read_inputs([release_dir / "stream.json"], Selection())
    assert {item.identity for item in build.releases[0].artifacts} == {
        item.identity for item in stream.releases[0].artifacts
    }
    for item in build.releases[0].artifacts:
        assert sha256(item.path.read_bytes()) == item.sha256
        assert item.signature is not None
