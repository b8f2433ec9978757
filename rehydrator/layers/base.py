"""What every layer provides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from rehydrator.disk.source import Source

R = TypeVar("R")


@dataclass(frozen=True)
class Unwrapped(Generic[R]):
    """The inside of a wrapped file and what is needed to wrap it again."""

    inner: Source
    record: R


class Layer(Protocol[R]):
    """A reversible wrapping: ``wrap(unwrap(x).inner, unwrap(x).record)`` has the bytes of ``x``."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped[R]:
        """Peel ``outer``; ``path`` names it in errors.

        Raises CorruptError for a damaged file and UnsupportedError for one that could not be wrapped again exactly.
        """
        ...

    def wrap(self, inner: Source, record: R) -> Source:
        """Return the wrapped file around ``inner``."""
        ...

    def describe(self, record: R) -> str:
        """Say in a few words what the record holds."""
        ...
