"""Signatures: only a good one by a key that was named counts."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator.errors import InputError, MismatchError, RehydratorError, UnsupportedError, UsageError
from rehydrator.trust.gpg import MAX_KEYS, KeyRing
from tests.support.openpgp import Signatory

DATA = b"a disk" * 1000


@pytest.fixture(scope="module")
def people(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Signatory]]:
    need("gpg")
    directory = tmp_path_factory.mktemp("keys")
    past = ("--faked-system-time", "20200101T000000")
    made = {name: Signatory(directory, name) for name in ("release", "other", "revoked")}
    made["old"] = Signatory(directory, "old", *past)
    made["older"] = Signatory(directory, "older", *past, expires="1y")
    made["revoked"].revoke(DATA)
    yield made
    for person in made.values():
        person.close()


def problem(keys: list[Path], data: bytes, signature: bytes, path: Path) -> str:
    """What is wrong, "" for nothing."""
    path.write_bytes(data)
    with KeyRing(keys) as ring:
        try:
            ring.check_file(path, signature, "disk.raw")
        except MismatchError as error:
            return str(error)
    return ""


def test_a_good_signature(people: dict[str, Signatory], tmp_path: Path) -> None:
    release = people["release"]
    (tmp_path / "disk").write_bytes(DATA)
    with KeyRing([people["other"].public, release.public]) as ring:
        signer = ring.check_file(tmp_path / "disk", release.sign(DATA), "disk.raw")
        assert signer == ring.check_written(lambda stream: stream.writelines([DATA]), release.sign(DATA), "disk.raw")
    assert (signer.fingerprint, signer.name) == (release.fingerprint, release.name)
    assert problem([release.public], DATA, release.sign(DATA, "--armor"), tmp_path / "disk") == ""


def _flipped(signature: bytes) -> bytes:
    return bytes((*signature[:-3], signature[-3] ^ 1, *signature[-2:]))


Sign = Callable[[dict[str, Signatory]], bytes]
BAD: dict[str, tuple[bytes, Sign, str]] = {
    "of other bytes": (DATA, lambda people: people["release"].sign(b"x"), "the signature is wrong"),
    "of one byte less": (DATA, lambda people: people["release"].sign(DATA[:-1]), "the signature is wrong"),
    "flipped": (DATA, lambda people: _flipped(people["release"].sign(DATA)), "the signature is wrong"),
    "by another key": (DATA, lambda people: people["other"].sign(DATA), "by a key that was not named"),
    "by both keys": (
        DATA,
        lambda people: people["release"].sign(DATA) + people["other"].sign(DATA),
        "by a key that was not named",
    ),
    "a good and a wrong one": (
        DATA,
        lambda people: people["release"].sign(DATA) + people["release"].sign(b"x"),
        "the signature is wrong",
    ),
    "empty": (DATA, lambda _: b"", "no signature in it"),
    "half": (DATA, lambda people: people["release"].sign(DATA)[:50], "no signature in it"),
    "text": (DATA, lambda _: b"hello\n", "no signature in it"),
    "a key": (DATA, lambda people: people["release"].public.read_bytes(), "the signature is not good"),
    "not detached": (DATA, lambda people: people["release"].sign_inline(DATA), "not a detached signature"),
    "expired": (DATA, lambda people: people["old"].sign(DATA, "--default-sig-expire", "1d"), "has expired"),
    "by an expired key": (DATA, lambda people: people["older"].sign(DATA), "the key has expired"),
    "by a revoked key": (DATA, lambda people: people["revoked"].earlier, "was revoked"),
    "by SHA-1": (DATA, lambda people: people["release"].sign(DATA, "--digest-algo", "SHA1"), "can't be checked"),
    "too large": (DATA, lambda _: bytes(1 << 20), "too large"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_signatures(people: dict[str, Signatory], tmp_path: Path, case: str) -> None:
    data, sign, words = BAD[case]
    keys = [people[name].public for name in ("release", "old", "older", "revoked")]
    found = problem(keys, data, sign(people), tmp_path / "disk")
    assert found.startswith("disk.raw: ")
    assert words in found


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (None, InputError, "cannot be read"),
        (b"x" * (MAX_KEYS + 1), InputError, "too large"),
        (b"", UsageError, "no OpenPGP public key"),
        (b"x", UsageError, "no OpenPGP"),
    ],
)
def test_files_that_hold_no_key(
    need: Callable[..., None], tmp_path: Path, content: bytes | None, kind: type[RehydratorError], words: str
) -> None:
    need("gpg")
    path = tmp_path / "key.asc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=words), KeyRing([path]):
        pass


def test_the_users_keys_do_not_count(
    people: dict[str, Signatory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(people["other"].home))
    signature = people["other"].sign(DATA)
    assert "not named" in problem([people["release"].public], DATA, signature, tmp_path / "disk")


def test_what_a_killed_process_left_is_removed(
    people: dict[str, Signatory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = os.fork()
    if not killed:
        KeyRing([people["release"].public]).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    (left,) = tmp_path.iterdir()
    assert (left / "pubring.kbx").exists()
    with KeyRing([people["release"].public]) as living:
        (home,) = tmp_path.iterdir()
        assert home != left
        with KeyRing([people["other"].public]):
            assert len(list(tmp_path.iterdir())) == 2
        path = tmp_path / "disk"
        path.write_bytes(DATA)
        assert (
            living.check_file(path, people["release"].sign(DATA), "disk").fingerprint == people["release"].fingerprint
        )
        path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_without_gpg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="gnupg"), KeyRing([]):
        pass
