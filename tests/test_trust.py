"""The chain from an image down to the published files: each tampered link is named, and statements of it are valid."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from rehydrator.codecs import seekable
from rehydrator.errors import UnsupportedError
from rehydrator.manifest.schema import File
from rehydrator.oci.layout import Layout, LayoutWriter
from rehydrator.oci.reference import LayoutReference
from rehydrator.store.reader import Store
from rehydrator.trust.c_intoto import PROVENANCE_TYPE, STATEMENT_TYPE
from rehydrator.trust.system_packages import System, SystemPackage, installed_system
from tests.conftest import make_small_release
from tests.support import stores
from tests.support.cli import fails, fine, run
from tests.support.images import put_base
from tests.support.openpgp import Signatory
from tests.support.releases import sha256

QEMU = "qemu.qcow2.xz.disk"


@dataclass
class Chain:
    """A store of a signed release, the image that it was put into, its stream metadata, and who signed."""

    store: Path
    image: Path
    stream: Path
    key: Path
    digest: str

    def verify(self, *arguments: str | Path) -> list[str]:
        """Verify all links; return what was said to be wrong."""
        result = run(
            "verify", "--store", self.store, "--image", f"oci:{self.image}", "--digest", self.digest,
            "--stream", self.stream, "--key", self.key, "--progress", "none", *arguments,
        )  # fmt: skip
        assert "Traceback" not in result.err
        said = [line for line in result.text.splitlines() if line.startswith("BAD ")] + result.complaints
        assert result.code == (1 if said else 0), (result.err, result.text)
        return said

    def copy(self, root: Path) -> Chain:
        """Return a chain of one's own."""
        for path in (self.store, self.image):
            shutil.copytree(path, root / path.name)
        shutil.copy(self.stream, root)
        return Chain(root / self.store.name, root / self.image.name, root / self.stream.name, self.key, self.digest)


def stream_of(store: Path) -> dict[str, Any]:
    """Stream metadata for the artifacts of a store."""
    artifacts: dict[str, Any] = {}
    with Store(store) as opened:
        for item in opened.manifests("x86_64"):
            identity = item.artifact
            file = {"location": f"https://builds.example.com/{item.shipped.name}", "sha256": item.shipped.sha256}
            if item.uncompressed:
                file["uncompressed-sha256"] = item.uncompressed.sha256
            platform = artifacts.setdefault(identity.platform, {"release": identity.release, "formats": {}})
            platform["formats"].setdefault(identity.format, {})[identity.role] = file
    return {"stream": "testing", "metadata": {}, "architectures": {"x86_64": {"artifacts": artifacts}}}


@pytest.fixture(scope="module")
def _chain(
    qcow2_bytes: Callable[[bytes], bytes], need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    need("gpg")
    root = tmp_path_factory.mktemp("chain")
    signatory = Signatory(root, "release")
    maker = make_small_release(root / "release", qcow2_bytes)
    fine("build", "dehydrate", maker.root, root / "first", "--no-compressed", "--progress", "none")
    stream = maker.root / "stream.json"
    stream.write_text(json.dumps(stream_of(root / "first")))
    for key in maker.images:
        path = maker.directory / maker.images[key]["path"]
        path.with_name(path.name + ".sig").write_bytes(signatory.sign(path.read_bytes()))
    fine("build", "dehydrate", maker.root, root / "store", "--progress", "none")
    with LayoutWriter(root / "base") as writer:
        writer.tag(put_base(writer), "latest")
    made = fine("build", "image", root / "store", f"oci:{root / 'image'}", "--base", f"oci:{root / 'base'}")
    yield Chain(root / "store", root / "image", stream, signatory.public, made.text.strip())
    signatory.close()


@pytest.fixture
def chain(_chain: Chain, tmp_path: Path) -> Chain:
    return _chain.copy(tmp_path)


def test_all_is_right(chain: Chain) -> None:
    assert chain.verify() == []


def manifest(chain: Chain) -> Path:
    layout = Layout(chain.image)
    return layout.path(layout.find(LayoutReference(chain.image)))


def blob(chain: Chain, number: int) -> Path:
    """A layer of the image; -1 is the last."""
    digest = json.loads(manifest(chain).read_bytes())["layers"][number]["digest"]
    return chain.image / "blobs" / str(digest).replace(":", "/")


def config(chain: Chain) -> Path:
    digest = json.loads(manifest(chain).read_bytes())["config"]["digest"]
    return chain.image / "blobs" / str(digest).replace(":", "/")


def retagged(chain: Chain, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the manifest and config of the image as a forger would: with all digests right."""

    def put(document: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (chain.image / "blobs" / "sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    index = json.loads((chain.image / "index.json").read_bytes())
    pinned = json.loads(manifest(chain).read_bytes())
    made = json.loads(config(chain).read_bytes())
    change(pinned, made)
    pinned["config"] |= put(made)
    index["manifests"][0] |= put(pinned)
    (chain.image / "index.json").write_text(json.dumps(index))
    chain.digest = index["manifests"][0]["digest"]


def another_image(chain: Chain) -> None:
    """The tag points to another image than the one whose digest is known."""
    digest = chain.digest
    retagged(chain, lambda pinned, made: pinned.update(annotations={"x": "y"}))
    chain.digest = digest


def other_stream(chain: Chain, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(chain.stream.read_bytes())
    change(document["architectures"]["x86_64"]["artifacts"])
    chain.stream.write_text(json.dumps(document))


def forged_artifact(chain: Chain) -> None:
    """Another file in an artifact's place, with all digests of the store right."""
    document = stores.manifest(chain.store, "vmware.ova.disk")
    data = b"other bytes" * 100
    out = io.BytesIO()
    seekable.compress([data], out, level=1, threads=1)
    packed = out.getvalue()
    (chain.store / "blobs" / sha256(packed)).write_bytes(packed)
    ref = {"sha256": sha256(packed), "size": len(packed), "content_size": len(data)}
    document["blobs"] = [ref]
    document["body"] = {"rung": "stored", "blob": ref}
    document["layers"] = []
    document["shipped"] |= {"size": len(data), "sha256": sha256(data)}
    stores.rewrite(chain.store, "x86_64/manifests/vmware.ova.disk.json", document)


def other_signature(chain: Chain) -> None:
    """A signature of another file, pinned by the index."""
    names = sorted(path.name for path in (chain.store / "signatures").iterdir())
    path = chain.store / "signatures" / next(name for name in names if "qemu" in name)
    path.write_bytes((path.parent / next(name for name in names if "metal" in name)).read_bytes())
    stores.repin(chain.store, f"signatures/{path.name}")


CANONICAL = "x86_64/canonical.raw.zst"
SEAL = "io.rehydrator.seal"
# What is changed -> words that the verdicts on it have; every one of them has to be there.
TAMPERED: dict[str, tuple[Callable[[Chain], object], list[str]]] = {
    "the digest": (lambda it: setattr(it, "digest", "sha256:" + "0" * 64), ["digest: ", "another image"]),
    "the tag": (another_image, ["digest: ", "another image"]),
    "the image's manifest": (
        lambda it: stores.flip(manifest(it), 30), ["another digest", "blobs/sha256/"],
    ),
    "the image's config": (lambda it: stores.flip(config(it), 30), ["has another digest"]),
    "the image's label": (
        lambda it: retagged(it, lambda manifest, made: made["config"]["Labels"].update({SEAL: "0" * 64})),
        [f"label {SEAL}", "made of another store"],
    ),
    "a layer of the image": (lambda it: stores.flip(blob(it, -1), 5000), ["layer sha256:", "has another digest"]),
    "a layer of its base": (lambda it: stores.flip(blob(it, 0), 15), ["layer sha256:", "has another digest"]),
    "a layer left out": (
        lambda it: retagged(it, lambda manifest, made: manifest["layers"].pop()),
        ["the canonical disk of x86_64", "something else than the store"],
    ),
    "the store's index": (lambda it: stores.flip(it.store / "store.json", 400), ["store.json"]),
    "a manifest": (lambda it: stores.flip(stores.manifest_path(it.store, QEMU), 100), [f"{QEMU}.json"]),
    "a blob": (lambda it: stores.flip(min((it.store / "blobs").iterdir()), -1), ["BAD blobs/"]),
    "the canonical disk": (lambda it: stores.flip(it.store / CANONICAL, 40_000), [f"BAD {CANONICAL}"]),
    "a signature": (
        lambda it: stores.flip(min((it.store / "signatures").iterdir()), 30), ["BAD signatures/", ".sig"],
    ),
    "the store's stream metadata": (lambda it: stores.flip(it.store / "stream.json", 30), ["BAD stream.json"]),
    "an artifact, with all digests right": (
        forged_artifact,
        [
            f"label {SEAL}",
            "something else than the store",
            "vmware.x86_64.ova in the stream metadata",
            "another sha256 of x86_64 vmware.ova.disk",
            "vmware.x86_64.ova, signature",
            "the signature is wrong",
        ],
    ),
    "a signature, with all digests right": (
        other_signature, [f"label {SEAL}", "qemu.x86_64.qcow2.xz, signature", "the signature is wrong"],
    ),
    "a sha256 of the stream": (
        lambda it: other_stream(it, lambda all_: all_["qemu"]["formats"]["qcow2.xz"]["disk"].update(sha256="0" * 64)),
        ["another sha256 of x86_64 qemu.qcow2.xz.disk", "stream.json"],
    ),
    "an uncompressed sha256 of the stream": (
        lambda it: other_stream(
            it, lambda all_: all_["qemu"]["formats"]["qcow2.xz"]["disk"].update({"uncompressed-sha256": "0" * 64})
        ),
        ["another uncompressed-sha256 of x86_64 qemu.qcow2.xz.disk"],
    ),
    "a release of the stream": (
        lambda it: other_stream(it, lambda all_: all_["aws"].update(release="41")), ["another release of x86_64 aws"],
    ),
    "a name of the stream": (
        lambda it: other_stream(it, lambda all_: all_["vmware"]["formats"]["ova"]["disk"].update(location="https://x/y")),
        ["another name of x86_64 vmware.ova.disk"],
    ),
    "a platform of the stream": (
        lambda it: other_stream(it, lambda all_: all_.pop("aws")), ["does not list x86_64 aws.raw.gz.disk"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_link_is_named(chain: Chain, case: str) -> None:
    change, words = TAMPERED[case]
    change(chain)
    said = chain.verify()
    assert [word for word in words if not any(word in line for line in said)] == [], said


def test_a_wrong_stream_in_the_store_is_noticed_without_being_asked(chain: Chain) -> None:
    """The store's own metadata counts where no other is given."""
    path = chain.store / "stream.json"
    document = json.loads(path.read_bytes())
    document["architectures"]["x86_64"]["artifacts"]["aws"]["formats"]["raw.gz"]["disk"]["sha256"] = "0" * 64
    stores.rewrite(chain.store, "stream.json", document)
    result = run("verify", "aws", "--store", chain.store)
    assert (result.code, "another sha256 of x86_64 aws.raw.gz.disk" in result.text) == (1, True)
    del document["architectures"]["x86_64"]["artifacts"]["aws"]
    stores.rewrite(chain.store, "stream.json", document)
    result = run("verify", "aws", "--store", chain.store)
    assert (result.code, "aws.x86_64.raw.gz is not in the store's stream metadata" in result.err) == (0, True)


def test_artifacts_that_the_store_lacks_are_said(chain: Chain) -> None:
    other_stream(chain, lambda all_: all_.update(azure=all_["aws"]))
    result = fine("verify", "aws", "--store", chain.store, "--stream", chain.stream)
    assert "x86_64 azure.raw.gz.disk of the stream metadata is not in the store" in result.err


def test_signatures_that_cannot_be_checked_are_said(release_dir: Path, real_store: Path, tmp_path: Path) -> None:
    """A store that gives files back by content only has signatures that fit nothing of it."""
    signatory = Signatory(tmp_path, "release")
    result = fine("verify", "--store", real_store, "--key", signatory.public)
    signatory.close()
    assert result.err.count("its signature can't be checked") == 3


def test_no_signature(chain: Chain) -> None:
    index = stores.index(chain.store)
    index["signatures"] = []
    stores.rewrite(chain.store, "store.json", index)
    result = run("verify", "vmware", "--store", chain.store, "--key", chain.key)
    assert (result.code, "the store has no signature of it" in result.text) == (1, True)


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"key", "holds no OpenPGP public key")])
def test_no_keys_are_told_before_the_work(chain: Chain, tmp_path: Path, content: bytes | None, words: str) -> None:
    key = tmp_path / "other.asc"
    if content is not None:
        key.write_bytes(content)
    result = run("verify", "--store", chain.store, "--key", key, "--progress", "plain")
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert words in result.err


def test_keys_of_the_environment(chain: Chain) -> None:
    other_signature(chain)
    words, env = ("verify", "qemu", "--store", chain.store), {"REHYDRATOR_KEYS": str(chain.key)}
    result = run(*words, env=env)
    assert (result.code, "the signature is wrong" in result.text) == (1, True)
    fine(*words, "--skip-signatures", env=env)
    fine(*words)
    fails(2, ["skipped and checked"], *words, "--skip-signatures", "--key", chain.key)


def test_digest_without_image(chain: Chain) -> None:
    fails(2, ["--digest", "--image"], "verify", "--store", chain.store, "--digest", "sha256:" + "0" * 64)


def attest(chain: Chain, target: Path, **env: str) -> tuple[dict[str, Any], Path]:
    fine("build", "attest", chain.store, target, "--image", f"oci:{chain.image}", env=env)
    statement = json.loads((target / "rehydrator.intoto.json").read_bytes())
    assert isinstance(statement, dict)
    return statement, target / "rehydrator.spdx.json"


def test_statement(chain: Chain, tmp_path: Path) -> None:
    """in-toto's own library takes it, and every file of the release is in it."""
    statement, _ = attest(chain, tmp_path / "out")
    Statement.copy_from_pb(json_format.ParseDict(statement, Message())).validate()
    assert (statement["_type"], statement["predicateType"]) == (STATEMENT_TYPE, PROVENANCE_TYPE)
    subjects = {(item["name"], item["digest"]["sha256"]) for item in statement["subject"]}
    with Store(chain.store) as store:
        manifests = store.manifests("x86_64")
        assert all(item.exact for item in manifests)
        files: list[File] = [file for item in manifests for file in (item.content, item.shipped)]
    expected = {(file.name, file.sha256) for file in files}
    expected |= {("store.json", sha256((chain.store / "store.json").read_bytes()))}
    expected |= {("image", chain.digest.removeprefix("sha256:"))}
    assert subjects == expected
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["stream"] == "testing"
    made_of = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert made_of["stream.json"]["digest"]["sha256"] == sha256(chain.stream.read_bytes())
    assert {item.shipped.name for item in manifests} | {"stream.json"} == made_of.keys()
    assert all(item["uri"] == f"https://builds.example.com/{name}" for name, item in made_of.items() if "uri" in item)


def test_sbom(chain: Chain, tmp_path: Path) -> None:
    """SPDX's own library takes it, and it has what this program needs."""
    from importlib import metadata

    _, path = attest(chain, tmp_path / "out", SOURCE_DATE_EPOCH="86400")
    document = parse_file(str(path))
    assert [str(item) for item in validate_full_spdx_document(document)] == []
    versions = {item.name: item.version for item in document.packages}
    for name in ("rehydrator", "click", "msgspec", "zstandard"):
        assert versions[name] == metadata.version(name)
    assert versions.keys() >= {"python", "zlib"}
    assert not versions.keys() & {"pytest", "mypy"}
    assert str(document.creation_info.created) == "1970-01-02 00:00:00"


def test_sbom_with_the_system(chain: Chain, tmp_path: Path, need: Callable[..., None]) -> None:
    """SPDX's own library takes it, and it has what dpkg itself lists."""
    need("dpkg-query")
    fine("build", "attest", chain.store, tmp_path / "out", "--system")
    document = parse_file(str(tmp_path / "out/rehydrator.spdx.json"))
    assert [str(item) for item in validate_full_spdx_document(document)] == []
    shown = r"${db:Status-Status} ${Package} ${Architecture} ${Version}\n"
    lines = subprocess.run(["dpkg-query", "-W", "-f", shown], capture_output=True, text=True, check=True).stdout
    expected = {tuple(words[1:]) for words in map(str.split, lines.splitlines()) if words[0] == "installed"}
    packages = {item.spdx_id: item for item in document.packages}
    (system,) = [item for item in document.packages if item.primary_package_purpose]
    parts = [
        item.related_spdx_element_id
        for item in document.relationships
        if item.spdx_element_id == system.spdx_id and item.relationship_type.name == "CONTAINS"
    ]
    listed = {(packages[part].name, part.split("-")[2], packages[part].version) for part in map(str, parts)}
    assert listed == expected
    assert len(parts) == len(listed)
    (libc,) = [packages[str(part)] for part in parts if packages[str(part)].name == "libc6"]
    assert libc.external_references[0].locator.startswith(f"pkg:deb/{system.name}/libc6@")


DPKG = """Package: one
Status: install ok installed
Architecture: all
Description: several lines
 Version: not this
Version: 1:2.0+b1~

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install ok half-configured
Architecture: amd64
Version: 1
"""


def test_packages_of_a_system(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no database"):
        installed_system(tmp_path)
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    with pytest.raises(UnsupportedError, match="rpm"):
        installed_system(tmp_path)
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir()
    status.write_text(DPKG)
    packages = [SystemPackage("one", "all", "1:2.0+b1~")]
    assert installed_system(tmp_path) == System("linux", "", packages)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('# a comment\nNAME="x=y"\nID=debian\nVERSION_ID="12"\n')
    assert installed_system(tmp_path) == System("debian", "12", packages)
    status.write_text("Package: one\nStatus: install ok installed\n")
    with pytest.raises(UnsupportedError, match="has no Architecture"):
        installed_system(tmp_path)
    status.unlink()
    status.mkdir()
    with pytest.raises(UnsupportedError, match="directory"):
        installed_system(tmp_path)


def test_documents_follow_from_the_store(chain: Chain, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for target in (one, other):
        attest(chain, target)
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
