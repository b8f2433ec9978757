"""Damaged and forged stores: noticed and named, or still exact."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from rehydrator.errors import StoreDamagedError
from rehydrator.manifest.schema import BlobRef, StoreIndex
from rehydrator.manifest.text import encode
from rehydrator.store.blobs import BlobReader
from rehydrator.store.files import sealed
from rehydrator.store.origin import Directory
from rehydrator.store.reader import Store
from tests.support import stores
from tests.support.cli import fails, fine, hidden, run
from tests.support.releases import sha256

QEMU = "qemu.qcow2.xz.disk"
METAL = "metal.raw.xz.disk"
CANONICAL = "x86_64/canonical.raw.zst"


def check_rehydration(store: Path, out: Path, code: int, words: list[str]) -> None:
    """Rehydrate everything; expect the failure and that what has a final name is right."""
    digests = {
        item["content_name"]: item["content_sha256"]
        for item in json.loads(run("list", "--json", "--store", store).out or b'{"artifacts": []}')["artifacts"]
    }
    fails(code, words, "rehydrate", out, "--all", "--store", store)
    for path in out.iterdir() if out.exists() else ():
        assert sha256(path.read_bytes()) == digests[path.name]


def check_verify(store: Path, words: list[str]) -> None:
    """Verify; expect exit 1 and the words in the report or the complaint."""
    result = run("verify", "--store", store)
    assert result.code == 1, result.err
    assert "Traceback" not in result.err
    said = [line for line in result.text.splitlines() if line.startswith("BAD ")] + result.complaints
    assert said
    assert [word for word in words if not any(word in line for line in said)] == []


@pytest.mark.parametrize("at", [0, 5, 100, 50_000, 400_000, -1, -5, -9, -12, -20])
def test_a_flipped_byte_in_the_canonical(small_store: Path, tmp_path: Path, at: int) -> None:
    stores.flip(small_store / CANONICAL, at)
    check_verify(small_store, [CANONICAL])
    if at % 2 == 0:
        check_rehydration(small_store, tmp_path / "out", 1, [CANONICAL])


def test_one_artifact_needs_no_manifest_of_others(small_store: Path, tmp_path: Path) -> None:
    stores.manifest_path(small_store, QEMU).unlink()
    fine("rehydrate", tmp_path / "out", "--disk", "aws", "--store", small_store)
    assert "aws" in fine("info", "aws", "--store", small_store).text
    fails(1, [f"{QEMU}.json"], "list", "--store", small_store)
    fails(1, [f"{QEMU}.json"], "info", "qemu", "--store", small_store)


def test_a_manifest_of_another_artifact(small_store: Path, tmp_path: Path) -> None:
    document = stores.manifest(small_store, METAL)
    stores.rewrite(small_store, f"x86_64/manifests/{QEMU}.json", document)
    words = ["is for another artifact", QEMU, METAL]
    fails(1, words, "rehydrate", tmp_path / "out", "--disk", "qemu", "--store", small_store)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_in_each_blob(small_store: Path, tmp_path: Path, where: str) -> None:
    with Store(small_store) as store:
        pieces = {
            index.canonical.pieces.digests.sha256
            for index in store.index.architectures.values()
            if index.canonical.pieces
        }
    for blob in sorted((small_store / "blobs").iterdir()):
        good = blob.read_bytes()
        stores.flip(blob, {"first": 0, "middle": len(good) // 2, "last": -1}[where])
        check_verify(small_store, [blob.name])
        if where == "middle" and blob.name not in pieces:  # which are for who reads the store in a registry
            fails(1, [blob.name], "rehydrate", tmp_path / blob.name, "--all", "--store", small_store)
            assert hidden(tmp_path / blob.name) == []
        blob.write_bytes(good)


def _lying_blob(store: Path, content_size: int, said: int, cut: int = 0) -> BlobRef:
    packer = zstandard.ZstdCompressor().compressobj()
    piece = bytes(1 << 20)
    data = b"".join(packer.compress(piece[:step]) for step in _steps(content_size, len(piece))) + packer.flush()
    data = data[: len(data) - cut]
    name = hashlib.sha256(data).hexdigest()
    (store / "blobs").mkdir(exist_ok=True)
    (store / "blobs" / name).write_bytes(data)
    return BlobRef(name, len(data), said)


def _steps(size: int, piece: int) -> list[int]:
    return [piece] * (size // piece) + [size % piece]


@pytest.mark.parametrize(
    ("content_size", "said", "cut", "words"),
    [
        (1 << 30, 1000, 0, ["another size", "1000", "more"]),  # a bomb
        (1001, 1000, 0, ["another size", "1000", "more"]),
        (999, 1000, 0, ["another size", "1000", "999"]),
        (1 << 20, 1 << 20, 5, ["another size", "1048576"]),
        (10, 1 << 40, 0, ["too large", str(1 << 40)]),
        (10, -1, 0, ["too large", "-1"]),
    ],
)
def test_a_blob_that_lies_about_its_content(
    tmp_path: Path, content_size: int, said: int, cut: int, words: list[str]
) -> None:
    ref = _lying_blob(tmp_path, content_size, said, cut)
    tracemalloc.start()
    try:
        with pytest.raises(StoreDamagedError) as caught:
            BlobReader(Directory(tmp_path)).small(ref)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert all(word in str(caught.value) for word in [*words, ref.sha256])
    assert peak < 8 << 20


@pytest.mark.parametrize("at", [0, 2, 30, 200, 300, -2])
def test_a_flipped_byte_in_a_manifest(small_store: Path, tmp_path: Path, at: int) -> None:
    path = stores.manifest_path(small_store, QEMU)
    stores.flip(path, at)
    check_verify(small_store, [path.name])
    check_rehydration(small_store, tmp_path / "out", 1, [path.name])


@pytest.mark.parametrize("name", ["stream.json", "signatures/some.sig"])
def test_flipped_bytes_in_files_that_are_passed_on(real_store: Path, tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    shutil.copytree(real_store, store)
    path = store / name if name == "stream.json" else next((store / "signatures").iterdir())
    stores.flip(path, 20)
    check_verify(store, [path.name])
    if name == "stream.json":
        assert fails(1, [path.name], "print-stream-json", "--store", store).out == b""


def test_flipped_bytes_in_the_index(small_store: Path, tmp_path: Path) -> None:
    """The index is not pinned itself: a flip is noticed, or what comes back is right all the same."""
    index = small_store / "store.json"
    good = index.read_bytes()
    digests = {
        item["content_name"]: item["content_sha256"]
        for item in json.loads(fine("list", "--json", "--store", small_store).out)["artifacts"]
    }
    order = random.Random(2)
    for number in range(12):
        index.write_bytes(good)
        stores.flip(index, order.randrange(len(good)), 1 << order.randrange(8))
        out = tmp_path / f"out{number}"
        result = run("rehydrate", out, "--disk", "aws", "--store", small_store, "--progress", "none")
        assert result.code in {0, 1, 2, 3}
        assert "internal error" not in result.err
        assert len(result.complaints) == (result.code != 0)
        for path in out.iterdir() if out.exists() else ():
            assert sha256(path.read_bytes()) == digests[path.name]


@pytest.mark.parametrize("what", [CANONICAL, f"x86_64/manifests/{QEMU}.json", "blobs"])
def test_missing_parts(small_store: Path, tmp_path: Path, what: str) -> None:
    path = small_store / what
    if what == "blobs":
        names = [path / ref["sha256"] for ref in stores.manifest(small_store, QEMU)["blobs"]]
        path = names[0]
    path.unlink()
    check_verify(small_store, [path.name])
    check_rehydration(small_store, tmp_path / "out", 1, [path.name])


@pytest.mark.parametrize("length", [0, 10, 1000, -1])
def test_a_truncated_canonical(small_store: Path, tmp_path: Path, length: int) -> None:
    path = small_store / CANONICAL
    path.write_bytes(path.read_bytes()[:length])
    check_verify(small_store, [CANONICAL])
    check_rehydration(small_store, tmp_path / "out", 1, [CANONICAL])


def _kinds(store: Path) -> dict[str, Path]:
    """A file of each kind that a store has."""
    signature = store / "signatures" / "some.sig"
    signature.parent.mkdir(exist_ok=True)
    for path in (store / "stream.json", signature):
        path.write_bytes(b"{}")
    document = stores.index(store)
    document |= {
        "stream": {"name": "stream.json", "size": 2, "sha256": sha256(b"{}")},
        "signatures": [{"name": "signatures/some.sig", "size": 2, "sha256": sha256(b"{}")}],
    }
    stores.rewrite(store, "store.json", document)
    return {
        "stream": store / "stream.json",
        "signature": signature,
        "canonical": store / CANONICAL,
        "manifest": stores.manifest_path(store, QEMU),
        "blob": min((store / "blobs").iterdir()),
    }


@pytest.mark.parametrize("kind", ["stream", "signature", "canonical", "manifest", "blob"])
def test_a_file_that_is_much_longer_than_it_should_be(small_store: Path, kind: str) -> None:
    """A sparse terabyte costs a hostile store nothing; nobody hashes it."""
    path = _kinds(small_store)[kind]
    os.truncate(path, 1 << 40)
    check_verify(small_store, [path.name, "another size", str(1 << 40)])


@pytest.mark.parametrize("kind", ["stream", "signature", "canonical", "manifest", "blob"])
def test_a_pipe_in_place_of_a_file(small_store: Path, kind: str) -> None:
    """Nobody waits for somebody to write into it."""
    path = _kinds(small_store)[kind]
    path.unlink()
    os.mkfifo(path)
    check_verify(small_store, [path.name, "no regular file"])


def test_an_index_that_pins_a_huge_manifest(small_store: Path) -> None:
    name = f"x86_64/manifests/{QEMU}.json"
    os.truncate(small_store / name, 1 << 40)
    document = stores.index(small_store)
    next(item for item in document["architectures"]["x86_64"]["manifests"] if item["name"] == name)["size"] = 1 << 40
    stores.rewrite(small_store, "store.json", document)
    check_verify(small_store, [name, "too large"])


def test_an_index_that_is_huge(small_store: Path) -> None:
    os.truncate(small_store / "store.json", 1 << 40)
    check_verify(small_store, ["store.json", "too large"])


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "..", "", "-rf", "a\\b", "a\0b", "a\nb", ".bashrc", "\x1b[2J"]
)
@pytest.mark.parametrize("field", ["shipped"])
def test_names_that_leave_the_destination(small_store: Path, tmp_path: Path, name: str, field: str) -> None:
    document = stores.manifest(small_store, QEMU)
    document[field]["name"] = name
    stores.rewrite(small_store, f"x86_64/manifests/{QEMU}.json", document)
    before = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    fails(
        1, ["not a plain name", f"{QEMU}.json"], "rehydrate", tmp_path / "out", "--disk", "qemu", "--store", small_store
    )
    assert {path for path in tmp_path.rglob("*") if "store" not in path.parts} == before


@pytest.mark.parametrize("name", ["../outside.json", "/etc/passwd", "x86_64/../../outside.json", ""])
def test_names_that_leave_the_store(small_store: Path, tmp_path: Path, name: str) -> None:
    document = stores.index(small_store)
    document["architectures"]["x86_64"]["manifests"][0]["name"] = name
    stores.rewrite(small_store, "store.json", document)
    fails(1, ["leads out of the store"], "list", "--store", small_store)


@pytest.mark.parametrize("name", ["../../etc/passwd", "x", "A" * 64, "0" * 63])
def test_blob_names_that_leave_the_store(small_store: Path, tmp_path: Path, name: str) -> None:
    document = stores.manifest(small_store, "vmware.ova.disk")
    document["blobs"][0]["sha256"] = document["body"]["blob"]["sha256"] = name
    stores.rewrite(small_store, "x86_64/manifests/vmware.ova.disk.json", document)
    fails(1, ["not a sha256"], "rehydrate", tmp_path / "out", "--disk", "vmware", "--store", small_store)


FORGERIES: dict[str, tuple[str, object]] = {
    "another digest": ("uncompressed.sha256", "0" * 64),
    "another size": ("uncompressed.size", 5),
    "an unknown base": ("body.base", "nothing.raw.disk"),
    "a circle": ("body.base", QEMU),
    "an unknown op": ("body.edits", [{"op": "magic"}]),
    "an unlisted blob": ("blobs", []),
    "a grow that shrinks": ("body.edits", [{"op": "grow", "size": 512}]),
    "a negative grow": ("body.edits", [{"op": "grow", "size": -1}]),
    "runs that do not fit": ("body.edits.1.runs", [[0, 3]]),
    "runs outside": ("body.edits.1.start", 1 << 50),
    "a negative start": ("body.edits.1.start", -5_000_000),
    "a negative run": ("body.edits.1.runs.0", [-5_000_000, 1]),
    "no layers": ("layers", []),
    "twice wrapped": ("layers", "twice"),
    "a file size": ("layers.0.file_size", 70_000),
    "cluster bits": ("layers.0.cluster_bits", 200),
    "negative cluster bits": ("layers.0.cluster_bits", -3),
    "a header length": ("layers.0.header_length", 1 << 33),
    "a negative table": ("layers.0.l1_table", -4),
    "an L1 size": ("layers.0.l1_size", 1 << 40),
    "refcount blocks": ("layers.0.refcount_blocks", [1 << 62]),
    "a version": ("layers.0.version", 1 << 40),
    "a feature": ("layers.0.feature_names", [[300, 1, "x"]]),
    "a feature name": ("layers.0.feature_names", [[3, 1, "x" * 100]]),
    "a placement": ("layers.0.placement", [["data", 0, 1 << 40, 1 << 40]]),
    "no placement": ("layers.0.placement", []),
    "an allocation": ("layers.0.allocation", [[5, -5]]),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_forged_manifests(small_store: Path, tmp_path: Path, case: str) -> None:
    """Even with all digests of the store made right, a wrong manifest gives a clear end and no file."""
    path, value = FORGERIES[case]
    document = stores.manifest(small_store, QEMU)
    *way, last = path.split(".")
    target = document
    for step in way:
        target = target[int(step) if isinstance(target, list) else step]
    target[int(last) if isinstance(target, list) else last] = document["layers"] * 2 if value == "twice" else value
    stores.rewrite(small_store, f"x86_64/manifests/{QEMU}.json", document)
    out = tmp_path / "out"
    fails(1, [], "rehydrate", out, "--disk", "qemu", "--store", small_store)
    assert not out.exists() or list(out.iterdir()) == []


def test_a_wrong_digest_in_a_tar_has_no_trailer(small_store: Path) -> None:
    document = stores.manifest(small_store, QEMU)
    document["uncompressed"]["sha256"] = "0" * 64
    stores.rewrite(small_store, f"x86_64/manifests/{QEMU}.json", document)
    arguments = ("rehydrate", "-", "--disk", "aws", "--disk", "qemu", "--store", small_store)
    assert not fails(1, ["another sha256"], *arguments).out.endswith(bytes(1024))
    assert fine(*arguments, "--skip-validate").out.endswith(bytes(1024))


@pytest.mark.parametrize("file", ["store.json", f"x86_64/manifests/{QEMU}.json"])
@pytest.mark.parametrize(("form", "code"), [("9.0", 3), ("{major}.9", 0), ("new", 1)])
def test_other_versions(small_store: Path, tmp_path: Path, file: str, form: str, code: int) -> None:
    document = json.loads((small_store / file).read_bytes())
    version = form.format(major=document["version"].partition(".")[0])
    document |= {"version": version, "invented later": {"deep": [1, 2]}}
    stores.rewrite(small_store, file, document)
    arguments = ("rehydrate", tmp_path / "out", "--disk", "qemu", "--store", small_store)
    if code:
        fails(code, [file, version], *arguments)
    else:
        fine(*arguments)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}', '{"version": "1.0", "architectures": 5}'])
def test_an_index_that_is_none(small_store: Path, text: str) -> None:
    (small_store / "store.json").write_text(text)
    assert "valid _" not in fails(1, ["store.json", "not a valid"], "list", "--store", small_store).err


def test_a_flipped_key_of_the_index_is_noticed(small_store: Path) -> None:
    """A key that no reader knows would be passed over if the index were not sealed."""
    path = small_store / "store.json"
    text = path.read_bytes()
    stores.flip(path, text.index(b'"signatures"') + 1)
    fails(1, ["store.json", "wrong sha256"], "list", "--store", small_store)


@pytest.mark.parametrize("name", ["store.json", CANONICAL])
def test_what_cannot_be_opened_is_not_damaged(small_store: Path, name: str) -> None:
    """As where permissions lack, which root's tests can't."""
    loop = small_store / name
    loop.unlink()
    loop.symlink_to(loop.name)
    fails(2, [f"{name}: cannot be opened: Too many levels"], "verify", "--store", small_store, "--progress", "none")


def test_no_store(tmp_path: Path) -> None:
    fails(2, ["no rehydrator store here", "--store"], "list", "--store", tmp_path)
    fails(2, ["no stream metadata"], "print-stream-json", "--store", _empty(tmp_path / "empty"))


def _empty(path: Path) -> Path:
    path.mkdir()
    (path / "store.json").write_bytes(sealed(encode(StoreIndex(version="1.0", architectures={}))))
    return path
