"""Fetching a file from servers that drop, shorten, change, redirect and stall it."""

from __future__ import annotations

import hashlib
import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehydrator.errors import (
    BusyError,
    FetchError,
    InputError,
    MismatchError,
    OutputError,
    RehydratorError,
    TemporaryFetchError,
    UsageError,
)
from rehydrator.progress import Cancelled, Progress
from rehydrator.transport import fetch as module
from rehydrator.transport.client import Client, Patience
from rehydrator.transport.fetch import Wanted, fetch
from rehydrator.transport.partial import Partial, note_path, partial_path
from tests.support import server
from tests.support.server import Act, Site, serving

DATA = random.Random(7).randbytes(300_000)
NEWER = random.Random(8).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(connect=5, read=20, retries=2, pause=0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/disk": DATA})) as running:
        yield running


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(QUICK)
    yield made
    made.close()


def nothing(_: Path) -> None:
    """No further check."""


def get(client: Client, site: Site, target: Path, size: int | None = len(DATA), where: str = "/disk") -> None:
    fetch(client, Wanted(site.url + where, SHA256, size), target, nothing, Progress())


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def changed(handler: server.Handler, _: bytes) -> None:
    """From now on, the file is the right one; before, another was there."""
    handler.site.files["/disk"] = DATA
    server.serve(handler, DATA)


# What the server does at its first requests -> the Range header of each request
GOOD: dict[str, tuple[list[Act], list[str]]] = {
    "as it should": ([], [""]),
    "drops the connection": ([server.drop(100_000)], ["", "bytes=100000-"]),
    "drops it before the first byte": ([server.drop(0)], ["", ""]),
    "drops it again and again": (
        [server.drop(70_000)] * 4,
        ["", "bytes=70000-", "bytes=140000-", "bytes=210000-", "bytes=280000-"],
    ),
    "ends early without having told a length": ([server.drop(1000, announced=False)], ["", "bytes=1000-"]),
    "is busy": ([server.status(503), server.status(429)], ["", "", ""]),
    "cannot resume": ([server.drop(100_000), server.without_ranges], ["", "bytes=100000-"]),
    "sends another range": (
        [server.drop(100_000), server.other(DATA[:50], 206, Content_Range="bytes 0-49/300000")],
        ["", "bytes=100000-", ""],
    ),
    "sends a range of another version": (
        [
            server.drop(100_000),
            server.other(DATA[100_000:], 206, Content_Range="bytes 100000-299999/300000", ETag='"x"'),
        ],
        ["", "bytes=100000-", ""],
    ),
    "refuses the range": (
        [server.drop(100_000), server.status(416, Content_Range="bytes */12")],
        ["", "bytes=100000-", ""],
    ),
    "changes the file in between": (
        [lambda handler, _: server.drop(100_000)(handler, NEWER), changed],
        ["", "bytes=100000-"],
    ),
    "sends wrong bytes once": ([server.other(NEWER)], ["", ""]),
    "sends chunks": ([server.chunked()], [""]),
    "ends within the chunks": ([server.chunked(5000)], ["", "bytes=5000-"]),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_overcome(site: Site, client: Client, tmp_path: Path, case: str) -> None:
    acts, ranges = GOOD[case]
    site.acts["/disk"] = list(acts)
    get(client, site, tmp_path / "disk.raw")
    assert (tmp_path / "disk.raw").read_bytes() == DATA
    assert names(tmp_path) == ["disk.raw"]
    assert [item for _, item in site.seen] == ranges


@pytest.mark.parametrize("tag", ['W/"weak"', ""])
def test_resuming_without_a_validator(site: Site, client: Client, tmp_path: Path, tag: str) -> None:
    """Without a word for the version ranges are asked for all the same: the sha256 tells what came of it."""

    def act(handler: server.Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("ETag", tag)
        handler.end_headers()
        handler.wfile.write(data[:100_000])
        handler.hang_up()

    site.acts["/disk"] = [act, lambda handler, data: server.serve(handler, data, tag=tag)]
    get(client, site, tmp_path / "disk.raw")
    assert (tmp_path / "disk.raw").read_bytes() == DATA
    assert site.seen[1][1] == "bytes=100000-"


BAD: dict[str, tuple[list[Act], type[RehydratorError], str]] = {
    "wrong bytes": ([server.other(NEWER)] * 2, MismatchError, "has another sha256 than it should"),
    "fewer bytes": ([server.other(DATA[:-1])], MismatchError, "has another size"),
    "more bytes": ([server.other(DATA + b"x")], MismatchError, "has another size"),
    "more bytes than told": ([server.endless], MismatchError, "larger than it should be"),
    "no bytes": ([server.drop(0)] * 3, TemporaryFetchError, "broke off"),
    "busy for ever": ([server.status(500)] * 3, TemporaryFetchError, "500 Internal Server Error"),
    "not there": ([server.status(404)], FetchError, "404 Not Found"),
    "forbidden": ([server.status(403)], FetchError, "403 Forbidden"),
    "a status nobody knows": ([server.status(299)], FetchError, "299 unknown status"),
    "a loop": ([server.status(302, Location="/disk")] * 11, FetchError, "more than 10 redirects"),
    "a redirect to a file": ([server.status(302, Location="file:///etc/passwd")], FetchError, "no address on the web"),
    "a redirect to nowhere": ([server.status(302, Location="http://[::")], FetchError, "no address on the web"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_told(site: Site, client: Client, tmp_path: Path, case: str) -> None:
    acts, error, words = BAD[case]
    site.acts["/disk"] = list(acts)
    with pytest.raises(error, match=words):
        get(client, site, tmp_path / "disk.raw")
    assert names(tmp_path) == []


def test_redirects(site: Site, client: Client, tmp_path: Path) -> None:
    site.acts["/a"] = [server.status(301, Location="b?x=1")]
    site.acts["/b?x=1"] = [server.status(307, Location=f"{site.url}/disk")]
    get(client, site, tmp_path / "disk.raw", where="/a")
    assert (tmp_path / "disk.raw").read_bytes() == DATA


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://x/y", "disk.raw", "https://", "http://[::", "http://a:b/"]
)
def test_addresses_that_are_none(client: Client, tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        fetch(client, Wanted(address, SHA256), tmp_path / "x", nothing, Progress())


def test_nobody_listens(client: Client, tmp_path: Path) -> None:
    with serving(Site({"/disk": DATA})) as site:
        pass
    with pytest.raises(TemporaryFetchError, match="cannot be reached"):
        get(client, site, tmp_path / "disk.raw")


def test_the_next_run_goes_on(site: Site, client: Client, tmp_path: Path) -> None:
    site.acts["/disk"] = [server.drop(200_000), server.status(404)]
    with pytest.raises(FetchError):
        get(client, site, tmp_path / "disk.raw")
    assert names(tmp_path) == [".disk.raw.fetching", ".disk.raw.fetching.json"]
    get(client, site, tmp_path / "disk.raw")
    assert site.seen[-1] == ("/disk", "bytes=200000-")
    assert names(tmp_path) == ["disk.raw"]


@pytest.mark.parametrize("what", ["another location", "another file", "no note", "a broken note", "other bytes"])
def test_leftovers_that_do_not_fit(site: Site, client: Client, tmp_path: Path, what: str) -> None:
    """What an earlier run left is used only where it is of the same file."""
    target = tmp_path / "disk.raw"
    site.files["/other"] = DATA
    site.acts["/disk"] = [server.drop(200_000), server.status(404)]
    with pytest.raises(FetchError):
        get(client, site, target)
    wanted = Wanted(site.url + ("/other" if what == "another location" else "/disk"), SHA256, len(DATA))
    match what:
        case "another file":
            site.files["/disk"] = NEWER
            wanted = Wanted(site.url + "/disk", hashlib.sha256(NEWER).hexdigest(), len(NEWER))
        case "no note":
            note_path(target).unlink()
        case "a broken note":
            note_path(target).write_text("{")
        case "other bytes":
            partial_path(target).write_bytes(bytes(1000))
    fetch(client, wanted, target, nothing, Progress())
    assert hashlib.sha256(target.read_bytes()).hexdigest() == wanted.sha256
    assert names(tmp_path) == ["disk.raw"]


def test_a_complete_partial_file(site: Site, client: Client, tmp_path: Path) -> None:
    """A run that was killed after the last byte."""
    target = tmp_path / "disk.raw"
    site.acts["/disk"] = [server.drop(200_000), server.status(404)]
    with pytest.raises(FetchError):
        get(client, site, target)
    partial_path(target).write_bytes(DATA)
    get(client, site, target)
    assert site.seen[-1] == ("/disk", "bytes=300000-")
    assert target.read_bytes() == DATA


def test_slow_servers(site: Site, tmp_path: Path) -> None:
    site.acts["/disk"] = [server.stall(1000)] * 2
    impatient = Client(Patience(read=0.05, retries=1, pause=0))
    with pytest.raises(TemporaryFetchError, match=r"broke off|too slowly"):
        get(impatient, site, tmp_path / "disk.raw")


def test_a_trickle_is_too_slow(site: Site, tmp_path: Path) -> None:
    def trickle(handler: server.Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for at in range(len(data)):
            handler.wfile.write(data[at : at + 1])
            handler.wfile.flush()
            if handler.site.over.wait(0.01):
                return

    site.acts["/disk"] = [trickle]
    with pytest.raises(TemporaryFetchError, match="too slowly"):
        get(Client(Patience(read=0.3, retries=0)), site, tmp_path / "disk.raw")


def test_an_endless_file_is_bounded(
    site: Site, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the metadata says no size."""
    monkeypatch.setattr(module, "_MOST", 1 << 20)
    site.acts["/disk"] = [server.endless]
    with pytest.raises(MismatchError, match="larger"):
        get(client, site, tmp_path / "disk.raw", size=None)
    assert names(tmp_path) == []
    site.acts["/document"] = [server.endless]
    site.files["/document"] = DATA
    with pytest.raises(MismatchError, match="too large"):
        client.document(site.url + "/document", 1 << 20, Progress())


def test_a_full_disk(site: Site, client: Client, tmp_path: Path) -> None:
    """What came so far stays for a run with more room; the limit of a file's size stands for the disk's."""
    target = tmp_path / "disk.raw"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="goes on where it ended"):
            get(client, site, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    get(client, site, target)
    assert site.seen[-1][1] == "bytes=100000-"
    assert target.read_bytes() == DATA


def test_a_refused_file_leaves_nothing(site: Site, client: Client, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == DATA
        assert not (tmp_path / "disk.raw").exists()
        raise MismatchError("bad signature")

    with pytest.raises(MismatchError, match="bad signature"):
        fetch(client, Wanted(site.url + "/disk", SHA256), tmp_path / "disk.raw", refuse, Progress())
    assert names(tmp_path) == []


def test_cancelled(site: Site, client: Client, tmp_path: Path) -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        fetch(client, Wanted(site.url + "/disk", SHA256), tmp_path / "disk.raw", nothing, progress)
    assert [name for name in names(tmp_path) if not name.startswith(".")] == []


def test_only_the_first_server_is_told_what_authorizes(site: Site, client: Client) -> None:
    told: list[str | None] = []

    def note(handler: server.Handler, data: bytes) -> None:
        told.append(handler.headers.get("Authorization"))
        handler.answer(200, data)

    with serving(Site({"/disk": DATA})) as other:
        site.acts["/here"] = [server.status(307, Location="/disk")]
        site.acts["/there"] = [server.status(307, Location=f"{other.url}/disk")]
        site.acts["/disk"], other.acts["/disk"] = [note], [note]
        for path in ("/here", "/there"):
            with client.get(site.url + path, {"Authorization": "Bearer secret"}) as answer:
                assert answer.read(len(DATA)) == DATA
    assert told == ["Bearer secret", None]


def test_two_at_once(tmp_path: Path) -> None:
    with (
        Partial(tmp_path / "disk.raw"),
        pytest.raises(BusyError, match="another process"),
        Partial(tmp_path / "disk.raw"),
    ):
        pass


@pytest.mark.parametrize("trap", ["symlink", "hard link", "note"])
def test_traps_in_the_directory(site: Site, client: Client, tmp_path: Path, trap: str) -> None:
    """Names that somebody else laid where the partial file goes are not written through."""
    target, victim = tmp_path / "disk.raw", tmp_path / "victim"
    victim.write_bytes(b"precious")
    match trap:
        case "symlink":
            partial_path(target).symlink_to(victim)
        case "hard link":
            os.link(victim, partial_path(target))
        case "note":
            note_path(target).symlink_to(victim)
    if trap == "note":
        get(client, site, target)
    else:
        with pytest.raises(InputError, match=r"symbolic link|of this user alone"):
            get(client, site, target)
    assert victim.read_bytes() == b"precious"


def test_tls(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is trusted, one that is not, and a redirect that leaves TLS."""
    with serving(Site({"/disk": DATA}), certificate) as secure, serving(Site({"/disk": DATA})) as plain:
        with pytest.raises(FetchError, match="TLS fails"):
            get(Client(QUICK), secure, tmp_path / "disk.raw")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        secure.acts["/down"] = [server.status(302, Location=f"{plain.url}/disk")]
        with pytest.raises(FetchError, match="from https to http"):
            get(Client(QUICK), secure, tmp_path / "disk.raw", where="/down")
        assert plain.seen == []
        plain.acts["/up"] = [server.status(302, Location=f"{secure.url}/disk")] * 2
        secure.acts["/disk"] = [server.drop(100_000)]
        get(Client(QUICK), plain, tmp_path / "disk.raw", where="/up")
    assert (tmp_path / "disk.raw").read_bytes() == DATA


def test_aborting_what_has_just_come_to_its_end(client: Client, site: Site) -> None:
    with client.get(site.url + "/disk") as answer:
        assert answer.read(len(DATA)) == DATA
        client.abort()
    with pytest.raises(TemporaryFetchError, match="given up"), client.get(site.url + "/disk"):
        pass
