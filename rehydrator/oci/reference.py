"""References: the words by which an image or a store in a registry or an OCI layout is named.

Names follow the OCI distribution specification 1.1 ("Pulling manifests"), transports containers-transports(5).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

import msgspec

from rehydrator.errors import UsageError

DOCKER = "docker://"
OCI = "oci:"
DEFAULT_TAG = "latest"

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_CAPITALS = "The names of repositories have small letters only; a directory's may begin with ./"
_REGISTRY = re.compile(
    rf"(?P<host>{_HOST})/(?P<repository>{_PART}(?:/{_PART})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_LAYOUT = re.compile(rf"{OCI}(?P<path>[^:\0]+?)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?")


class RegistryReference(msgspec.Struct, frozen=True):
    """A manifest in a repository of a registry: by tag, or by digest, which wins where both are given."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{_suffix(self.tag, self.digest)}"


class LayoutReference(msgspec.Struct, frozen=True):
    """A manifest in an OCI image layout on disk; without tag and digest the only one that is there."""

    path: Path
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{OCI}{self.path}{_suffix(self.tag, self.digest)}"


Reference: TypeAlias = RegistryReference | LayoutReference
Location: TypeAlias = Path | Reference  # of a store


def parse_reference(text: str) -> Reference:
    """Return the reference that ``text`` is. Raises UsageError for what is none."""
    if text.startswith(OCI):
        return parse_layout(text)
    found = _REGISTRY.fullmatch(text.removeprefix(DOCKER))
    if found is None:
        raise UsageError(
            "is no reference to something in a registry or OCI layout",
            actual=repr(text),
            expected="HOST/REPOSITORY:TAG, HOST/REPOSITORY@sha256:DIGEST or oci:DIRECTORY:TAG",
            hint=_CAPITALS if _with_capitals(text) else None,
        )
    tag, digest = found["tag"] or "", found["digest"] or ""
    return RegistryReference(found["host"], found["repository"], tag or ("" if digest else DEFAULT_TAG), digest)


def parse_layout(text: str) -> LayoutReference:
    """Return the reference to something in a layout that ``text`` is. Raises UsageError for what is none."""
    found = _LAYOUT.fullmatch(text)
    if found is None:
        raise UsageError(
            "is no image in an OCI layout", actual=repr(text), expected="oci:DIRECTORY or oci:DIRECTORY:TAG"
        )
    return LayoutReference(Path(found["path"]), found["tag"] or "", found["digest"] or "")


def parse_location(text: str) -> Location:
    """Return what ``--store`` names: a directory, or a reference.

    Without ``docker://`` only what begins with a host is a reference: one with a dot or a port, or ``localhost``; a
    directory of that name is preferred. Raises UsageError for a reference with capital letters in its repository.
    """
    if text.startswith((DOCKER, OCI)):
        return parse_reference(text)
    path = Path(text)
    found = _REGISTRY.fullmatch(_small(text))
    if found is None or path.exists() or not (set(".:") & set(found["host"]) or found["host"] == "localhost"):
        return path
    return parse_reference(text)


def _small(text: str) -> str:
    """Return a reference with small letters in its repository; its host and tag may have others."""
    host, slash, rest = text.partition("/")
    repository, mark, after = rest.partition("@")
    directory, last_slash, name = repository.rpartition("/")
    name, colon, tag = name.partition(":")
    return host + slash + (directory + last_slash + name).lower() + colon + tag + mark + after


def _with_capitals(text: str) -> bool:
    """Return whether nothing but capital letters keeps ``text`` from being a reference to a registry."""
    return _REGISTRY.fullmatch(_small(text.removeprefix(DOCKER))) is not None


def _suffix(tag: str, digest: str) -> str:
    return (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
