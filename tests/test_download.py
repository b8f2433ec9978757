"""From the name of a stream to checked files: what is asked for, what servers do, what is trusted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rehydrator import download as flow
from rehydrator.errors import FetchError, InputError, MismatchError, NotFoundError, RehydratorError, UsageError
from rehydrator.progress import Progress
from rehydrator.release.document import MAX_DOCUMENT
from rehydrator.release.sources import SOURCES, addresses_of
from rehydrator.release.workdir import BuildState, Wish, WorkDirectory
from rehydrator.transport.client import Client, Patience
from rehydrator.transport.partial import partial_path
from tests.support import server
from tests.support.cli import PROGRAM, environment, fails, fine, run
from tests.support.openpgp import Signatory
from tests.support.server import Act, Site, serving
from tests.support.stream_site import STREAM, StreamSite

METAL = "fedora-coreos-44.20261122.20.0-metal.x86_64.raw.xz"
QEMU = "fedora-coreos-44.20261122.20.0-qemu.x86_64.qcow2.xz"
BUILD = "builds/44.20261122.20.0/x86_64"
QUICK = Patience(connect=5, read=20, retries=2, pause=0)
INSTALLER = "https://raw.githubusercontent.com/openshift/installer/release-"


@pytest.fixture(scope="module")
def signatory(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signatory]:
    need("gpg")
    made = Signatory(tmp_path_factory.mktemp("keys"), "release")
    yield made
    made.close()


@pytest.fixture(scope="module")
def _signatures() -> dict[bytes, bytes]:
    return {}


@pytest.fixture
def remote(release_dir: Path, signatory: Signatory, _signatures: dict[bytes, bytes]) -> Iterator[StreamSite]:
    """The release of the fixtures on a web server."""

    def sign(data: bytes) -> bytes:
        if data not in _signatures:
            _signatures[data] = signatory.sign(data)
        return _signatures[data]

    with serving(Site()) as site:
        yield StreamSite(site, sign, release_dir)


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(QUICK) as made:
        yield made


def begin(remote: StreamSite, root: Path, client: Client, wish: Wish | None = None) -> WorkDirectory:
    remote.publish()
    return flow.init(remote.address, root, wish or Wish(), {}, client, Progress())


def get(work: WorkDirectory, client: Client, signatory: Signatory | None) -> list[flow.Fetched]:
    keys = (signatory.public,) if signatory else ()
    return flow.download(work, flow.Settings(2, keys, signatory is None), client, Progress())


def here(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


ADDRESSES = {
    "fcos-stable": ["https://builds.coreos.fedoraproject.org/streams/stable.json"],
    "fcos-next": ["https://builds.coreos.fedoraproject.org/streams/next.json"],
    "rhcos-4.8": [
        f"{INSTALLER}4.8/data/data/coreos/rhcos.json",
        f"{INSTALLER}4.8/data/data/coreos/coreos-rhel-9.json",
        f"{INSTALLER}4.8/data/data/rhcos-stream.json",
    ],
    "scos-4.20": [f"{INSTALLER}4.20/data/data/coreos/scos.json"],
    "own-4.20-x": ["http://mirror/4.20-x/stream.json", "http://other/4.20-x"],
    "own-special-1": ["http://special/1"],
    "exact": ["http://exact/stream"],
}
OWN = {
    "own-": ["http://mirror/{}/stream.json", "http://other/{}"],
    "own-special-": ["http://special/{}"],
    "exact": ["http://exact/stream"],
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses(name: str) -> None:
    assert addresses_of(name, OWN) == ADDRESSES[name]


def test_own_sources_win() -> None:
    assert addresses_of("fcos-stable", {"fcos-": ["http://mirror/{}"]}) == ["http://mirror/stable"]


@pytest.mark.parametrize("name", ["", "stable", "fcos-", "fcos-../x", "fcos-a/b", "rhcos-4.8?x", "rhcos-4 8"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError):
        addresses_of(name, {})


def test_sources_are_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "inputs.md").read_text(encoding="utf-8")
    for name, addresses in SOURCES.items():
        rows = [line for line in text.splitlines() if line.startswith(f"| `{name}")]
        assert len(rows) == 1
        assert rows[0].split("`")[5::2] == [item.replace("{}", "…") for item in addresses]


def test_init_by_name(remote: StreamSite, tmp_path: Path) -> None:
    """The second address is taken where the first is not there."""
    sources = tmp_path / "sources.json"
    sources.write_text(
        json.dumps({"mine-": [f"{remote.site.url}/no/{{}}.json", f"{remote.site.url}/streams/{{}}.json"]})
    )
    told = fine("build", "init", "mine-testing", tmp_path / "work", "--sources", sources).text
    assert told == f"testing from {remote.address}: 3 files; x86_64 44.20261122.20.0\n"
    state = json.loads((tmp_path / "work" / "build.json").read_bytes())
    assert (state["version"], state["stream"], state["source"]) == ("1.0", "testing", remote.address)
    assert (tmp_path / "work" / "stream.json").read_bytes() == remote.site.files[STREAM]
    fails(2, ["404 Not Found", "/streams/x.json"], "build", "init", "mine-x", tmp_path / "x", "--sources", sources)
    assert not (tmp_path / "x").exists()


def test_init_from_a_file_and_again(remote: StreamSite, tmp_path: Path) -> None:
    stream = tmp_path / "my-stream.json"
    stream.write_bytes(remote.site.files[STREAM])
    work = tmp_path / "work"
    fine("build", "init", stream, work, "--platform", "qemu", "--arch", "x86_64")
    assert [item.name for item in WorkDirectory(work).listed()] == [METAL, QEMU]
    fine("build", "init", stream, work)
    assert len(WorkDirectory(work).listed()) == 3
    stream.write_text(json.dumps(remote.document | {"stream": "stable"}))
    fails(2, ["another stream", "testing", "build clean"], "build", "init", stream, work)
    fine("build", "clean", work)
    assert not work.exists()


def test_init_looks_at_its_place_before_it_fetches(
    remote: StreamSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    fails(2, ["file/work", "cannot be created"], "build", "init", remote.address, tmp_path / "file" / "work")
    place = ("--work", tmp_path / "full")
    fails(2, ["full", "no build begins there"], "build", "run", remote.address, tmp_path / "store", *place)
    monkeypatch.setattr("os.access", lambda _path, mode, **_: not mode & os.W_OK)
    fails(2, [f"{tmp_path}: cannot be written to"], "build", "init", remote.address, tmp_path / "a" / "b")
    assert remote.site.seen == []
    assert here(tmp_path) == ["file", "full/x"]


def test_init_spares_what_is_not_its_own(remote: StreamSite, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "full")
    for name in ("full", "file", "link"):
        fails(2, ["no build begins there", name], "build", "init", remote.address, tmp_path / name)
        fails(2, ["no build begins here", name], "build", "clean", tmp_path / name)
    assert here(tmp_path) == ["file", "full/x"]


def _rename(entry: dict[str, Any], name: str) -> None:
    entry["location"] = entry["location"].rpartition("/")[0] + "/" + name


BAD_STREAMS: dict[str, tuple[Callable[[StreamSite], object], type[RehydratorError], str]] = {
    "two of a name": (lambda it: _rename(it.files[0], QEMU), InputError, "two files of the same name"),
    "no name": (lambda it: it.files[0].update(location="https://example.com/"), InputError, "no file name"),
    "a way up": (lambda it: _rename(it.files[0], ".."), InputError, "no file name"),
    "a hidden way up": (lambda it: _rename(it.files[0], "%2e%2e"), InputError, "no file name"),
    "a name as an option": (lambda it: _rename(it.files[0], "-rf"), InputError, "not a plain name"),
    "a name with zero": (lambda it: _rename(it.files[0], "a%00b"), InputError, "not a plain name"),
    "a release that leads up": (
        lambda it: it.document["architectures"]["x86_64"]["artifacts"]["qemu"].update(release=".."),
        InputError,
        "not a plain name",
    ),
    "an architecture that leads away": (
        lambda it: it.document["architectures"].update({"/etc": it.document["architectures"].pop("x86_64")}),
        InputError,
        "not a plain name",
    ),
    "nothing": (lambda it: it.document["architectures"].clear(), InputError, "lists no file"),
    "no architectures": (lambda it: it.document.pop("architectures"), MismatchError, "architectures"),
}


@pytest.mark.parametrize("case", BAD_STREAMS)
def test_bad_stream_metadata(remote: StreamSite, client: Client, tmp_path: Path, case: str) -> None:
    change, kind, words = BAD_STREAMS[case]
    change(remote)
    with pytest.raises(kind, match=words):
        begin(remote, tmp_path / "work", client)
    assert here(tmp_path) == []


@pytest.mark.parametrize("path", ["/dev/zero", "large.json"])
def test_a_local_document_is_read_within_bounds(tmp_path: Path, path: str) -> None:
    file = tmp_path / path
    if not file.exists():
        file.touch()
        os.truncate(file, MAX_DOCUMENT + 1)
    fails(2, [str(file), "too large", f"at most {MAX_DOCUMENT}"], "build", "init", file, tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(("s390x",)), "no architecture 's390x'.*x86_64"),
        (Wish((), ("aws", "qemu")), "no platform 'aws'.*openstack"),
    ],
)
def test_wishes_that_cannot_be_met(remote: StreamSite, client: Client, tmp_path: Path, wish: Wish, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        begin(remote, tmp_path / "work", client, wish)


def moved(handler: server.Handler, _: bytes) -> None:
    """Send the client elsewhere, where the file is."""
    handler.site.files["/elsewhere"] = handler.site.files[handler.path]
    handler.answer(302, b"", Location="/elsewhere")


# What the server does at the first requests for the qemu disk; each is overcome.
GOOD_ACTS: dict[str, list[Act]] = {
    "as it should": [],
    "drops": [server.drop(1000), server.drop(200_000)],
    "busy": [server.status(503), server.status(429)],
    "redirects": [moved],
    "wrong once": [server.other(b"other")],
    "without ranges": [server.drop(1000), server.without_ranges],
    "chunks": [server.chunked(5000)],
}


@pytest.mark.parametrize("case", GOOD_ACTS)
def test_what_is_overcome(
    remote: StreamSite, client: Client, signatory: Signatory, release_dir: Path, tmp_path: Path, case: str
) -> None:
    work = begin(remote, tmp_path / "work", client)
    remote.site.acts[remote.paths[QEMU]] = list(GOOD_ACTS[case])
    fetched = get(work, client, signatory)
    assert {str(item.signer) for item in fetched} == {f"{signatory.name} ({signatory.fingerprint})"}
    for item in fetched:
        place = work.place(item.listed)
        assert place.read_bytes() == (release_dir / BUILD / place.name).read_bytes()
    assert here(work.root / BUILD) == sorted(name + end for name in remote.paths for end in ("", ".sig"))
    assert WorkDirectory(work.root).state.signers == dict.fromkeys(remote.paths, signatory.fingerprint)


BAD_ACTS: dict[str, tuple[str, list[Act], type[RehydratorError], str]] = {
    "wrong bytes": (QEMU, [server.other(b"other")] * 2, MismatchError, f"{QEMU}: has another sha256"),
    "gone": (QEMU, [server.status(404)], NotFoundError, f"{QEMU}: the server answers 404"),
    "busy for ever": (QEMU, [server.status(500)] * 3, FetchError, f"{QEMU}: the server answers 500"),
    "no signature": (f"{QEMU}.sig", [server.status(404)], NotFoundError, f"{QEMU}.sig: the server answers 404"),
    "another's signature": (f"{QEMU}.sig", [server.other(b"x")], MismatchError, f"{QEMU}: there is no signature"),
    "a huge signature": (f"{QEMU}.sig", [server.endless], MismatchError, f"{QEMU}.sig: is too large"),
}


@pytest.mark.parametrize("case", BAD_ACTS)
def test_what_is_refused(remote: StreamSite, client: Client, signatory: Signatory, tmp_path: Path, case: str) -> None:
    """Nothing wrong gets a name; afterwards the same command succeeds."""
    name, acts, kind, words = BAD_ACTS[case]
    work = begin(remote, tmp_path / "work", client)
    path = remote.paths[name.removesuffix(".sig")] + (".sig" if name.endswith(".sig") else "")
    remote.site.acts[path] = list(acts)
    with pytest.raises(kind, match=words):
        get(work, client, signatory)
    assert not (work.root / BUILD / QEMU).exists()
    assert WorkDirectory(work.root).state.signers == {}
    with Client(QUICK) as another:
        assert len(get(work, another, signatory)) == 3


def test_what_is_here_is_checked_again(
    remote: StreamSite, client: Client, signatory: Signatory, tmp_path: Path
) -> None:
    work = begin(remote, tmp_path / "work", client)
    get(work, client, None)
    metal, qemu = (work.root / BUILD / name for name in (METAL, QEMU))
    qemu.write_bytes(b"damaged")
    remote.site.seen.clear()
    get(work, client, signatory)
    assert [path for path, _ in remote.site.seen if not path.endswith(".sig")] == [remote.paths[QEMU]]
    remote.site.files[remote.paths[METAL] + ".sig"] = signatory.sign(b"other")
    with pytest.raises(MismatchError, match=f"{METAL}: the signature is wrong"):
        get(work, client, signatory)
    assert metal.exists()


def test_signatures_have_to_be_wanted_or_not(
    remote: StreamSite, client: Client, signatory: Signatory, tmp_path: Path
) -> None:
    work = begin(remote, tmp_path / "work", client)
    with pytest.raises(UsageError, match="--skip-signatures"):
        flow.download(work, flow.Settings(), client, Progress())
    both = ("--skip-signatures", "--key", signatory.public)
    fails(2, ["skipped and checked"], "build", "download", work.root, *both)
    told = fine("build", "download", work.root, "--skip-signatures", env={"REHYDRATOR_KEYS": str(signatory.public)})
    assert "signatures not checked" in told.text
    remote.files[1].pop("signature")
    work = begin(remote, work.root, client)
    with pytest.raises(UsageError, match="1 of 3 files have no signature"):
        get(work, client, signatory)
    assert {item.signer for item in get(work, client, None)} == {None}


def test_a_signature_that_nobody_checks_may_be_missing(remote: StreamSite, client: Client, tmp_path: Path) -> None:
    work = begin(remote, tmp_path / "work", client)
    del remote.site.files[remote.paths[QEMU] + ".sig"]
    get(work, client, None)
    assert f"{QEMU}.sig" not in here(work.root / BUILD)
    assert f"{METAL}.sig" in here(work.root / BUILD)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/disk.raw.xz", "disk.raw.xz"])
def test_locations_that_are_not_on_the_web(remote: StreamSite, client: Client, tmp_path: Path, location: str) -> None:
    remote.files[0]["location"] = location
    work = begin(remote, tmp_path / "work", client)
    with pytest.raises(UsageError, match="no address"):
        get(work, client, None)


def test_a_stream_file_that_was_changed(remote: StreamSite, client: Client, tmp_path: Path) -> None:
    work = begin(remote, tmp_path / "work", client)
    get(work, client, None)
    path = work.root / "stream.json"
    path.write_bytes(path.read_bytes().replace(b"testing", b"testink"))
    for command in (("build", "download", work.root), ("build", "dehydrate", work.root, tmp_path / "store")):
        fails(1, [str(path), "was changed since"], *command)


def test_resumed_after_a_kill(remote: StreamSite, signatory: Signatory, tmp_path: Path, release_dir: Path) -> None:
    work = tmp_path / "work"
    fine("build", "init", remote.address, work)
    path = remote.paths[QEMU]
    remote.site.acts[path] = [server.stall(300_000)]
    command = [*PROGRAM, "build", "download", str(work), "--key", str(signatory.public), "--jobs", "1"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        assert remote.site.stalled.wait(120)
        part = partial_path(work / BUILD / QEMU)
        while not part.exists() or part.stat().st_size < 300_000:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    fails(2, ["files are not here", "build download"], "build", "dehydrate", work, tmp_path / "store")
    remote.site.seen.clear()
    told = fine("build", "download", work, "--key", signatory.public, "--progress", "none").text
    assert told == f"3 files are here, sha256 right, signed by {signatory.name} ({signatory.fingerprint})\n"
    assert (path, "bytes=300000-") in remote.site.seen
    assert (work / BUILD / QEMU).read_bytes() == (release_dir / BUILD / QEMU).read_bytes()


def test_run(release_dir: Path, s390x_release: Path, signatory: Signatory, tmp_path: Path) -> None:
    """From an address to a store of two releases, and nothing is left but that."""
    old, new = "44.20261122.20.0", "44.20261122.20.1"
    later = tmp_path / "later"
    shutil.copytree(s390x_release, later)
    (later / "builds" / old).rename(later / "builds" / new)
    stream = later / "stream.json"
    stream.write_bytes(stream.read_bytes().replace(old.encode(), new.encode()))
    for path in (later / "builds" / new / "s390x").iterdir():
        path.rename(path.with_name(path.name.replace(old, new)))
    store, work = tmp_path / "store", tmp_path / "work"
    with serving(Site()) as site:
        remote = StreamSite(site, signatory.sign, release_dir, later)
        command = ("build", "run", remote.address, store, "--work", work, "--no-compressed", "--level", "1")
        site.acts[remote.paths[QEMU]] = [server.status(404)]
        result = run(*command, "--key", signatory.public)
        assert (result.code, store.exists(), work.exists()) == (2, False, True), result.err
        site.seen.clear()
        result = fine(*command, env={"REHYDRATOR_KEYS": str(signatory.public)})
    assert "6 files; s390x 44.20261122.20.1, x86_64 44.20261122.20.0" in result.text
    assert "signed by release" in result.text
    assert not work.exists()
    fine("verify", "--store", store, "--progress", "none")
    listed = msgspec.json.decode(fine("list", "--json", "--store", store).out)["artifacts"]
    assert {(item["arch"], item["release"]) for item in listed} == {("x86_64", old), ("s390x", new)}
    fails(2, ["exists already"], *command, "--skip-signatures")


def test_build_json_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "inputs.md").read_text(encoding="utf-8")
    table = text.partition("## build.json")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [
        item.encode_name for item in msgspec.structs.fields(BuildState)
    ]
