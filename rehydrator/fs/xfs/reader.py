"""Reading from a damaged place without raising, and the list of what was found to be wrong."""

from __future__ import annotations

from rehydrator.disk.source import Source
from rehydrator.fs.place import Health

_MAX_PROBLEMS = 1000


class Reader:
    """Bounded reads from the partition; ``problems`` collects what the structures say that can't be."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = source.size
        self.problems: list[Health] = []

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or nothing at all when they do not all exist."""
        if offset < 0 or length <= 0 or offset + length > self.size:
            return b""
        return bytes(self.source.read(offset, length))

    def report(self, name: str, offset: int, problem: str) -> None:
        """Remember a problem; beyond a thousand the file system is beyond description."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(Health(name, offset, problem))
