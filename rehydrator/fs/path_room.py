"""How much the names of a file system may take: a hostile one says little and means a lot."""

from __future__ import annotations

from rehydrator.errors import CorruptError

_MAX_NAMES = 1 << 20
_MAX_CHARACTERS = 256 << 20  # of all paths together: those of a million files have a third of it


class PathRoom:
    """Counts the names that a walk through directories finds. Each takes about half a KiB beside its path."""

    def __init__(self) -> None:
        self._names = _MAX_NAMES
        self._characters = _MAX_CHARACTERS

    def take(self, path: str) -> str:
        """Return ``path``; raises CorruptError where there are too many names, or too long ones."""
        self._names -= 1
        self._characters -= len(path)
        if min(self._names, self._characters) < 0:
            raise CorruptError(
                "too many and too long names",
                expected=f"up to {_MAX_NAMES}, {_MAX_CHARACTERS} characters together",
                actual="more",
            )
        return path
