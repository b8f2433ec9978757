"""The files of a file system as its driver shows them, told by a tar stream."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO

import msgspec
from msgspec.structs import replace

FILE = "file"
DIRECTORY = "directory"
SYMBOLIC_LINK = "symbolic link"
_NONE = "none"
_MAX_STEPS = 400
_CHUNK = 1 << 20
_ATTRIBUTES = "SCHILY.xattr."  # how GNU tar names them in pax headers; access lists and SELinux labels are among them


class Attribute(msgspec.Struct, frozen=True, order=True):
    """An extended attribute with its full name, such as ``security.selinux``."""

    name: str
    value: str


class Difference(msgspec.Struct, frozen=True):
    """One property of a file on two sides, as text."""

    name: str
    before: str
    after: str


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One file of any kind, without its times. ``size`` is in bytes, 0 for what has no content.

    ``link`` is a symbolic link's target, ``hard_link`` the first path of a file that has several, ``device`` the
    numbers of a device; these and ``sha256`` are empty where there is no such thing.
    """

    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    link: str = ""
    hard_link: str = ""
    device: str = ""
    sha256: str = ""
    attributes: tuple[Attribute, ...] = ()

    def differences(self, other: Node) -> list[Difference]:
        """Return each property in which ``other`` differs, and each attribute under its own name."""
        ours, theirs = (dict(node._told()) for node in (self, other))
        return [
            Difference(name, ours.get(name, _NONE), theirs.get(name, _NONE))
            for name in dict.fromkeys([*ours, *theirs])
            if ours.get(name, _NONE) != theirs.get(name, _NONE)
        ]

    def _told(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of everything that there is."""
        for name in self.__struct_fields__:
            match getattr(self, name):
                case tuple() as attributes:
                    yield from ((item.name, item.value) for item in attributes)
                case int() as number:
                    yield name, f"{number:04o}" if name == "mode" else str(number)
                case str() as text if text:
                    yield name.replace("_", " "), text


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
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.DIRTYPE: DIRECTORY,
    tarfile.SYMTYPE: SYMBOLIC_LINK,
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "pipe",
}


def read_tree(stream: IO[bytes]) -> Tree:
    """Read a tar stream to its end. Raises tarfile.TarError."""
    nodes: dict[str, Node] = {}
    same: dict[str, list[str]] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = _path(member.name)
            if not member.islnk():
                nodes[path] = _node(archive, member)
                continue
            target = _path(member.linkname)
            if target not in nodes:
                raise tarfile.ReadError(f"{path} is a hard link to {target}, which does not come before it")
            nodes[path] = nodes[target]
            same.setdefault(target, [target]).append(path)
    while stream.read(_CHUNK):  # behind the end tar pads its records
        pass
    for paths in same.values():
        node = replace(nodes[paths[0]], hard_link=min(paths))
        nodes.update(dict.fromkeys(paths, node))
    return Tree(nodes)


def _text(name: str) -> str:
    """Show bytes that are no text as escapes, as the native readers do."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _path(name: str) -> str:
    return "/" + _text(name).removeprefix("./").strip("/").removeprefix(".")


def _node(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    content = archive.extractfile(member) if member.isreg() else None
    return Node(
        kind=_KINDS.get(member.type, f"type {member.type!r}"),
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=member.size,
        link=_text(member.linkname),
        device=f"{member.devmajor}:{member.devminor}" if member.isdev() and not member.isfifo() else "",
        sha256=_digest(content) if content else "",
        attributes=tuple(sorted(_attributes(member.pax_headers))),
    )


def _attributes(headers: Mapping[str, str]) -> Iterator[Attribute]:
    for key, value in headers.items():
        if key.startswith(_ATTRIBUTES):
            yield Attribute(_text(key.removeprefix(_ATTRIBUTES)), _text(value.rstrip("\0")))


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := content.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()
