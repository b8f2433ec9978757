"""Paths of inodes, from the directory entries found while mapping."""

from __future__ import annotations

from collections.abc import Iterator

_MAX_DEPTH = 1000
# A file of an ostree deployment is a hard link to an object; the object's name says nothing to a person.
_OBJECTS = "/ostree/repo/"


class Namespace:
    """Which directory entries lead to which inode. ``path`` of the root directory is ``/``."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._links: dict[int, tuple[int, bytes]] = {}
        self._more: dict[int, list[tuple[int, bytes]]] = {}
        self._directories: dict[int, str] = {root: "/"}

    def add(self, inode: int, parent: int, name: bytes) -> None:
        """Record that directory ``parent`` has the entry ``name`` for ``inode``."""
        if inode in self._links:
            self._more.setdefault(inode, []).append((parent, name))
        else:
            self._links[inode] = (parent, name)

    def __contains__(self, inode: int) -> bool:
        return inode in self._links or inode == self.root

    def linked(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield all entries as inode, parent and name."""
        for inode, (parent, name) in self._links.items():
            yield inode, parent, name
        for inode, others in self._more.items():
            for parent, name in others:
                yield inode, parent, name

    def path(self, inode: int) -> str:
        """Return the path of ``inode``, empty when none leads there from the root.

        Of several links it is one outside of the ostree object store, the shortest, the first by alphabet: a choice
        that does not depend on where the directories lie on the disk.
        """
        if inode == self.root:
            return "/"
        first = self._links.get(inode)
        if first is None:
            return ""
        more = self._more.get(inode)
        if more is None:
            return self._join(*first)
        paths = [path for link in (first, *more) if (path := self._join(*link))]
        return min(paths, key=lambda path: (path.startswith(_OBJECTS), len(path), path), default="")

    def _join(self, parent: int, name: bytes) -> str:
        directory = self._directory(parent)
        if not directory:
            return ""
        return f"{directory.rstrip('/')}/{name.decode('utf-8', 'backslashreplace')}"

    def _directory(self, inode: int) -> str:
        """Path of a directory; the chain of parents is followed once and then remembered."""
        chain: list[int] = []
        at = inode
        while at not in self._directories:
            link = self._links.get(at)
            if link is None or len(chain) > _MAX_DEPTH or at in chain:
                self._directories.update(dict.fromkeys([*chain, at], ""))
                return ""
            chain.append(at)
            at = link[0]
        path = self._directories[at]
        for directory in reversed(chain):
            name = self._links[directory][1].decode("utf-8", "backslashreplace")
            path = f"{path.rstrip('/')}/{name}" if path else ""
            self._directories[directory] = path
        return path
