"""Registries that drop, refuse, forget, lie and lose: what comes and goes is right, or an error says what is not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator import push as pushing
from rehydrator.errors import FetchError, MismatchError, RehydratorError, StoreDamagedError, UsageError
from rehydrator.manifest.schema import File
from rehydrator.oci.artifact import FileType
from rehydrator.oci.c_oci import Descriptor
from rehydrator.oci.reference import RegistryReference, parse_reference
from rehydrator.progress import Progress
from rehydrator.pull import pull
from rehydrator.registry import repository as repositories
from rehydrator.registry import upload as uploads
from rehydrator.registry.access import Access
from rehydrator.registry.cache import Cache
from rehydrator.registry.origin import RemoteOrigin
from rehydrator.registry.repository import Repository
from rehydrator.store.reader import Store
from rehydrator.transport.client import Patience
from tests.support import registry, server
from tests.support.cli import fine
from tests.support.registry import Small, serving_registry
from tests.support.server import Act, Site, serving

QUICK = Patience(connect=5, read=20, floor=1, retries=2, pause=0)
PIECE = 100_000
PUSHED = "/v2/store/blobs/uploads/*"
TAG = "/v2/store/manifests/44"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the canonical disk of the fixture be a large file."""
    monkeypatch.setattr(uploads, "PIECE", PIECE)
    monkeypatch.setattr(repositories, "_AT_ONCE", PIECE)


@pytest.fixture
def site() -> Iterator[Small]:
    with serving_registry(Small()) as running:
        yield running


@pytest.fixture
def full(site: Small, real_store: Path) -> Small:
    """The registry with the store of the committed release."""
    push(site, real_store)
    site.calls.clear()
    site.sent = 0
    return site


def repository(site: Site, words: str = "store:44") -> Repository:
    reference = parse_reference(site.url.removeprefix("http://") + "/" + words)
    assert isinstance(reference, RegistryReference)
    return Repository(reference, Access(plain_http=True), Progress(), QUICK)


def push(site: Site, store: Path) -> Descriptor:
    with Store(store) as opened:
        return pushing.push(opened, repository(site), None, Progress())


def path_of(store: Path, name: str) -> str:
    return f"/v2/store/blobs/sha256:{hashlib.sha256((store / name).read_bytes()).hexdigest()}"


def same(a: Path, b: Path) -> bool:
    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return files(a) == files(b)


# What the registry does instead, by method and path -> how it goes on; the canonical disk is sent by PATCH
PUSHES: dict[str, dict[str, list[Act]]] = {
    "as it should": {},
    "is busy": {
        "HEAD *": [registry.refuse(503)] * 2, "POST *": [registry.refuse(429)], f"PUT {TAG}": [registry.refuse(500)]
    },
    "hangs up within a piece": {f"PATCH {PUSHED}": [registry.swallow(PIECE // 3), registry.swallow(1000)]},
    "hangs up before each piece": {f"PATCH {PUSHED}": [registry.swallow(0)] * 2},
    "fails after it took a piece": {f"PATCH {PUSHED}": [registry.swallow(PIECE)] * 2},
    "forgets an upload": {f"PATCH {PUSHED}": [registry.swallow(PIECE), registry.forget]},
    "forgets it at the end": {f"PUT {PUSHED}": [registry.forget]},
    "does not know how far it is": {
        f"PATCH {PUSHED}": [registry.swallow(10)], f"GET {PUSHED}": [server.status(204)]
    },
}  # fmt: skip


@pytest.mark.parametrize("acts", PUSHES.values(), ids=PUSHES.keys())
def test_push(site: Small, real_store: Path, tmp_path: Path, acts: dict[str, list[Act]]) -> None:
    site.acts = {key: list(value) for key, value in acts.items()}
    made = push(site, real_store)
    assert not any(site.acts.values()), "not everything happened"
    assert f"sha256:{hashlib.sha256(site.files[TAG]).hexdigest()}" == made.digest
    pull(repository(site), tmp_path / "store", Progress())
    assert same(tmp_path / "store", real_store)


def test_a_piece_that_arrived_is_not_sent_again(site: Small, real_store: Path) -> None:
    site.acts = {f"PATCH {PUSHED}": [registry.swallow(PIECE), registry.swallow(PIECE // 2)]}
    push(site, real_store)
    size = (real_store / "x86_64" / "canonical.raw.zst").stat().st_size
    assert sum(call.startswith("PATCH") for call in site.calls) == -(-size // PIECE) + 1  # one was sent by halves


REFUSALS: dict[str, tuple[dict[str, list[Act]], type[RehydratorError], str]] = {
    "busy for too long": ({"HEAD *": [registry.refuse(503)] * 20}, FetchError, "503"),
    "a repository that is not ours": ({"POST *": [registry.refuse(403)] * 9}, FetchError, "status 403"),
    "other bytes arrived": (
        {f"PUT {PUSHED}": [registry.refuse(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "other"}]}')] * 9},
        FetchError, "refuses: DIGEST_INVALID other",
    ),
    "no place for the rest": ({"POST *": [server.status(202)] * 9}, FetchError, "does not say where"),
    "too large": ({f"PATCH {PUSHED}": [registry.refuse(413)]}, FetchError, "status 413"),
    "a manifest that it does not want": (
        {f"PUT {TAG}": [registry.refuse(400, b'{"errors": [{"code": "MANIFEST_INVALID"}]}')]},
        FetchError, "MANIFEST_INVALID",
    ),
    "a manifest that it changes": (
        {f"PUT {TAG}": [server.other(b"", 201, Docker_Content_Digest="sha256:" + "0" * 64)]},
        MismatchError, "another manifest than was sent",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("acts", "error", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_push_is_refused(
    site: Small, real_store: Path, acts: dict[str, list[Act]], error: type[RehydratorError], words: str
) -> None:
    site.acts = acts
    with pytest.raises(error, match=words):
        push(site, real_store)
    assert TAG not in site.files  # the tag appears last


def test_a_damaged_store_is_not_pushed(site: Small, real_store: Path, tmp_path: Path) -> None:
    shutil.copytree(real_store, tmp_path / "store")
    canonical = tmp_path / "store" / "x86_64" / "canonical.raw.zst"
    canonical.write_bytes(canonical.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreDamagedError, match="canonical"):
        push(site, tmp_path / "store")
    assert TAG not in site.files


PULLS: dict[str, list[Act]] = {
    "drops the connection": [server.drop(300_000), server.drop(200_000)],
    "is busy": [server.status(503), server.status(429)],
    "has no ranges": [server.drop(300_000), server.without_ranges],
    "sends other bytes once": [lambda handler, data: handler.answer(200, bytes(len(data)))],
    "does not tell the length": [server.chunked()],
}


@pytest.mark.parametrize("acts", PULLS.values(), ids=PULLS.keys())
def test_pull(full: Small, real_store: Path, tmp_path: Path, acts: list[Act]) -> None:
    full.acts = {f"GET {path_of(real_store, 'x86_64/canonical.raw.zst')}": list(acts)}
    pull(repository(full), tmp_path / "store", Progress())
    assert not any(full.acts.values())
    assert same(tmp_path / "store", real_store)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


LIES: dict[str, tuple[str, Callable[[bytes], bytes | None], type[RehydratorError], str]] = {
    "another canonical": (
        "x86_64/canonical.raw.zst",
        lambda data: data[:-1] + b"x",
        MismatchError,
        "canonical.raw.zst",
    ),
    "a short canonical": ("x86_64/canonical.raw.zst", lambda data: data[:-1], MismatchError, "canonical.raw.zst"),
    "a longer canonical": ("x86_64/canonical.raw.zst", lambda data: data + b"x", MismatchError, "canonical.raw.zst"),
    "another small file": ("stream.json", lambda data: data[:-1] + b"x", MismatchError, "stream.json"),
    "a longer small file": ("stream.json", lambda data: data + b"x", MismatchError, "stream.json"),
    "another index": ("store.json", lambda data: data.replace(b"44", b"45", 1), MismatchError, "blobs/sha256"),
    "no canonical": ("x86_64/canonical.raw.zst", lambda _: None, FetchError, "404"),
    "no small file": ("stream.json", lambda _: None, FetchError, "404"),
}


@pytest.mark.parametrize(("name", "change", "error", "words"), LIES.values(), ids=LIES.keys())
def test_what_is_wrong_is_named(
    full: Small,
    real_store: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[bytes], bytes | None],
    error: type[RehydratorError],
    words: str,
) -> None:
    path = path_of(real_store, name)
    changed = change(full.files.pop(path))
    if changed is not None:
        full.files[path] = changed
    with pytest.raises(error, match=words):
        pull(repository(full), tmp_path / "store", Progress())
    assert not (tmp_path / "store").exists()
    cache = Cache(tmp_path / "cache")
    with pytest.raises(error, match=words), Store(RemoteOrigin(repository(full), cache, Progress())) as store:
        store.bring(list(store.files()))
    wanted = path.rpartition(":")[2]
    assert not (tmp_path / "cache" / wanted).exists()


@pytest.mark.parametrize("by", ["header", "digest"])
def test_another_manifest_than_asked_for(full: Small, tmp_path: Path, by: str) -> None:
    digest = f"sha256:{hashlib.sha256(full.files[TAG]).hexdigest()}"
    other = full.files[TAG].replace(b"44.2026", b"45.2026", 1)
    words = "store:44"
    if by == "header":
        full.acts = {f"GET {TAG}": [server.other(other, Docker_Content_Digest=digest)]}
    else:
        full.files[TAG.replace("44", digest)] = other
        words = f"store@{digest}"
    with pytest.raises(MismatchError, match="another manifest") as caught:
        pull(repository(full, words), tmp_path / "store", Progress())
    assert caught.value.expected == digest


def hostile(media_type: str, digest: str, size: int) -> bytes:
    """A manifest whose config is described in this way."""
    config = {"mediaType": media_type, "digest": digest, "size": size}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"", "not a valid Manifest"),
        (b"{}", "not a valid Manifest"),
        (b"[" * 100_000, "not a valid Manifest"),
        (b" " * (5 << 20), "too large"),
        (hostile("application/vnd.example.config.v1+json", "sha256:x", 2), "no rehydrator store"),
        (hostile("application/vnd.oci.image.config.v1+json", "sha256:x", 2), "digest of an unknown kind"),
        (hostile(FileType.INDEX, "sha256:../../../../etc/passwd", 2), "digest of an unknown kind"),
        (hostile(FileType.INDEX, f"sha256:{'0' * 64}", 1 << 40), "too large"),
        (hostile(FileType.INDEX, f"sha256:{'0' * 64}", -1), "too large"),
    ],
)
def test_hostile_manifests(site: Small, tmp_path: Path, manifest: bytes, words: str) -> None:
    site.files[TAG] = manifest
    with pytest.raises(RehydratorError, match=words):
        pull(repository(site), tmp_path / "store", Progress())
    assert list(tmp_path.iterdir()) == []


def login(monkeypatch: pytest.MonkeyPatch, path: Path, site: Site, **entry: str) -> None:
    host = site.url.removeprefix("http://")
    path.write_text(json.dumps({"auths": {host: entry}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))


def test_tokens(full: Small, real_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is asked for once for all requests, and again when the registry does not take it any more."""
    full.token = "first"
    asked: list[tuple[str, str | None]] = []

    def give(handler: server.Handler, _: bytes) -> None:
        asked.append((handler.path, handler.headers.get("Authorization")))
        handler.answer(200, json.dumps({"token": full.token}).encode())

    login(monkeypatch, tmp_path / "auth.json", full, auth="dTpw")
    site = Site(acts={})
    with serving(site) as tokens:
        full.realm = tokens.url + "/token?x=1"
        path = "/token?x=1&service=small&scope=repository%3Ar%3Apull%2Cpush"
        site.acts[path] = [give, give]
        pull(repository(full), tmp_path / "store", Progress())
        assert asked == [(path, "Basic dTpw")]
        place = repository(full)
        found, _ = place.resolve()
        assert len(asked) == 2
        full.token, site.acts[path] = "second", [give]
        place.read(found)
        assert len(asked) == 3
    assert same(tmp_path / "store", real_store)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (server.status(401), "credentials are wrong"),
        (server.status(403), "credentials are wrong"),
        (server.other(b"nonsense"), "no token that can be read"),
        (server.other(b'{"token": ""}'), "no token that can be used"),
        (server.other(b'{"token": "a\\nb"}'), "no token that can be used"),
        (server.other(b'{"token": "refused"}'), "refuses access"),
    ],
)
def test_tokens_that_do_not_help(
    full: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Act, words: str
) -> None:
    """No loop, and no traceback."""
    full.token = "right"
    login(monkeypatch, tmp_path / "auth.json", full, identitytoken="long")
    with serving(Site()) as tokens:
        full.realm = tokens.url + "/token"
        tokens.acts["/token"] = [answer] * 3
        with pytest.raises(FetchError, match=words):
            repository(full).resolve()
        assert len(tokens.seen) == 1


def test_a_realm_that_is_no_address(full: Small) -> None:
    full.token, full.realm = "right", "file:///etc/passwd"
    with pytest.raises(FetchError, match="has no address"):
        repository(full).resolve()


def test_blobs_on_another_server(full: Small, real_store: Path, tmp_path: Path) -> None:
    """Registries send their clients to where the blobs lie."""
    path = path_of(real_store, "x86_64/canonical.raw.zst")
    with serving(Site({"/there": full.files[path]}, {"/there": [server.drop(200_000)]})) as other:
        full.acts = {f"GET {path}": [server.status(307, Location=f"{other.url}/there")] * 2}
        pull(repository(full), tmp_path / "store", Progress())
        assert [seen[1] for seen in other.seen] == ["", "bytes=200000-"]
    assert same(tmp_path / "store", real_store)


def test_a_registry_that_is_not_there() -> None:
    with pytest.raises(FetchError, match="cannot be reached"):
        repository(Site(url="http://127.0.0.1:1")).resolve()


def test_another_server_is_told_no_credentials(
    full: Small, real_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a registry sends its clients, what authorizes them stays."""
    full.token = "secret"
    login(monkeypatch, tmp_path / "auth.json", full, auth="dTpw")
    told: list[str | None] = []

    def serve(handler: server.Handler, data: bytes) -> None:
        told.append(handler.headers.get("Authorization"))
        kind = "application/vnd.oci.image.manifest.v1+json"
        handler.answer(200, data, Content_Type=kind)

    moved = {path_of(real_store, name): serve for name in ("stream.json", "x86_64/canonical.raw.zst")} | {TAG: serve}
    with serving(Site({path: full.files[path] for path in moved})) as other:
        asked = "/token?service=small&scope=repository%3Ar%3Apull%2Cpush"
        acts: dict[str, Act] = {**moved, asked: server.other(b'{"token": "secret"}')}
        other.acts = {path: [act] for path, act in acts.items()}
        full.realm = f"{other.url}/token"
        full.acts = {f"GET {path}": [server.status(307, Location=other.url + path)] for path in moved}
        full.acts[f"GET {TAG}"].insert(0, server.status(401))  # taken by the request that is refused
        pull(repository(full), tmp_path / "store", Progress())
    assert told == [None] * len(moved)
    assert same(tmp_path / "store", real_store)


@pytest.mark.parametrize("name", ["", "store.json", "stream.json", "x86_64/canonical.raw.zst"])
def test_an_endless_body_is_bounded(full: Small, real_store: Path, tmp_path: Path, name: str) -> None:
    path = path_of(real_store, name) if name else TAG
    full.files[path] = bytes(1 << 20)
    full.acts = {f"GET {path}": [server.endless] * 9}
    with pytest.raises(MismatchError, match=r"larger than|too large"):
        pull(repository(full), tmp_path / "store", Progress())
    assert not (tmp_path / "store").exists()


def test_a_tag_that_moves_meanwhile(full: Small, real_store: Path, tmp_path: Path) -> None:
    """A run asks for the tag once; all else is fetched by digest."""
    digest = hashlib.sha256(full.files[TAG]).hexdigest()
    source = repository(full)
    with Store(RemoteOrigin(source, Cache(tmp_path / "cache"), Progress())) as store:
        full.files[TAG] = hostile(FileType.INDEX, f"sha256:{'0' * 64}", 2)
        store.bring(list(store.files()))
    assert [call for call in full.calls if "manifests" in call] == [f"GET {TAG}"]
    pull(repository(full, f"store:44@sha256:{digest}"), tmp_path / "store", Progress())
    assert same(tmp_path / "store", real_store)


def test_pull_goes_on_where_it_ended(full: Small, real_store: Path, tmp_path: Path) -> None:
    path = path_of(real_store, "x86_64/canonical.raw.zst")
    full.acts = {f"GET {path}": [server.drop(600_000), server.status(404)]}
    with pytest.raises(FetchError, match="404"):
        pull(repository(full), tmp_path / "store", Progress())
    assert [entry.name for entry in tmp_path.iterdir()] == [".store.pulling"]
    (tmp_path / ".store.pulling" / "stream.json").write_bytes(b"of another release")
    full.calls.clear()
    full.sent = 0
    pull(repository(full), tmp_path / "store", Progress())
    assert same(tmp_path / "store", real_store)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    total = sum(entry.stat().st_size for entry in real_store.rglob("*") if entry.is_file())
    assert full.sent < total - 500_000


def test_two_pulls_at_once(full: Small, tmp_path: Path) -> None:
    from rehydrator.store.arrival import Arrival

    with Arrival(tmp_path / "store"), pytest.raises(UsageError, match="another process"):
        pull(repository(full), tmp_path / "store", Progress())


def test_a_place_that_somebody_laid(full: Small, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".store.pulling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RehydratorError, match="cannot be created"):
        pull(repository(full), tmp_path / "store", Progress())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_one_platform_transfers(full: Small, real_store: Path, tmp_path: Path) -> None:
    """Bytes of bodies, counted at the registry: the canonical disk and little else."""
    place = f"{full.url.removeprefix('http://')}/store:44"
    words = ("--store", place, "--plain-http")
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    fine("rehydrate", tmp_path / "images", "--disk", "openstack", *words, env=env)
    canonical = (real_store / "x86_64" / "canonical.raw.zst").stat().st_size
    assert canonical < full.sent <= canonical + 200_000
    full.sent = 0
    fine("rehydrate", tmp_path / "images", "--disk", "qemu", *words, env=env)
    assert full.sent < 50_000
    full.sent = 0
    fine("list", *words, env={"XDG_CACHE_HOME": str(tmp_path / "other")})
    assert full.sent < 50_000


def cached(root: Path, bound: int, sizes: dict[str, int]) -> list[str]:
    """Put blobs of sizes, used in this order, into a cache and let it go; return the names that are left."""
    cache = Cache(root, bound)
    for age, (digit, size) in enumerate(sizes.items()):
        path = cache.path(File("blob", size, digit * 64))
        path.write_bytes(bytes(size))
        os.utime(path, ns=(0, time.time_ns() - 10**12 + age * 10**9))
    cache.close()
    return sorted(path.name[0] for path in root.iterdir())


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    assert cached(tmp_path / "a", 100, {"1": 60, "2": 60, "3": 30}) == ["2", "3"]
    assert cached(tmp_path / "b", 10, {"1": 60}) == []
    root = tmp_path / "c"
    assert cached(root, 100, {"1": 40, "2": 40}) == ["1", "2"]
    cache = Cache(root, 50)  # trims when it begins: the one used last stays
    assert [path.name[0] for path in root.iterdir()] == ["2"]
    cache.close()


def test_the_cache_of_another_process_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    cached(root, 100, {"1": 40, "2": 40})
    other = Cache(root, 100)
    Cache(root, 0).close()
    assert other.has(File("blob", 40, "1" * 64))
    assert not other.has(File("blob", 41, "1" * 64))
    assert not other.has(File("blob", 40, "3" * 64))
    other.close()
    with pytest.raises(StoreDamagedError):
        other.path(File("blob", 40, "../1"))


def test_a_cache_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "cache"
    cached(root, 100, {"1": 40, "2": 40})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    cache = Cache(root, 50)
    assert cache.has(File("blob", 40, "1" * 64))
    cache.close()
