"""Credentials of registries, from the files that podman, skopeo and docker keep.

Source: containers-auth.json(5); https://github.com/docker/docker-credential-helpers for helpers.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from rehydrator.disk.source import read_bounded
from rehydrator.errors import AbsentError, InputError

_MAX_SIZE = 1 << 20  # bytes of a file of credentials
_HELPER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HELPER_SECONDS = 60
_TOKEN_USER = "<token>"  # what a helper gives as user where its secret is an identity token


class Credentials(msgspec.Struct, frozen=True):
    """A user's name and password, or the identity token that stands for them; empty: none."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __bool__(self) -> bool:
        return bool(self.user or self.identity_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header of the scheme Basic (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, frozen=True, rename={"cred_helpers": "credHelpers", "creds_store": "credsStore"}):
    auths: Annotated[dict[str, _Entry], msgspec.Meta(max_length=10_000)] = {}
    cred_helpers: Annotated[dict[str, str], msgspec.Meta(max_length=10_000)] = {}
    creds_store: str = ""


class _Helped(msgspec.Struct, frozen=True, rename="pascal"):
    """What a helper answers."""

    username: str
    secret: str


def credentials_for(host: str, repository: str) -> Credentials:
    """Return the credentials for a repository: those of the longest name that holds it, of the first file that has any.

    Raises InputError for a file that can't be read as what it should be, and for a helper that is missing.
    """
    for path, named in _files():
        try:
            data = read_bounded(path, _MAX_SIZE)
        except AbsentError as error:
            if named:
                raise error.located(path, hint="$REGISTRY_AUTH_FILE names it") from error
            continue
        found = _find(_decode_file(data, path), path, host, repository)
        if found:
            return found
    return Credentials()


def _files() -> Iterator[tuple[Path, bool]]:
    """Yield the files in their order, and whether the user named the file."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        yield Path(named), True
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime) / "containers" / "auth.json", False
    home = Path(os.environ.get("HOME") or "/")
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json", False
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json", False


def _decode_file(data: bytes, path: Path) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"is no file of registry credentials: {error}", path=path) from error


def _find(file: _File, path: Path, host: str, repository: str) -> Credentials:
    """Return what a file has: from the helper of the host, from an entry, from the helper of all hosts."""
    if host in file.cred_helpers:
        return _ask(file.cred_helpers[host], host, path)
    by_name = {_normal(key): entry for key, entry in file.auths.items()}
    parts = [host, *repository.split("/")]
    for length in range(len(parts), 0, -1):
        entry = by_name.get("/".join(parts[:length]))
        if entry is not None and (entry.auth or entry.identitytoken):
            return _decode(entry, path)
    return _ask(file.creds_store, host, path) if file.creds_store else Credentials()


def _normal(key: str) -> str:
    """Docker's older files name registries by URL, such as ``https://HOST/v2/``."""
    rest = key.removeprefix("https://").removeprefix("http://")
    return rest.partition("/")[0] if rest != key else rest.rstrip("/")


def _decode(entry: _Entry, path: Path) -> Credentials:
    try:
        user, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InputError("holds credentials that are not base64", path=path) from error
    return Credentials(user, password.rstrip("\0"), entry.identitytoken)


def _ask(name: str, host: str, path: Path) -> Credentials:
    """Ask a helper program; one that fails knows none."""
    if not _HELPER.fullmatch(name):
        raise InputError("names a credential helper that can be no program", path=path, actual=repr(name[:80]))
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"], input=host.encode(), capture_output=True, check=False, timeout=_HELPER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"names a credential helper that can't be used: {error}", path=path) from error
    if done.returncode:
        return Credentials()
    try:
        found = msgspec.json.decode(done.stdout, type=_Helped)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{program} does not answer as it should", path=path) from error
    if found.username == _TOKEN_USER:
        return Credentials(identity_token=found.secret)
    return Credentials(found.username, found.secret)
