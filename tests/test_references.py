"""References, challenges and credentials: words that users and registries write."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.errors import InputError, RehydratorError, UsageError
from rehydrator.oci.reference import (
    LayoutReference,
    RegistryReference,
    parse_layout,
    parse_location,
    parse_reference,
)
from rehydrator.registry.access import Access
from rehydrator.registry.challenge import Challenge, parse_challenges
from rehydrator.registry.credentials import Credentials, credentials_for

DIGEST = "sha256:" + "5" * 64

REFERENCES = {
    "host.test/store": RegistryReference("host.test", "store", "latest"),
    "host.test:5000/a/b-c/d__e:v1.2": RegistryReference("host.test:5000", "a/b-c/d__e", "v1.2"),
    "docker://host/store:44": RegistryReference("host", "store", "44"),
    "[::1]:5000/store": RegistryReference("[::1]:5000", "store", "latest"),
    f"host.test/store@{DIGEST}": RegistryReference("host.test", "store", "", DIGEST),
    f"host.test/store:44@{DIGEST}": RegistryReference("host.test", "store", "44", DIGEST),
    "oci:layout": LayoutReference(Path("layout")),
    "oci:/a/b.c:44": LayoutReference(Path("/a/b.c"), "44"),
    f"oci:layout@{DIGEST}": LayoutReference(Path("layout"), "", DIGEST),
}


@pytest.mark.parametrize(("text", "expected"), REFERENCES.items())
def test_references(text: str, expected: RegistryReference | LayoutReference) -> None:
    assert parse_reference(text) == expected
    assert parse_reference(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "store", "host.test/", "host.test/Store", "host.test/a//b", "host.test/a/../b", "host.test/store:", "oci:",
        "oci::44", "host.test/store@sha256:5", "host.test/store:a b", "https://host.test/store", "oci:a:b:c",
        "-host.test/store", "host.test/store:44\n", "host.test:port/store",
    ],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


def test_layouts_only() -> None:
    with pytest.raises(UsageError, match="no image in an OCI layout"):
        parse_layout("host.test/store")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("store", Path("store")),
        ("a/store", Path("a/store")),
        ("./host.test/store", Path("host.test/store")),
        ("there.test/store", Path("there.test/store")),
        ("host.test/store", RegistryReference("host.test", "store", "latest")),
        ("localhost/store", RegistryReference("localhost", "store", "latest")),
        ("host:5000/store", RegistryReference("host:5000", "store", "latest")),
        ("docker://there.test/store", RegistryReference("there.test", "store", "latest")),
        ("oci:there.test/store", LayoutReference(Path("there.test/store"))),
        ("there.test/Store", Path("there.test/Store")),
        ("host/Store", Path("host/Store")),
        ("./host.test/Store", Path("host.test/Store")),
        ("Host.test/store:Tag", RegistryReference("Host.test", "store", "Tag")),
    ],
)
def test_locations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: Path | RegistryReference | LayoutReference
) -> None:
    for name in ("store", "Store"):
        (tmp_path / "there.test" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_location(text) == expected


@pytest.mark.parametrize(
    "text", ["host.test/Store", "host:5000/Upper:tag", "localhost/a/B", f"host.test/A/b:T@{DIGEST}", "docker://host/B"]
)
def test_capitals_are_told_of(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="small letters only"):
        parse_location(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost:5000", True), ("127.0.0.1", True), ("127.3.4.5:80", True), ("[::1]:5000", True), ("[::1]", True),
        ("localhost.test", False), ("10.0.0.1:5000", False), ("127.0.0.1.test", False), ("[::2]:5000", False),
    ],
)  # fmt: skip
def test_only_loopback_goes_without_tls(host: str, loopback: bool) -> None:
    assert Access().base_url(host) == f"https://{host}"
    if loopback:
        assert Access(plain_http=True).base_url(host) == f"http://{host}"
    else:
        with pytest.raises(UsageError, match="without TLS"):
            Access(plain_http=True).base_url(host)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [Challenge("basic", {})]),
        ('Basic realm="a, b"', [Challenge("basic", {"realm": "a, b"})]),
        (
            'Bearer realm="https://host.test/token",service=host,scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://host.test/token", "service": "host", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            'Basic realm="x", BEARER Realm = "y\\"z" , error="no"',
            [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": 'y"z', "error": "no"})],
        ),
        ('Bearer realm="open', [Challenge("bearer", {})]),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


@given(st.text(alphabet='Bb ,="\\xr', max_size=60))
def test_challenges_of_any_form(header: str) -> None:
    parse_challenges(header)


def encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, **document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_no_credentials(home: Path) -> None:
    assert not credentials_for("host.test", "store")


AUTHS = {
    "host.test": {"auth": encoded("host", "1")},
    "host.test/a": {"auth": encoded("space", "2:3")},
    "host.test/a/b": {"auth": encoded("repository", "4")},
    "https://old.test/v1/": {"auth": encoded("old", "5")},
    "token.test": {"auth": encoded("<token>", ""), "identitytoken": "long"},
    "empty.test": {},
}


@pytest.mark.parametrize(
    ("host", "repository", "expected"),
    [
        ("host.test", "x/y", Credentials("host", "1")),
        ("host.test", "a/c", Credentials("space", "2:3")),
        ("host.test", "a/b", Credentials("repository", "4")),
        ("host.test", "ab", Credentials("host", "1")),
        ("old.test", "store", Credentials("old", "5")),
        ("token.test", "store", Credentials("<token>", "", "long")),
        ("empty.test", "store", Credentials()),
        ("other.test", "store", Credentials()),
    ],
)
def test_entries(home: Path, host: str, repository: str, expected: Credentials) -> None:
    write(home / ".docker" / "config.json", auths=AUTHS, HttpHeaders={"a": "b"})
    assert credentials_for(host, repository) == expected


def test_files_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file that has credentials for the host is taken; a file that the user names is the only one."""
    places = [
        ("DOCKER_CONFIG", home / "docker", "config.json"),
        ("XDG_CONFIG_HOME", home / "config", "containers/auth.json"),
        ("XDG_RUNTIME_DIR", home / "run", "containers/auth.json"),
    ]
    for user, (variable, directory, name) in enumerate(places):
        monkeypatch.setenv(variable, str(directory))
        write(directory / name, auths={"host.test": {"auth": encoded(str(user), "x")}})
        assert credentials_for("host.test", "store").user == str(user)
    write(home / "run" / "containers" / "auth.json", auths={})
    assert credentials_for("host.test", "store").user == "1"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write(home / "named.json", auths={})))
    assert not credentials_for("host.test", "store")


def test_helpers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nread host\ntest "$1" = get || exit 1\ncase $host in\n'
        'token.test) echo \'{"ServerURL": "x", "Username": "<token>", "Secret": "long"}\' ;;\n'
        'user.test) echo \'{"Username": "u", "Secret": "p"}\' ;;\nbroken.test) echo nonsense ;;\n*) exit 1 ;;\nesac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    path = write(home / ".docker" / "config.json", credHelpers={"token.test": "test"}, credsStore="test", auths=AUTHS)
    assert credentials_for("token.test", "store") == Credentials(identity_token="long")
    assert credentials_for("user.test", "store") == Credentials("u", "p")
    assert credentials_for("host.test", "store") == Credentials("host", "1")
    assert not credentials_for("other.test", "store")
    with pytest.raises(InputError, match="does not answer as it should"):
        credentials_for("broken.test", "store")
    write(path, credsStore="none")
    with pytest.raises(InputError, match="can't be used"):
        credentials_for("user.test", "store")
    write(path, credsStore="../test")
    with pytest.raises(InputError, match="can be no program"):
        credentials_for("user.test", "store")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"auths": 1}', b'{"auths": {"host.test": {"auth": "%"}}}', b"\xff", b" " * (2 << 20)]
)
def test_files_that_are_none(home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    path = home / "auth.json"
    path.write_bytes(content)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    with pytest.raises(RehydratorError, match=r"auth\.json"):
        credentials_for("host.test", "store")


def test_a_named_file_that_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "none.json"))
    with pytest.raises(InputError, match=r"none\.json: cannot be read: .*REGISTRY_AUTH_FILE"):
        credentials_for("host.test", "store")
