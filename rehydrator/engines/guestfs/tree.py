"""The files of a file system as its driver shows them, told by a tar stream."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO

import msgspec

SYMBOLIC_LINK = "symbolic link"
_MAX_STEPS = 400
_CHUNK = 1 << 20
_ATTRIBUTES = "SCHILY.xattr."  # how GNU tar names them in pax headers; access lists and SELinux labels are among them


class Node(msgspec.Struct, frozen=True):
    """One file of any kind. ``size`` is in bytes; ``sha256`` and ``link`` are empty where there is no such thing."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str
    sha256: str
    attributes: tuple[str, ...]

    def differences(self, other: Node) -> list[str]:
        """Tell each field in which ``other`` differs."""
        names = [name for name in self.__struct_fields__ if getattr(self, name) != getattr(other, name)]
        return [
            f"{name} {_told(name, getattr(other, name))} instead of {_told(name, getattr(self, name))}"
            for name in names
        ]


class Tree(msgspec.Struct, frozen=True):
    """All files of a file system by path."""

    nodes: dict[str, Node]

    def resolve(self, path: str) -> str:
        """Return ``path`` with the symbolic links on the way to its last name followed."""
        at = "/"
        directory, _, name = path.rpartition("/")
        waiting = directory.split("/")
        for _ in range(_MAX_STEPS):
            if not waiting:
                return posixpath.join(at, name)
            at = posixpath.normpath(posixpath.join(at, waiting.pop(0)))
            node = self.nodes.get(at)
            if node is not None and node.kind == SYMBOLIC_LINK:
                waiting = [*node.link.split("/"), *waiting]
                at = "/" if node.link.startswith("/") else posixpath.dirname(at)
        return path  # links that lead in a circle


_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: SYMBOLIC_LINK,
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "pipe",
}


def read_tree(stream: IO[bytes]) -> Tree:
    """Read a tar stream to its end. A hard link counts as the file that it is. Raises tarfile.TarError."""
    nodes: dict[str, Node] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = _path(member.name)
            nodes[path] = nodes[_path(member.linkname)] if member.islnk() else _node(archive, member)
    while stream.read(_CHUNK):  # behind the end tar pads its records
        pass
    return Tree(nodes)


def _path(name: str) -> str:
    return "/" + name.removeprefix("./").strip("/").removeprefix(".")


def _node(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    content = archive.extractfile(member) if member.isreg() else None
    return Node(
        kind=_KINDS.get(member.type, f"type {member.type!r}"),
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=member.size,
        link=member.linkname,
        sha256=_digest(content) if content else "",
        attributes=tuple(sorted(_attributes(member.pax_headers))),
    )


def _attributes(headers: Mapping[str, str]) -> Iterator[str]:
    for key, value in headers.items():
        if key.startswith(_ATTRIBUTES):
            yield f"{key.removeprefix(_ATTRIBUTES)}={value.rstrip(chr(0))}"


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := content.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()


def _told(name: str, value: object) -> str:
    if name == "mode" and isinstance(value, int):
        return f"{value:04o}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
