"""One signature for every disk image: skopeo signs what holds the store, and a policy refuses all else.

GPG simple signing; the signatures lie in a directory beside the registry, as docs/trust.md shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kill_test.registry import docker_registry
from rehydrator.oci.layout import LayoutWriter
from tests.support.cli import fine, run
from tests.support.images import put_base
from tests.support.openpgp import Signatory
from tests.support.stores import flip

pytestmark = pytest.mark.oracle


@dataclass
class Publisher:
    """A registry with a container image and an artifact of one store in it, a place for signatures, and two keys."""

    root: Path
    host: str
    key: Signatory
    other: Signatory
    store: Path
    digests: dict[str, str]  # of what is in the layout, by tag

    def skopeo(self, *words: str | Path, key: Signatory | None = None) -> subprocess.CompletedProcess[str]:
        """Run skopeo under the policy, with this publisher's place for signatures."""
        command: list[str | Path] = [
            "skopeo",
            "--policy",
            self.root / "policy.json",
            "--registries.d",
            self.root / "registries.d",
        ]
        home = {"GNUPGHOME": str((key or self.key).home)}
        return subprocess.run([*command, *words], env=os.environ | home, capture_output=True, check=False, text=True)

    def policy(self, by: Signatory) -> None:
        """Trust what one key signed in this registry, what lies in layouts, and nothing else."""
        signed = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(by.public)}
        policy = {
            "default": [{"type": "reject"}],
            "transports": {"docker": {self.host: [signed]}, "oci": {"": [{"type": "insecureAcceptAnything"}]}},
        }
        (self.root / "policy.json").write_text(json.dumps(policy))

    def publish(self, tag: str, reference: str, key: Signatory | None = None) -> None:
        """Copy from the layout to the registry; sign it with a key if there is one."""
        by = ("--sign-by", key.fingerprint) if key else ()
        done = self.skopeo(
            "copy", "--dest-tls-verify=false", *by, f"oci:{self.root}/layout:{tag}", f"docker://{reference}", key=key
        )
        assert done.returncode == 0, done.stderr

    def fetch(self, reference: str, target: Path) -> str:
        """Copy from the registry to a layout, where the policy allows it; return what skopeo complains about."""
        # a layout has no place for signatures; they are checked before
        words = ("copy", "--remove-signatures", "--src-tls-verify=false")
        done = self.skopeo(*words, f"docker://{reference}", f"oci:{target}:44")
        assert (done.returncode == 0) == (done.stderr == "") == (target / "index.json").exists()
        return done.stderr


@pytest.fixture(scope="module")
def publisher(
    need: Callable[..., None], real_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Publisher]:
    need("docker-registry", "skopeo", "gpg")
    root = tmp_path_factory.mktemp("publisher")
    with LayoutWriter(root / "base") as writer:
        writer.tag(put_base(writer), "runtime")
    image = fine("build", "image", real_store, f"oci:{root}/layout:image", "--base", f"oci:{root}/base").text.strip()
    artifact = fine("push", real_store, f"oci:{root}/layout:artifact").text.strip()
    keys = [Signatory(root, name) for name in ("publisher", "other")]
    try:
        with docker_registry(root / "registry") as host:
            (root / "registries.d").mkdir()
            place = f"lookaside: file://{root}/signatures"
            (root / "registries.d" / "here.yaml").write_text(f"docker:\n  {host}:\n    {place}\n")
            made = Publisher(root, host, keys[0], keys[1], real_store, {"image": image, "artifact": artifact})
            made.policy(keys[0])
            yield made
    finally:
        for key in keys:
            key.close()


@pytest.mark.parametrize("tag", ["image", "artifact"])
def test_a_signed_store_is_trusted_down_to_the_files(publisher: Publisher, tmp_path: Path, tag: str) -> None:
    reference = f"{publisher.host}/signed/{tag}:44"
    publisher.publish(tag, reference, publisher.key)
    assert publisher.fetch(reference, tmp_path / "copy") == ""
    digest = publisher.digests[tag]
    layout = f"oci:{tmp_path}/copy"
    if tag == "image":
        told = fine("verify", "--store", publisher.store, "--image", f"{layout}:44", "--digest", digest).text
        assert "files and artifacts are right" in told
        return
    fine("rehydrate", tmp_path / "images", "--all", "--store", f"{layout}@{digest}")
    stream = json.loads((publisher.store / "stream.json").read_text())
    artifacts = stream["architectures"]["x86_64"]["artifacts"]
    published = {
        file["disk"]["uncompressed-sha256"] for item in artifacts.values() for file in item["formats"].values()
    }
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "images").iterdir()} == published


def test_the_signature_is_over_the_digest(publisher: Publisher, tmp_path: Path) -> None:
    """What a signature says can be checked without a registry: skopeo's standalone-verify."""
    reference = f"{publisher.host}/standalone/store:44"
    publisher.publish("artifact", reference, publisher.key)
    digest = publisher.digests["artifact"]
    name = f"standalone/store@{digest.replace(':', '=')}/signature-1"
    manifest = publisher.root / "layout" / "blobs" / digest.replace(":", "/")
    words = ("standalone-verify", manifest, reference, publisher.key.fingerprint, publisher.root / "signatures" / name)
    done = publisher.skopeo(*words)
    assert done.returncode == 0, done.stderr
    assert digest in done.stdout
    changed = tmp_path / "manifest"
    shutil.copy(manifest, changed)
    flip(changed, 40)
    assert publisher.skopeo(words[0], changed, *words[2:]).returncode != 0


def _unsigned(publisher: Publisher, reference: str) -> None:
    publisher.publish("image", reference)


def _signed_by_another(publisher: Publisher, reference: str) -> None:
    publisher.publish("image", reference, publisher.other)


def _moved_tag(publisher: Publisher, reference: str) -> None:
    """The tag of a signed image leads to something else by now."""
    publisher.publish("image", reference, publisher.key)
    publisher.publish("artifact", reference)


def _signature_of_another_image(publisher: Publisher, reference: str) -> None:
    publisher.publish("image", reference, publisher.key)
    publisher.publish("artifact", reference)
    repository = publisher.root / "signatures" / reference.partition("/")[2].partition(":")[0]
    image, artifact = (publisher.digests[tag].replace(":", "=") for tag in ("image", "artifact"))
    Path(f"{repository}@{image}").rename(f"{repository}@{artifact}")


def _signature_for_another_name(publisher: Publisher, reference: str) -> None:
    """Somebody moves a signed image of one product to the name of another one."""
    publisher.publish("image", f"{publisher.host}/else/store:44", publisher.key)
    publisher.publish("image", reference)
    signatures, digest = publisher.root / "signatures", publisher.digests["image"].replace(":", "=")
    repository = reference.partition("/")[2].partition(":")[0]
    shutil.copytree(signatures / f"else/store@{digest}", signatures / f"{repository}@{digest}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_unsigned, "A signature was required, but no signature exists"),
        (_signed_by_another, "Invalid GPG signature"),
        (_moved_tag, "A signature was required, but no signature exists"),
        (_signature_of_another_image, "does not match"),
        (_signature_for_another_name, "is not accepted"),
    ],
)
def test_what_the_policy_refuses(
    publisher: Publisher, tmp_path: Path, change: Callable[[Publisher, str], None], words: str
) -> None:
    reference = f"{publisher.host}/{change.__name__.strip('_')}/store:44"
    change(publisher, reference)
    assert words in publisher.fetch(reference, tmp_path / "copy")


def test_a_blob_that_the_registry_changed(publisher: Publisher, tmp_path: Path) -> None:
    """The signature is good, but a layer is another than the signed manifest names."""
    reference = f"{publisher.host}/changed/store:44"
    publisher.publish("image", reference, publisher.key)
    manifest = json.loads((publisher.root / "layout/blobs" / publisher.digests["image"].replace(":", "/")).read_text())
    sha256 = manifest["layers"][-1]["digest"].removeprefix("sha256:")
    blob = publisher.root / "registry/data/docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"
    flip(blob, 4000)
    try:
        assert sha256 in publisher.fetch(reference, tmp_path / "copy")
    finally:
        flip(blob, 4000)


def test_a_store_changed_after_it_was_signed(publisher: Publisher, tmp_path: Path) -> None:
    """Who pins the signed digest notices whatever is changed in the layout later."""
    layout = tmp_path / "copy"
    shutil.copytree(publisher.root / "layout", layout)
    digest = publisher.digests["artifact"]
    manifest = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
    for part in (manifest["config"], manifest["layers"][0]):
        blob = layout / "blobs" / part["digest"].replace(":", "/")
        flip(blob, 20)
        result = run("print-stream-json", "--store", f"oci:{layout}@{digest}")
        assert result.code == 1
        assert part["digest"].removeprefix("sha256:") in result.text + result.err
        flip(blob, 20)
