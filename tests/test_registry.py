"""Stores in a real registry and in OCI layouts: pushed, pulled, read in place, and copied by skopeo."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kill_test.registry import docker_registry
from tests.support.cli import fine, hidden, run
from tests.support.registry import HTPASSWD
from tests.support.stores import flip

pytestmark = pytest.mark.oracle
PLAIN = "--plain-http"


@pytest.fixture(scope="module")
def registry(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    need("docker-registry", "skopeo")
    with docker_registry(tmp_path_factory.mktemp("registry") / "registry") as host:
        yield host


@pytest.fixture(scope="module")
def pushed(registry: str, real_store: Path) -> tuple[str, str]:
    """The reference of the committed release's store in the registry, and its digest."""
    reference = f"{registry}/core/store:44"
    return reference, fine("push", real_store, reference, PLAIN).text.strip()


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty cache."""
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def skopeo(*words: str) -> bytes:
    done = subprocess.run(["skopeo", *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def manifest_of(reference: str) -> dict[str, Any]:
    found = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
    assert isinstance(found, dict)
    return found


def test_each_file_is_a_blob(pushed: tuple[str, str], real_store: Path) -> None:
    reference, digest = pushed
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
    manifest = manifest_of(reference)
    assert manifest["artifactType"] == "application/vnd.rehydrator.store.v1"
    assert manifest["annotations"]["org.opencontainers.image.version"] == "44.20261122.20.0"
    parts = [manifest["config"], *manifest["layers"]]
    titles = {part["annotations"]["org.opencontainers.image.title"]: part for part in parts}
    assert titles.keys() == files_of(real_store).keys()
    for name, data in files_of(real_store).items():
        assert titles[name]["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert titles[name]["size"] == len(data)
    assert titles["store.json"]["mediaType"] == "application/vnd.rehydrator.store.v1+json"
    assert titles["x86_64/canonical.raw.zst"]["mediaType"] == "application/vnd.rehydrator.canonical.v1+zstd"


def test_what_is_there_is_not_sent_again(pushed: tuple[str, str], real_store: Path) -> None:
    reference, digest = pushed
    again = fine("push", real_store, reference, PLAIN, "--progress", "plain")
    assert again.text.strip() == digest
    assert "push: 0 of " in again.err
    other = fine("push", real_store, reference.removesuffix("44") + "stable", PLAIN)
    assert other.text.strip() == digest


def test_a_newer_release_shares_what_it_has_in_common(
    pushed: tuple[str, str], real_store: Path, both_store: Path
) -> None:
    said = fine("push", both_store, pushed[0].removesuffix("44") + "45", PLAIN, "--progress", "plain").err
    sent, total = (int(word) for word in said.partition(" bytes")[0].split()[-3::2])
    old = set(files_of(real_store).values())
    new = {data for data in files_of(both_store).values() if data not in old}
    assert sent == sum(map(len, new))
    assert total == sent + sum(map(len, {data for data in files_of(both_store).values() if data in old}))
    assert sent < total / 2


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_pull(pushed: tuple[str, str], real_store: Path, tmp_path: Path, by: str) -> None:
    reference, digest = pushed
    fine("pull", reference if by == "tag" else f"{reference}@{digest}", tmp_path / "store", PLAIN)
    assert files_of(tmp_path / "store") == files_of(real_store)
    assert hidden(tmp_path) == []
    refused = run("pull", reference, tmp_path / "store", PLAIN)
    assert refused.code == 2
    assert "exists already" in refused.err


def test_commands_read_it_in_place(
    pushed: tuple[str, str], real_store: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    place = ("--store", pushed[0], PLAIN)
    for words in (("list", "--json"), ("info", "openstack", "--json"), ("print-stream-json",)):
        assert fine(*words, *place, env=cache).out == fine(*words, "--store", real_store).out
    fine("rehydrate", tmp_path / "images", "--all", *place, env=cache)
    fine("rehydrate", tmp_path / "other", "--all", "--store", real_store)
    assert files_of(tmp_path / "images") == files_of(tmp_path / "other")
    fine("verify", *place, env=cache)
    fine("explain", "--against", pushed[0], PLAIN, tmp_path / "images" / min(files_of(tmp_path / "images")), env=cache)


def test_nothing_is_fetched_twice(pushed: tuple[str, str], tmp_path: Path, cache: dict[str, str]) -> None:
    words = ("rehydrate", tmp_path / "images", "--disk", "openstack", "--store", pushed[0], PLAIN)
    fine(*words, env=cache)
    blobs = tmp_path / "cache" / "rehydrator" / "blobs"
    before = {path.name: path.stat().st_ino for path in blobs.iterdir()}
    for name in before:
        assert hashlib.sha256((blobs / name).read_bytes()).hexdigest() == name
    fine(*words, env=cache)
    assert {path.name: path.stat().st_ino for path in blobs.iterdir()} == before


def test_a_damaged_blob_of_the_cache_is_noticed(
    pushed: tuple[str, str], real_store: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    words = ("rehydrate", tmp_path / "images", "--disk", "openstack", "--store", pushed[0], PLAIN)
    fine(*words, env=cache)
    manifest = next((real_store / "x86_64" / "manifests").glob("openstack*"))
    name = hashlib.sha256(manifest.read_bytes()).hexdigest()
    flip(tmp_path / "cache" / "rehydrator" / "blobs" / name, 100)
    result = run(*words, env=cache)
    assert result.code == 1
    assert "wrong sha256" in result.err
    assert name in result.err


def test_skopeo_copies_it_both_ways(
    pushed: tuple[str, str], registry: str, real_store: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    reference, digest = pushed
    layout = f"oci:{tmp_path / 'layout'}:44"
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", layout)
    fine("pull", layout, tmp_path / "store")
    assert files_of(tmp_path / "store") == files_of(real_store)
    ours = f"oci:{tmp_path / 'ours'}"
    assert fine("push", real_store, ours).text.strip() == digest
    skopeo("copy", "--dest-tls-verify=false", f"{ours}:latest", f"docker://{registry}/copied/store:44")
    fine("verify", "--store", f"{registry}/copied/store@{digest}", PLAIN, env=cache)
    fine("push", f"{registry}/copied/store:44", f"{ours}:again", PLAIN, env=cache)
    assert fine("list", "--store", f"{ours}:again").out == fine("list", "--store", real_store).out


def test_only_who_may(need: Callable[..., None], real_store: Path, tmp_path: Path) -> None:
    """A registry with users and passwords."""
    need("docker-registry")
    login = tmp_path / "auth.json"
    with docker_registry(tmp_path / "registry", htpasswd=HTPASSWD) as host:
        reference = f"{host}/store:44"
        for password, words in (
            (None, "there are none"),
            ("wrong", "credentials are wrong"),
            ("secret", ""),
        ):
            entry = {"auth": base64.b64encode(f"reader:{password}".encode()).decode()} if password else {}
            login.write_text(json.dumps({"auths": {host: entry}}))
            env = {"REGISTRY_AUTH_FILE": str(login), "XDG_CACHE_HOME": str(tmp_path / f"cache-{password}")}
            for command in (
                ("push", real_store, reference),
                ("pull", reference, tmp_path / "store"),
                ("list", "--store", reference),
            ):
                result = run(*map(str, command), PLAIN, env=env)
                assert result.code == (2 if words else 0), result.err
                assert words in result.err
                assert "secret" not in result.err
    assert files_of(tmp_path / "store") == files_of(real_store)


def test_tls(
    need: Callable[..., None], certificate: Path, real_store: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    need("docker-registry")
    with docker_registry(tmp_path / "registry", certificate=certificate) as host:
        reference = f"{host}/store:44"
        fine("push", real_store, reference, "--ca", certificate)
        fine("list", "--store", reference, "--ca", certificate, env=cache)
        result = run("pull", reference, tmp_path / "store")
        assert result.code == 2
        assert "TLS fails" in result.err
        assert "--ca names a certificate" in result.err
        assert hidden(tmp_path) == []
        fine("pull", reference, tmp_path / "store", "--ca", certificate)
    assert files_of(tmp_path / "store") == files_of(real_store)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("list", "--store", "registry.test/store:44", PLAIN), "not reached without TLS"),
        (("pull", "No/Such", "STORE"), "no reference"),
        (("pull", "HOST/none:44", "STORE", PLAIN), "nothing under this name"),
        (("pull", "HOST/core/store:none", "STORE", PLAIN), "nothing under this name"),
        (("pull", f"HOST/core/store@sha256:{'0' * 64}", "STORE", PLAIN), "nothing under this name"),
        (("list", "--store", "oci:none"), "no OCI image layout"),
        (("push", "none", "HOST/store:44", PLAIN), "no rehydrator store here"),
        (("list", "--store", "HOST/core/store:44", "--ca", __file__), "no certificates"),
    ],
)
def test_what_is_not_there(
    pushed: tuple[str, str], registry: str, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    put = {"STORE": str(tmp_path / "store")}
    result = run(*(put.get(word, word.replace("HOST", registry)) for word in words), cwd=tmp_path)
    assert result.code == 2
    assert complaint in result.err
    assert len(result.complaints) == 1
    assert "internal" not in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("victim", ["manifest", "index", "blob", "canonical", "gone", "tag"])
def test_tampered_layouts(real_store: Path, tmp_path: Path, victim: str) -> None:
    """What somebody changed in a layout is named."""
    layout = tmp_path / "layout"
    digest = fine("push", real_store, f"oci:{layout}:44").text.strip()
    blobs = layout / "blobs" / "sha256"

    def of(name: str) -> Path:
        return blobs / hashlib.sha256((real_store / name).read_bytes()).hexdigest()

    words = {
        "manifest": digest,
        "index": of("store.json").name,
        "blob": of("stream.json").name,
        "canonical": of("x86_64/canonical.raw.zst").name,
        "gone": of("x86_64/canonical.raw.zst").name,
        "tag": "no tag '44'",
    }[victim]
    match victim:
        case "manifest":
            flip(blobs / digest.removeprefix("sha256:"), 40)
        case "gone":
            (blobs / words).unlink()
        case "tag":
            (layout / "index.json").write_text((layout / "index.json").read_text().replace('"44"', '"45"'))
        case _:
            flip(blobs / words, 40)
    result = run("pull", f"oci:{layout}:44", tmp_path / "store")
    assert result.code in {1, 2}
    assert words in result.err, result.err
    assert not (tmp_path / "store").exists()
